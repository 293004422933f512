package kernel

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/lab/nstest"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	large := bytes.Repeat([]byte("0123456789abcde\n"), 5000)
	for name, content := range map[string][]byte{"empty": nil, "short": []byte("1\n"), "page": make([]byte, 4096), "more": make([]byte, 4097), "large": large} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readFile(p); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(got), err, len(content))
		}
	}
	p := filepath.Join(dir, "huge")
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readFile(p); !errors.Is(err, syscall.EFBIG) || ReasonOf(err) != Failed {
		t.Errorf("huge: %v", err)
	}
}

// TestFilesOfTheKernel reads the files themselves: sysfs says 4096 bytes of all of them, procfs 0.
func TestFilesOfTheKernel(t *testing.T) {
	l := open(t)
	ctx := t.Context()
	want, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.ReadFile(ctx, "/proc/cpuinfo")
	// The clock moves from one read to the next.
	if err != nil || bytes.Count(got, []byte("processor")) != bytes.Count(want, []byte("processor")) {
		t.Errorf("cpuinfo: %d bytes, %v", len(got), err)
	}
	if mtu, err := l.ReadFile(ctx, "/sys/class/net/lo/mtu"); string(mtu) != "65536\n" || err != nil {
		t.Errorf("mtu of lo: %q, %v", mtu, err)
	}
	names, err := l.ReadDir(ctx, "/sys/class/net")
	if !slices.Contains(names, "lo") || slices.Contains(names, ".") || !slices.IsSorted(names) || err != nil {
		t.Errorf("class/net: %q, %v", names, err)
	}
	if target, err := l.ReadLink(ctx, "/sys/class/net/lo"); target != "../../devices/virtual/net/lo" || err != nil {
		t.Errorf("lo: %q, %v", target, err)
	}
}

