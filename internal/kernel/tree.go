package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Tree is a plain directory tree that holds a host's /sys, /proc and /etc, or
// parts of them: another host's mounted or copied here, or a snapshot of ghw's.
// It answers questions about files only. Links are followed as if the tree were
// the whole file system, absolute ones too, and never lead out of it.
type Tree struct {
	root  *os.Root
	slots chan struct{}
	names pciNames
}

// errOnlyFiles answers what a tree can't know.
var errOnlyFiles = fmt.Errorf("%w: a plain tree has only files", syscall.EOPNOTSUPP)

// OpenTree opens the tree below a directory of this host. One without /sys is
// refused: it is likely the wrong directory.
func OpenTree(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &Error{Op: "open the tree", Object: dir, Err: errnoOf(err)}
	}
	t := &Tree{root: root, slots: make(chan struct{}, callsAtOnce)}
	if _, err := t.readDir("/sys"); err != nil {
		return nil, errors.Join(&Error{Op: "open the tree", Object: dir, Err: fmt.Errorf("%w: it has no directory sys", errnoOf(err))}, root.Close())
	}
	return t, nil
}

// Close lets go of the tree.
func (t *Tree) Close() error { return t.root.Close() }

// ReadFile implements Reader.
func (t *Tree) ReadFile(ctx context.Context, path string) ([]byte, error) {
	return guard(ctx, t.slots, opRead, path, func() ([]byte, error) {
		b, err := t.readFile(path)
		return b, t.error(opRead, path, err)
	})
}

// ReadDir implements Reader.
func (t *Tree) ReadDir(ctx context.Context, path string) ([]string, error) {
	return guard(ctx, t.slots, opReadDir, path, func() ([]string, error) {
		names, err := t.readDir(path)
		return names, t.error(opReadDir, path, err)
	})
}

// ReadLink implements Reader.
func (t *Tree) ReadLink(ctx context.Context, path string) (string, error) {
	return guard(ctx, t.slots, opReadLink, path, func() (string, error) {
		target, err := t.readLink(path)
		return target, t.error(opReadLink, path, err)
	})
}

// Netlink implements Reader; a tree does not have it.
func (t *Tree) Netlink(_ context.Context, req Request) ([]Message, error) {
	return nil, &Error{Op: req.String(), Err: errOnlyFiles}
}

// Ethtool implements Reader; a tree does not have it.
func (t *Tree) Ethtool(_ context.Context, device string, arg []byte) ([]byte, error) {
	return nil, &Error{Op: ioctlOp(ioctlCommand(arg)), Object: device, Err: errOnlyFiles}
}

// DriverInfo implements Reader; a tree does not have it.
func (t *Tree) DriverInfo(_ context.Context, device string) (DriverInfo, error) {
	q := question{kind: askDriver, subject: device}
	return DriverInfo{}, &Error{Op: q.op(), Object: q.object(), Err: errOnlyFiles}
}

// Counters implements Reader; a tree does not have them.
func (t *Tree) Counters(_ context.Context, device string) ([]Counter, error) {
	q := question{kind: askCounters, subject: device}
	return nil, &Error{Op: q.op(), Object: q.object(), Err: errOnlyFiles}
}

// Machine implements Reader.
func (t *Tree) Machine(ctx context.Context) (Machine, error) {
	return guard(ctx, t.slots, opMachine, machineSubject, func() (Machine, error) { return readMachine(t.root.Name()) })
}

// PCINames implements Reader with this host's own pci.ids: the words for a
// number are the same everywhere.
func (t *Tree) PCINames(ctx context.Context, modalias string) (PCINames, error) {
	return guard(ctx, t.slots, opPCINames, modalias, func() (PCINames, error) { return t.names.lookUp(modalias) })
}

// Irqbalance implements Reader; a tree does not have it.
func (t *Tree) Irqbalance(_ context.Context) ([]byte, error) {
	return nil, &Error{Op: opIrqbalance, Err: errOnlyFiles}
}

// Users implements Reader; a tree does not have them.
func (t *Tree) Users(context.Context) (Users, error) {
	return Users{}, &Error{Op: opUsers, Object: usersSubject, Err: errOnlyFiles}
}

// SocketHolders implements Reader; a tree does not have them.
func (t *Tree) SocketHolders(_ context.Context, _ []uint64) ([]SocketHolder, error) {
	return nil, &Error{Op: opSockets, Object: "/proc", Err: errOnlyFiles}
}

func (t *Tree) readFile(p string) ([]byte, error) {
	f, err := t.open(p, false)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readAll(func(b []byte) (int, error) {
		n, err := f.Read(b)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return n, err
	})
}

func (t *Tree) readDir(p string) ([]string, error) {
	f, err := t.open(p, true)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (t *Tree) readLink(p string) (string, error) {
	at, err := t.resolve(p, false)
	if err != nil {
		return "", err
	}
	return t.root.Readlink(at)
}

// open opens the file or directory that p leads to. It looks first: opening a
// pipe could wait for ever, and opening a device could do anything.
func (t *Tree) open(p string, dir bool) (*os.File, error) {
	at, err := t.resolve(p, true)
	if err != nil {
		return nil, err
	}
	info, err := t.root.Lstat(at)
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case dir && !mode.IsDir():
		return nil, syscall.ENOTDIR
	case !dir && mode.IsDir():
		return nil, syscall.EISDIR
	case !dir && !mode.IsRegular():
		return nil, fmt.Errorf("%w: a pipe, socket or device", syscall.EINVAL)
	}
	return t.root.OpenFile(at, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// maxLinks is how many links a path may lead through; the kernel's own limit.
const maxLinks = 40

// resolve follows the links of a path, the last component's only if asked, and
// returns where it leads relative to the root. os.Root alone refuses absolute
// links, which snapshots hold; it still stands guard against a tree that
// changes meanwhile.
func (t *Tree) resolve(p string, last bool) (string, error) {
	if err := checkPath(p); err != nil {
		return "", err
	}
	at := "."
	pending := strings.Split(p, "/")
	for links := 0; len(pending) > 0; {
		name := pending[0]
		pending = pending[1:]
		next := path.Join(at, name)
		switch {
		case name == "" || name == ".":
			continue
		case name == "..":
			if at == "." {
				next = "." // as at the root of a file system
			}
			at = next
			continue
		case len(pending) == 0 && !last:
			return next, nil
		}
		target, err := t.root.Readlink(next)
		switch {
		case errors.Is(err, syscall.EINVAL): // no link
			at = next
			continue
		case err != nil:
			return "", err
		}
		if links++; links > maxLinks {
			return "", syscall.ELOOP
		}
		if path.IsAbs(target) {
			at = "."
		}
		pending = append(strings.Split(target, "/"), pending...)
	}
	return at, nil
}

func (t *Tree) error(op, object string, err error) error {
	if err == nil {
		return nil
	}
	lstat := func(p string) error {
		at, err := t.resolve(p, false)
		if err == nil {
			_, err = t.root.Lstat(at)
		}
		return errnoOf(err)
	}
	// A tree may be another host's own /sys, mounted here, or a copy of it.
	named := func(device string) bool { return lstat("/sys/class/net/"+device) == nil }
	return &Error{Op: op, Object: object, Err: goneRead(object, errnoOf(err), lstat, named)}
}

// errnoOf takes an errno out of package os's wrapping, whose path is ours with
// its links followed.
func errnoOf(err error) error {
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
