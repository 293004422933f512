package kernel

import (
	"context"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

const opXDPSocket = "bind an AF_XDP socket"

// XDPSocket binds an AF_XDP socket to one queue of a device, by its index, asks the
// kernel whether packets reach it without being copied, and closes it. With
// zeroCopy the kernel refuses where they don't. It gets no packet that a program
// does not redirect to it, and there is none that does.
//
// It is no method of Writer: only the probe of package xdpcheck needs it, and what
// it changes is gone when it returns.
func (l *Live) XDPSocket(ctx context.Context, index int, queue uint32, zeroCopy bool) (granted bool, err error) {
	return guard(ctx, l.slots, opXDPSocket, "", func() (bool, error) { return xdpSocket(index, queue, zeroCopy) })
}

func xdpSocket(index int, queue uint32, zeroCopy bool) (granted bool, err error) {
	// As large as any packet that a driver may ask room for: gve wants its largest MTU.
	const frames, frame = 64, 4096
	area, err := unix.Mmap(-1, 0, frames*frame, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false, err
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, errors.Join(err, unix.Munmap(area))
	}
	defer func() { err = errors.Join(err, unix.Close(fd), unix.Munmap(area)) }()
	// struct xdp_umem_reg of linux/if_xdp.h, as far as all kernels know it.
	memory := struct {
		address, length uint64
		chunk, headroom uint32
		flags, pad      uint32
	}{uint64(uintptr(unsafe.Pointer(&area[0]))), frames * frame, frame, 0, 0, 0}
	if _, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(&memory)), unsafe.Sizeof(memory), 0); errno != 0 {
		return false, errno
	}
	for _, ring := range []int{unix.XDP_RX_RING, unix.XDP_TX_RING, unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_XDP, ring, frames); err != nil {
			return false, err
		}
	}
	flags := uint16(unix.XDP_COPY)
	if zeroCopy {
		flags = unix.XDP_ZEROCOPY
	}
	if err := unix.Bind(fd, &unix.SockaddrXDP{Flags: flags, Ifindex: uint32(index), QueueID: queue}); err != nil {
		return false, err
	}
	options, err := unix.GetsockoptInt(fd, unix.SOL_XDP, unix.XDP_OPTIONS) // struct xdp_options is one such number
	if err != nil {
		return false, err
	}
	return options&unix.XDP_OPTIONS_ZEROCOPY != 0, nil
}
