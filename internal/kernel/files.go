package kernel

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Op of the errors about files.
const (
	opRead     = "read"
	opReadDir  = "list"
	opReadLink = "read link"
	opWrite    = "write"
)

// maxFile bounds what is read of one file. The largest that nictune reads,
// /proc/interrupts on a host of many CPUs, stays far below it.
const maxFile = 16 << 20

// checkPath refuses a path that could be read as another one.
func checkPath(p string) error {
	if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0) {
		return fmt.Errorf("%w: %q is not an absolute path in its shortest form", syscall.EINVAL, p)
	}
	return nil
}

// readFile reads a file of this host with the system calls themselves: a sysfs
// file needs no stat, no runtime poller and no finalizer, and there are tens of
// thousands of them on a large host.
func readFile(p string) ([]byte, error) {
	b, err := openFile(p, unix.O_RDONLY, func(fd int) ([]byte, error) {
		return readAll(func(b []byte) (int, error) { return unix.Read(fd, b) })
	})
	if err != nil {
		return nil, &Error{Op: opRead, Object: p, Err: err}
	}
	return b, nil
}

// readDir lists a directory of this host, sorted.
func readDir(p string) ([]string, error) {
	names, err := openFile(p, unix.O_RDONLY|unix.O_DIRECTORY, func(fd int) ([]string, error) {
		var names []string
		buffer := make([]byte, 8<<10)
		for {
			n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buffer) })
			if err != nil {
				return nil, err
			}
			if n <= 0 {
				slices.Sort(names)
				return names, nil
			}
			_, _, names = unix.ParseDirent(buffer[:n], -1, names)
		}
	})
	if err != nil {
		return nil, &Error{Op: opReadDir, Object: p, Err: err}
	}
	return names, nil
}

// readLink reads a symbolic link of this host.
func readLink(p string) (string, error) {
	if err := checkPath(p); err != nil {
		return "", &Error{Op: opReadLink, Object: p, Err: err}
	}
	b := make([]byte, unix.PathMax)
	n, err := retry(func() (int, error) { return unix.Readlink(p, b) })
	if err != nil {
		return "", &Error{Op: opReadLink, Object: p, Err: err}
	}
	return string(b[:n]), nil
}

// writeFile writes an existing file below /sys or /proc with one write call:
// the kernel takes each call as one value.
func writeFile(p string, data []byte) error {
	if !strings.HasPrefix(p, "/sys/") && !strings.HasPrefix(p, "/proc/") {
		return &Error{Op: opWrite, Object: p, Err: fmt.Errorf("%w: only files below /sys and /proc are written", syscall.EINVAL)}
	}
	n, err := openFile(p, unix.O_WRONLY, func(fd int) (int, error) {
		return retry(func() (int, error) { return unix.Write(fd, data) })
	})
	if err == nil && n != len(data) {
		err = fmt.Errorf("%w: the kernel took %d of %d bytes", syscall.EIO, n, len(data))
	}
	if err != nil {
		return &Error{Op: opWrite, Object: p, Err: goneOr(p, err)}
	}
	return nil
}

// deviceGone is ENOENT of a file of a device that is not there any more.
type deviceGone struct{ device string }

func (e deviceGone) Error() string {
	return fmt.Sprintf("%v: %s is gone", syscall.ENOENT, e.device)
}

// Unwrap gives what the kernel said, and what it means here.
func (e deviceGone) Unwrap() []error { return []error{ErrGone, syscall.ENOENT} }

// Directories of one device each.
var (
	netdevDirs = [...]string{
		"/sys/class/net/*", "/sys/devices/virtual/net/*",
		"/proc/sys/net/ipv4/conf/*", "/proc/sys/net/ipv6/conf/*", "/proc/sys/net/ipv4/neigh/*", "/proc/sys/net/ipv6/neigh/*",
	}
	otherDirs = [...]string{"/sys/bus/pci/devices/*", "/proc/irq/*"}
)

// dirOf is the directory among patterns that a path is in; empty for one in none.
func dirOf(p string, patterns []string) string {
	parts := strings.Split(p, "/")
	for _, pattern := range patterns {
		depth := strings.Count(pattern, "/") + 1
		if len(parts) < depth {
			continue
		}
		dir := strings.Join(parts[:depth], "/")
		if own, _ := path.Match(pattern, dir); own {
			return dir
		}
	}
	return ""
}

// goneOr tells a file that the kernel does not have from one whose device or
// interrupt went away: its own directory has gone with it then. It is for files
// that were read just before.
func goneOr(p string, err error) error {
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	dir := dirOf(p, netdevDirs[:])
	if dir == "" {
		dir = dirOf(p, otherDirs[:])
	}
	if dir == "" || dir == p {
		return err
	}
	if _, absent := retry(func() (int, error) { return 0, unix.Access(dir, unix.F_OK) }); errors.Is(absent, syscall.ENOENT) {
		return deviceGone{dir}
	}
	return err
}

// goneRead is goneOr for files of a PCI or network device that nobody need have read
// before. An absent directory tells less of them: sysfs may be that of another network
// namespace, and a kernel may have none of that kind. So the directory above has to be
// there, and no network device may have the name. An interrupt that is freed is no
// device's end.
func goneRead(p string, err error, lstat func(string) error, named func(string) bool) error {
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	dir := dirOf(p, netdevDirs[:])
	netdev := dir != ""
	if !netdev {
		dir = dirOf(p, otherDirs[:1])
	}
	if dir == "" || !errors.Is(lstat(dir), syscall.ENOENT) || lstat(path.Dir(dir)) != nil {
		return err
	}
	if netdev && named(path.Base(dir)) {
		return err
	}
	return deviceGone{dir}
}

// openFile opens a file for the time of one call.
func openFile[T any](p string, flags int, use func(fd int) (T, error)) (T, error) {
	var zero T
	if err := checkPath(p); err != nil {
		return zero, err
	}
	fd, err := retry(func() (int, error) { return unix.Open(p, flags|unix.O_CLOEXEC, 0) })
	if err != nil {
		return zero, err
	}
	value, err := use(fd)
	// Closing can't fail for a file that was read; for one of sysfs or procfs
	// that was written, the write call had the answer.
	_ = unix.Close(fd)
	return value, err
}

// readAll reads to the end of a file, whose size sysfs and procfs don't know.
func readAll(read func([]byte) (int, error)) ([]byte, error) {
	const page = 4096 // what sysfs gives at most; one byte more shows the end
	b := make([]byte, 0, page+1)
	for {
		n, err := retry(func() (int, error) { return read(b[len(b):cap(b)]) })
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return b, nil
		}
		b = b[:len(b)+n]
		if len(b) > maxFile {
			return nil, fmt.Errorf("%w: more than %d bytes", syscall.EFBIG, maxFile)
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, len(b))
		}
	}
}

// retry repeats a call that a signal interrupted; the runtime sends signals to
// its own threads.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