func TestFileErrors(t *testing.T) {
	l := open(t)
	ctx := t.Context()
	for _, test := range []struct {
		name   string
		read   func() error
		errno  syscall.Errno
		reason Reason
		text   string
	}{
		{"missing", func() error { _, err := l.ReadFile(ctx, "/sys/class/net/lo/none"); return err }, syscall.ENOENT, Unsupported, "read /sys/class/net/lo/none: no such file or directory"},
		{"missing elsewhere", func() error { _, err := l.ReadFile(ctx, "/proc/none"); return err }, syscall.ENOENT, Unsupported, "read /proc/none: no such file or directory"},
		{"missing for all devices", func() error { _, err := l.ReadFile(ctx, "/proc/sys/net/ipv4/conf/all/none"); return err }, syscall.ENOENT, Unsupported, "read /proc/sys/net/ipv4/conf/all/none: no such file or directory"},
		{"the device is gone", func() error { _, err := l.ReadFile(ctx, "/sys/class/net/none/mtu"); return err }, syscall.ENOENT, Gone, "read /sys/class/net/none/mtu: no such file or directory: /sys/class/net/none is gone"},
		{"the device is gone, its directory", func() error { _, err := l.ReadDir(ctx, "/sys/class/net/none"); return err }, syscall.ENOENT, Gone, "list /sys/class/net/none: no such file or directory: /sys/class/net/none is gone"},
		{"the device is gone, a sysctl", func() error { _, err := l.ReadFile(ctx, "/proc/sys/net/ipv4/conf/none/forwarding"); return err }, syscall.ENOENT, Gone, "/proc/sys/net/ipv4/conf/none is gone"},
		{"the interrupt was freed", func() error { _, err := l.ReadFile(ctx, "/proc/irq/999999/smp_affinity_list"); return err }, syscall.ENOENT, Unsupported, "read /proc/irq/999999/smp_affinity_list: no such file or directory"},
		{"no link speed", func() error { _, err := l.ReadFile(ctx, "/sys/class/net/lo/speed"); return err }, syscall.EINVAL, Failed, "read /sys/class/net/lo/speed: invalid argument"},
		{"a directory", func() error { _, err := l.ReadFile(ctx, "/sys"); return err }, syscall.EISDIR, Failed, "read /sys: is a directory"},
		{"no directory", func() error { _, err := l.ReadDir(ctx, "/proc/version"); return err }, syscall.ENOTDIR, Failed, "list /proc/version: not a directory"},
		{"no link", func() error { _, err := l.ReadLink(ctx, "/proc/version"); return err }, syscall.EINVAL, Failed, "read link /proc/version: invalid argument"},
		{"relative", func() error { _, err := l.ReadFile(ctx, "sys"); return err }, syscall.EINVAL, Failed, "not an absolute path"},
		{"dots", func() error { _, err := l.ReadDir(ctx, "/sys/../etc"); return err }, syscall.EINVAL, Failed, "not an absolute path"},
		{"slashes", func() error { _, err := l.ReadLink(ctx, "/sys//class"); return err }, syscall.EINVAL, Failed, "not an absolute path"},
		{"NUL", func() error { _, err := l.ReadFile(ctx, "/sys\x00"); return err }, syscall.EINVAL, Failed, "not an absolute path"},
		{"write elsewhere", func() error { return l.WriteFile(ctx, "/etc/hostname", nil) }, syscall.EINVAL, Failed, "only files below /sys and /proc"},
		{"write elsewhere by dots", func() error { return l.WriteFile(ctx, "/sys/../etc/hostname", nil) }, syscall.EINVAL, Failed, "not an absolute path"},
		{"write a new file", func() error { return l.WriteFile(ctx, "/proc/sys/net/none", nil) }, syscall.ENOENT, Unsupported, "write /proc/sys/net/none"},
		{"write, the device is gone", func() error { return l.WriteFile(ctx, "/sys/class/net/none/mtu", []byte("1500")) }, syscall.ENOENT, Gone, "write /sys/class/net/none/mtu: no such file or directory: /sys/class/net/none is gone"},
		{"write, the interrupt is gone", func() error { return l.WriteFile(ctx, "/proc/irq/999999/smp_affinity_list", []byte("0")) }, syscall.ENOENT, Gone, "/proc/irq/999999 is gone"},
		{"write, the device lacks it", func() error { return l.WriteFile(ctx, "/sys/class/net/lo/none", []byte("1")) }, syscall.ENOENT, Unsupported, "write /sys/class/net/lo/none: no such file or directory"},
		{"write, no such device file", func() error { return l.WriteFile(ctx, "/sys/class/net/none", []byte("1")) }, syscall.ENOENT, Unsupported, "write /sys/class/net/none: no such file or directory"},
		{"write a bad value", func() error { return l.WriteFile(ctx, "/proc/self/oom_score_adj", []byte("x")) }, syscall.EINVAL, Failed, "write /proc/self/oom_score_adj: invalid argument"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.read()
			if !errors.Is(err, test.errno) || ReasonOf(err) != test.reason || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v (%s), want %v, %s, %q", err, ReasonOf(err), test.errno, test.reason, test.text)
			}
			var e *Error
			if !errors.As(err, &e) || e.Object == "" {
				t.Errorf("%#v names no object", err)
			}
		})
	}
}

