package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// ioctlReads are the commands of SIOCETHTOOL that only read, by name. What is
// not here is refused by Ethtool. ETHTOOL_GEEPROM and ETHTOOL_GREGS are left
// out: some devices stall while they are read. ETHTOOL_PERQUEUE reads or writes
// by its sub-command and is looked at more closely.
var ioctlReads = map[uint32]string{
	uapi.ETHTOOL_GSET:          "GSET",
	uapi.ETHTOOL_GDRVINFO:      "GDRVINFO",
	uapi.ETHTOOL_GWOL:          "GWOL",
	uapi.ETHTOOL_GMSGLVL:       "GMSGLVL",
	uapi.ETHTOOL_GLINK:         "GLINK",
	uapi.ETHTOOL_GCOALESCE:     "GCOALESCE",
	uapi.ETHTOOL_GRINGPARAM:    "GRINGPARAM",
	uapi.ETHTOOL_GPAUSEPARAM:   "GPAUSEPARAM",
	uapi.ETHTOOL_GSTRINGS:      "GSTRINGS",
	uapi.ETHTOOL_GSTATS:        "GSTATS",
	uapi.ETHTOOL_GPERMADDR:     "GPERMADDR",
	uapi.ETHTOOL_GFLAGS:        "GFLAGS",
	uapi.ETHTOOL_GPFLAGS:       "GPFLAGS",
	uapi.ETHTOOL_GRXFH:         "GRXFH",
	uapi.ETHTOOL_GRXRINGS:      "GRXRINGS",
	uapi.ETHTOOL_GRXCLSRLCNT:   "GRXCLSRLCNT",
	uapi.ETHTOOL_GRXCLSRULE:    "GRXCLSRULE",
	uapi.ETHTOOL_GRXCLSRLALL:   "GRXCLSRLALL",
	uapi.ETHTOOL_GSSET_INFO:    "GSSET_INFO",
	uapi.ETHTOOL_GRXFHINDIR:    "GRXFHINDIR",
	uapi.ETHTOOL_GFEATURES:     "GFEATURES",
	uapi.ETHTOOL_GCHANNELS:     "GCHANNELS",
	uapi.ETHTOOL_GET_TS_INFO:   "GET_TS_INFO",
	uapi.ETHTOOL_GMODULEINFO:   "GMODULEINFO",
	uapi.ETHTOOL_GMODULEEEPROM: "GMODULEEEPROM",
	uapi.ETHTOOL_GEEE:          "GEEE",
	uapi.ETHTOOL_GRSSH:         "GRSSH",
	uapi.ETHTOOL_GTUNABLE:      "GTUNABLE",
	uapi.ETHTOOL_GPHYSTATS:     "GPHYSTATS",
	uapi.ETHTOOL_PERQUEUE:      "PERQUEUE",
	uapi.ETHTOOL_GLINKSETTINGS: "GLINKSETTINGS",
	uapi.ETHTOOL_PHY_GTUNABLE:  "PHY_GTUNABLE",
	uapi.ETHTOOL_GFECPARAM:     "GFECPARAM",
}

// ioctlCommand is the first field of every struct of SIOCETHTOOL; zero, which
// is no command, where it is missing.
func ioctlCommand(arg []byte) uint32 {
	if len(arg) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(arg)
}

// ioctlOp is the Op of an error about a command.
func ioctlOp(command uint32) string {
	if name, ok := ioctlReads[command]; ok {
		return "SIOCETHTOOL " + name
	}
	switch command { // those that nictune writes with
	case uapi.ETHTOOL_SRSSH:
		return "SIOCETHTOOL SRSSH"
	case uapi.ETHTOOL_SRXFH:
		return "SIOCETHTOOL SRXFH"
	case uapi.ETHTOOL_SRXCLSRLINS:
		return "SIOCETHTOOL SRXCLSRLINS"
	case uapi.ETHTOOL_SRXCLSRLDEL:
		return "SIOCETHTOOL SRXCLSRLDEL"
	}
	return fmt.Sprintf("SIOCETHTOOL %#x", command)
}

// checkIoctl refuses what could not be asked of any device.
func checkIoctl(device string, arg []byte) error {
	command := ioctlCommand(arg)
	var err error
	switch {
	case command == 0:
		err = fmt.Errorf("%w: no command in %d bytes", syscall.EINVAL, len(arg))
	case len(arg) > ioctlArena/2:
		err = fmt.Errorf("%w: a struct of %d bytes", syscall.EINVAL, len(arg))
	default:
		err = checkDevice(device)
	}
	if err != nil {
		return &Error{Op: ioctlOp(command), Object: device, Err: err}
	}
	return nil
}

// checkDevice refuses a name that would be cut short, and so could be another
// device's.
func checkDevice(name string) error {
	if name == "" || len(name) >= ifnamsiz || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: no network device can have this name", syscall.ENODEV)
	}
	return nil
}

