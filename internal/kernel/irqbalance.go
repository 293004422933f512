package kernel

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// irqbalance is no part of the kernel, but the other program that moves
// interrupts, and it takes wishes: from root, on a socket of its own. The words
// have no manual; irqbalance-ui speaks them, too.

const (
	opIrqbalance = "ask irqbalance"
	// irqbalanceDir is where it listens, as irqbalance<PID>.sock. Versions before
	// 1.5 did so under an abstract name only, and are not looked for.
	irqbalanceDir = "/run/irqbalance"
	// irqbalanceTakes is what it reads of a request.
	irqbalanceTakes = 500
	// irqbalanceTimeout ends a wait for it: it answers between two of its rounds.
	irqbalanceTimeout = 8 * time.Second
)

// irqbalanceSetup asks for the settings, which it denies everybody but root by
// silence.
func irqbalanceSetup(dir string) ([]byte, error) {
	answer, err := askIrqbalance(dir, "setup")
	if err == nil && len(answer) == 0 {
		err = &Error{Op: opIrqbalance, Err: fmt.Errorf("%w: it answers root only", syscall.EACCES)}
	}
	return answer, err
}

// askIrqbalance sends one request and returns the answer, which is empty for
// most.
func askIrqbalance(dir, request string) (answer []byte, err error) {
	defer func() {
		if err != nil {
			err = &Error{Op: opIrqbalance, Err: err}
		}
	}()
	if len(request) > irqbalanceTakes {
		return nil, fmt.Errorf("%w: it takes requests of %d bytes, not %d", syscall.EMSGSIZE, irqbalanceTakes, len(request))
	}
	fd, err := dialIrqbalance(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	timeout := unix.NsecToTimeval(irqbalanceTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, err
	}
	me := unix.UnixCredentials(&unix.Ucred{Pid: int32(os.Getpid()), Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())})
	if err := unix.Sendmsg(fd, []byte(request), me, nil, unix.MSG_NOSIGNAL); err != nil {
		return nil, err
	}
	// It closes the connection when it has done what it was asked.
	answer, err = readAll(func(b []byte) (int, error) { return unix.Read(fd, b) })
	if errors.Is(err, syscall.EAGAIN) {
		err = fmt.Errorf("no answer in %v: %w", irqbalanceTimeout, syscall.ETIMEDOUT)
	}
	return answer, err
}

// dialIrqbalance connects to the process that listens. One that was killed has
// left its socket behind.
func dialIrqbalance(dir string) (int, error) {
	names, err := readDir(dir)
	if err != nil && ReasonOf(err) != Unsupported {
		return -1, err
	}
	for _, name := range names {
		number, found := strings.CutPrefix(name, "irqbalance")
		number, ends := strings.CutSuffix(number, ".sock")
		pid, err := strconv.Atoi(number)
		if !found || !ends || err != nil {
			continue
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		if err = connectTo(fd, path.Join(dir, name), pid); err == nil {
			return fd, nil
		}
		_ = unix.Close(fd) // nothing was sent
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOENT) {
			return -1, err
		}
	}
	return -1, fmt.Errorf("%w: none listens in %s", syscall.ENOENT, dir)
}

// connectTo connects to a socket on which a certain process listens.
func connectTo(fd int, name string, pid int) error {
	if _, err := retry(func() (int, error) { return 0, unix.Connect(fd, &unix.SockaddrUnix{Name: name}) }); err != nil {
		return err
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err == nil && int(peer.Pid) != pid {
		err = fmt.Errorf("%w: process %d listens on %s", syscall.EINVAL, peer.Pid, name)
	}
	return err
}