// What counts as gone is what had a directory of its own, and lost it.
func TestGoneRead(t *testing.T) {
	there := map[string]bool{
		"/sys/class/net": true, "/sys/class/net/eth0": true, "/sys/bus/pci/devices": true, "/sys/bus/pci/devices/0000:01:00.0": true,
		"/proc/sys/net/ipv4/conf": true, "/proc/sys/net/ipv4/conf/all": true,
	}
	lstat := func(p string) error {
		if there[p] {
			return nil
		}
		return syscall.ENOENT
	}
	named := func(device string) bool { return device == "eth0" || device == "elsewhere" }
	for p, gone := range map[string]string{
		"/sys/class/net/eth0/none":                       "",
		"/sys/class/net/eth1/mtu":                        "/sys/class/net/eth1",
		"/sys/class/net/eth1":                            "/sys/class/net/eth1",
		"/sys/class/net/elsewhere/mtu":                   "", // sysfs of another namespace
		"/sys/class/net":                                 "",
		"/sys/devices/virtual/net/br0/bridge/x":          "", // no such folder at all
		"/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs": "",
		"/sys/bus/pci/devices/0000:02:00.0/config":       "/sys/bus/pci/devices/0000:02:00.0",
		"/sys/bus/usb/devices/1-1/x":                     "",
		"/proc/sys/net/ipv4/conf/all/none":               "",
		"/proc/sys/net/ipv4/conf/eth0/forwarding":        "", // IPv4 was switched off there
		"/proc/sys/net/ipv4/conf/eth1/forwarding":        "/proc/sys/net/ipv4/conf/eth1",
		"/proc/sys/net/ipv6/conf/all/forwarding":         "", // a kernel without IPv6
		"/proc/irq/7/smp_affinity":                       "",
		"/etc/os-release":                                "",
	} {
		err := goneRead(p, syscall.ENOENT, lstat, named)
		var g deviceGone
		if errors.As(err, &g); g.device != gone || !errors.Is(err, syscall.ENOENT) || (ReasonOf(err) == Gone) != (gone != "") {
			t.Errorf("%s: %v, want %q", p, err, gone)
		}
	}
	if err := goneRead("/sys/class/net/eth1/mtu", syscall.EIO, lstat, named); ReasonOf(err) != Failed {
		t.Error(err)
	}
}

// A network device that is deleted is gone for each of its files from then on.
func TestUnpluggedIsGone(t *testing.T) {
	nstest.Require(t)
	nstest.Run(t, "ip", "link", "add", "here", "type", "veth", "peer", "name", "there")
	l := open(t)
	ctx := t.Context()
	const sysctl = "/proc/sys/net/ipv4/conf/here/forwarding"
	reads := map[string]func() error{
		"file":   func() error { _, err := l.ReadFile(ctx, "/sys/class/net/here/mtu"); return err },
		"list":   func() error { _, err := l.ReadDir(ctx, "/sys/class/net/here/queues"); return err },
		"link":   func() error { _, err := l.ReadLink(ctx, "/sys/class/net/here"); return err },
		"sysctl": func() error { _, err := l.ReadFile(ctx, sysctl); return err },
	}
	for name, read := range reads {
		if err := read(); err != nil && ReasonOf(err) != Unsupported { // sysfs may be that of the namespace outside
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := reads["sysctl"](); err != nil {
		t.Error(err)
	}
	nstest.Run(t, "ip", "link", "del", "here")
	for name, read := range reads {
		if err := read(); ReasonOf(err) != Gone || !strings.HasSuffix(err.Error(), "/here is gone") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWriteFile writes a value of this process's own, and the value that is there.
func TestWriteFile(t *testing.T) {
	l := open(t)
	const p = "/proc/self/oom_score_adj"
	b, err := l.ReadFile(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.WriteFile(t.Context(), p, b); err != nil {
		t.Error(err)
	}
}

// TestDeniedFile reads what only another user may.
func TestDeniedFile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(p, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	var err error
	asNobody(t, func() { _, err = readFile(p) })
	if !errors.Is(err, fs.ErrPermission) || ReasonOf(err) != Denied || err.Error() != "read "+p+": permission denied" {
		t.Errorf("%v (%s)", err, ReasonOf(err))
	}
}

// asNobody runs f without privileges, on a thread that ends with it.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan error)
	go func() {
		// The goroutine never unlocks, so that the runtime ends the thread.
		runtime.LockOSThread()
		// The file system's permissions follow these two alone, and setfsuid
		// takes the capabilities that override them away.
		const nobody = 65534
		_, err := unix.SetfsgidRetGid(nobody)
		if err == nil {
			_, err = unix.SetfsuidRetUid(nobody)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
