package kernel

import (
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Netlink has no request for the link-layer groups that an administrator adds:
// `ip maddr` uses these ioctls, too.

// multicastRequest is struct ifreq with ifr_hwaddr.
type multicastRequest struct {
	name   [ifnamsiz]byte
	family uint16 // AF_UNSPEC: the device knows the length of its addresses
	data   [14]byte
	_      [8]byte
}

const ethernetAddress = 6

func multicastOp(add bool) string {
	if add {
		return "SIOCADDMULTI"
	}
	return "SIOCDELMULTI"
}

// multicast adds a group to a device, or takes it away.
func (s *ioctlSocket) multicast(device string, address net.HardwareAddr, add bool) error {
	command := uintptr(unix.SIOCDELMULTI)
	if add {
		command = unix.SIOCADDMULTI
	}
	err := checkDevice(device)
	if err == nil && (len(address) != ethernetAddress || address[0]&1 == 0) {
		err = fmt.Errorf("%w: %v is no group address of Ethernet", syscall.EINVAL, address)
	}
	if err == nil {
		var request multicastRequest
		copy(request.name[:ifnamsiz-1], device)
		copy(request.data[:], address)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), command, uintptr(unsafe.Pointer(&request))); errno != 0 {
			err = errno
		}
	}
	if err != nil {
		return &Error{Op: multicastOp(add), Object: device, Err: err}
	}
	return nil
}