// checkIoctlReads refuses a command that could change something.
func checkIoctlReads(device string, arg []byte) error {
	command := ioctlCommand(arg)
	_, reads := ioctlReads[command]
	if command == uapi.ETHTOOL_PERQUEUE {
		const subCommand = 4 // struct ethtool_per_queue_op
		reads = len(arg) >= 2*subCommand && binary.NativeEndian.Uint32(arg[subCommand:]) == uapi.ETHTOOL_GCOALESCE
	}
	if !reads {
		return &Error{Op: ioctlOp(command), Object: device, Err: ErrReadOnly}
	}
	return checkIoctl(device, arg)
}

const (
	ifnamsiz = unix.IFNAMSIZ
	// ioctlArena holds the largest answers, the strings of a device with tens of
	// thousands of statistics, twice over. Only the pages in use cost memory.
	ioctlArena = 4 << 20
	// ioctlHeader is where struct ifreq stands in an arena, before the command's
	// struct.
	ioctlHeader = 64
	// ioctlClean is what is cleared behind a struct: more than any of fixed size
	// has, so that one given too short is continued by zeros.
	ioctlClean = 8 << 10
	idleArenas = 4
)

// ioctlSocket issues SIOCETHTOOL in the network namespace that it was opened in.
type ioctlSocket struct {
	fd     int
	idle   chan arena
	closed atomic.Bool
}

func openIoctl() (*ioctlSocket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, &Error{Op: "open a socket for SIOCETHTOOL", Err: err}
	}
	return &ioctlSocket{fd: fd, idle: make(chan arena, idleArenas)}, nil
}

// close lets go of the socket. An ioctl under way keeps it open for itself.
func (s *ioctlSocket) close() error {
	s.closed.Store(true)
	errs := []error{unix.Close(s.fd)}
	for {
		select {
		case a := <-s.idle:
			errs = append(errs, a.free())
		default:
			return errors.Join(errs...)
		}
	}
}

// issue hands the kernel a copy of arg and returns it, in arg, as the kernel left it.
func (s *ioctlSocket) issue(device string, arg []byte) ([]byte, error) {
	if err := checkIoctl(device, arg); err != nil {
		return nil, err
	}
	a, err := s.arena()
	if err != nil {
		return nil, &Error{Op: ioctlOp(ioctlCommand(arg)), Object: device, Err: err}
	}
	defer s.giveBack(a)
	answer, err := a.issue(s.fd, device, arg)
	if err != nil {
		return nil, &Error{Op: ioctlOp(ioctlCommand(arg)), Object: device, Err: err}
	}
	return answer, nil
}

// named reports whether a network device has this name in the socket's namespace, and
// true where the kernel does not say.
func (s *ioctlSocket) named(device string) bool {
	if checkDevice(device) != nil {
		return false
	}
	var request struct { // struct ifreq with ifr_ifindex
		name  [ifnamsiz]byte
		index int32
		_     [20]byte
	}
	copy(request.name[:ifnamsiz-1], device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), unix.SIOCGIFINDEX, uintptr(unsafe.Pointer(&request)))
	return errno != syscall.ENODEV
}

func (s *ioctlSocket) arena() (arena, error) {
	if s.closed.Load() {
		return nil, os.ErrClosed
	}
	select {
	case a := <-s.idle:
		return a, nil
	default:
		return newArena()
	}
}

func (s *ioctlSocket) giveBack(a arena) {
	if !s.closed.Load() {
		select {
		case s.idle <- a:
			return
		default:
		}
	}
	_ = a.free() // unmapping what was mapped can't fail
}

// arena is the memory that an ioctl's struct stands in while the kernel works
// on it. The kernel learns the length of few of these structs: where the device
// has more strings or statistics than the caller asked the room for, some
// kernels write them nevertheless. So it is no part of the Go heap, and it ends
// in a page where the kernel gets EFAULT instead.
type arena []byte

func newArena() (arena, error) {
	b, err := unix.Mmap(-1, 0, ioctlArena+unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	if err := unix.Mprotect(b[ioctlArena:], unix.PROT_NONE); err != nil {
		return nil, errors.Join(err, unix.Munmap(b))
	}
	return b, nil
}

func (a arena) free() error { return unix.Munmap(a) }

// ifreq is struct ifreq with ifr_data.
type ifreq struct {
	name [ifnamsiz]byte
	data uintptr // into the arena, which no collector moves
	_    [16]byte
}

func (a arena) issue(fd int, device string, arg []byte) ([]byte, error) {
	room := a[ioctlHeader:ioctlArena]
	clear(room[copy(room, arg):min(len(arg)+ioctlClean, len(room))])
	request := (*ifreq)(unsafe.Pointer(&a[0]))
	*request = ifreq{data: uintptr(unsafe.Pointer(&room[0]))}
	copy(request.name[:ifnamsiz-1], device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(request)))
	if errno != 0 {
		return nil, errno
	}
	copy(arg, room)
	return arg, nil
}
