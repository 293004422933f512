package kernel

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// listen stands where irqbalance does, and answers each request once.
func listen(t *testing.T, dir, answer string) (requests chan string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "irqbalance"+strconv.Itoa(os.Getpid())+".sock")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }); err != nil {
		t.Fatal(err)
	}
	requests = make(chan string, 10)
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			b, oob := make([]byte, irqbalanceTakes), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
			n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
			messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
			if err == nil && len(messages) == 1 {
				if from, err := unix.ParseUnixCredentials(&messages[0]); err == nil && int(from.Pid) == os.Getpid() && int(from.Uid) == os.Geteuid() {
					requests <- string(b[:n])
				}
			}
			_, _ = c.Write([]byte(answer))
			c.Close()
		}
	}()
	return requests
}

func TestIrqbalance(t *testing.T) {
	dir := t.TempDir()
	if _, err := irqbalanceSetup(filepath.Join(dir, "none")); ReasonOf(err) != Unsupported {
		t.Errorf("where none runs: %v", err)
	}
	// What a killed one left behind.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "irqbalance1.sock")})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if _, err := irqbalanceSetup(dir); ReasonOf(err) != Unsupported {
		t.Errorf("where one ran: %v", err)
	}
	requests := listen(t, dir, "SLEEP 10 BANNED 0")
	b, err := irqbalanceSetup(dir)
	if err != nil || string(b) != "SLEEP 10 BANNED 0" || <-requests != "setup" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := askIrqbalance(dir, strings.Repeat("1", irqbalanceTakes+1)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("a request that is too long: %v", err)
	}
}

// It says nothing to whom it does not trust.
func TestIrqbalanceIsSilent(t *testing.T) {
	dir := t.TempDir()
	listen(t, dir, "")
	if _, err := irqbalanceSetup(dir); ReasonOf(err) != Denied {
		t.Errorf("error %v", err)
	}
}

// Another process on its socket is not it.
func TestIrqbalanceIsAnother(t *testing.T) {
	dir := t.TempDir()
	listen(t, dir, "SLEEP 10 BANNED 0")
	own := filepath.Join(dir, "irqbalance"+strconv.Itoa(os.Getpid())+".sock")
	if err := os.Rename(own, filepath.Join(dir, "irqbalance1.sock")); err != nil {
		t.Fatal(err)
	}
	if _, err := irqbalanceSetup(dir); ReasonOf(err) != Failed || !strings.Contains(err.Error(), "listens on") {
		t.Errorf("error %v", err)
	}
}
