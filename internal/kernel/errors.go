package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// Reason says why something could not be read or written. The four are never
// merged: an SRE does something else about each.
type Reason string

const (
	// Unsupported: this kernel, driver or device does not offer it.
	Unsupported Reason = "unsupported"
	// Gone: the device disappeared (unplugged, renamed, deleted) meanwhile.
	Gone Reason = "gone"
	// Denied: the caller lacks a privilege.
	Denied Reason = "denied"
	// Failed: it should have worked and did not.
	Failed Reason = "failed"
)

var (
	// ErrInterrupted: a dump's objects changed while it was read, on every
	// attempt.
	ErrInterrupted = errors.New("the kernel's objects kept changing while they were listed")
	// ErrMalformed: an answer does not have the form that its protocol gives it.
	ErrMalformed = errors.New("malformed answer")
	// ErrOverrun: the kernel dropped notifications because they were not read
	// fast enough; whoever keeps state from them has to read it anew.
	ErrOverrun = errors.New("notifications were lost")
	// ErrNotRecorded: the recorded host was not asked this when it was recorded.
	ErrNotRecorded = errors.New("not in this recording")
	// ErrReadOnly: the request would change something and came to a Reader.
	ErrReadOnly = errors.New("refused: not a request that only reads")
	// ErrGone is ENODEV: the device went away.
	ErrGone error = syscall.ENODEV
	// ErrTooLong is EMSGSIZE: what was asked for does not fit into one answer, or the question not into one request.
	ErrTooLong error = syscall.EMSGSIZE
	// ErrInvalid is EINVAL: among others, devlink's answer about a parameter that
	// the driver doesn't have.
	ErrInvalid error = syscall.EINVAL
	// ErrOutOfRange is ERANGE: a number that the driver does not take.
	ErrOutOfRange error = syscall.ERANGE
)

// Error is an answer of the kernel that refuses a request.
type Error struct {
	// Op is what was asked, in the kernel's or ethtool's words:
	// "ethtool RINGS_GET", "read", "SIOCETHTOOL 0x14".
	Op string
	// Object is the path or the network device, empty for a request that
	// concerns none.
	Object string
	// Err is the errno, or one of this package's sentinels.
	Err error
	// Message is the extended acknowledgement: the driver's or the kernel's own
	// sentence about what is wrong. Often empty.
	Message string
}

// Error gives operation, object, errno and the kernel's own sentence.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Object != "" {
		b.WriteString(" ")
		b.WriteString(e.Object)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Message != "" {
		fmt.Fprintf(&b, " (kernel: %s)", e.Message)
	}
	return b.String()
}

// Unwrap gives the errno or sentinel.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf sorts an error into the four reasons. It returns "" for nil.
//
// ENOENT counts as unsupported: below a device that is there, a missing sysfs
// file, netlink family or object is how the kernel says that it has no such
// thing. Reads and writes of files say ENODEV beside it where the device went away.
func ReasonOf(err error) Reason {
	var errno syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.As(err, &errno):
		switch errno {
		case syscall.EOPNOTSUPP, syscall.ENOTTY, syscall.ENOSYS, syscall.ENOENT,
			syscall.EPROTONOSUPPORT, syscall.EAFNOSUPPORT:
			return Unsupported
		case syscall.ENODEV, syscall.ENXIO:
			return Gone
		case syscall.EPERM, syscall.EACCES:
			return Denied
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errors.ErrUnsupported):
		return Unsupported
	case errors.Is(err, fs.ErrPermission):
		return Denied
	}
	return Failed
}
