package nstest

import (
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// XDPSocket binds an AF_XDP socket in copy mode to a queue of a device, by its
// index, until the test ends or close is called. Nobody reads from it.
func XDPSocket(t testing.TB, index int, queue uint32) (closer func()) {
	t.Helper()
	Require(t)
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	open := true
	closer = func() {
		if open {
			_ = unix.Close(fd)
		}
		open = false
	}
	t.Cleanup(closer)
	const frames, frame = 16, 4096
	area, err := unix.Mmap(-1, 0, frames*frame, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(area) })
	// struct xdp_umem_reg, as far as all kernels know it.
	memory := struct {
		address, length uint64
		chunk, headroom uint32
		flags, pad      uint32
	}{uint64(uintptr(unsafe.Pointer(&area[0]))), frames * frame, frame, 0, 0, 0}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(&memory)), unsafe.Sizeof(memory), 0)
	if errno != 0 {
		t.Fatalf("register memory for AF_XDP: %v", errno)
	}
	for _, ring := range []int{unix.XDP_RX_RING, unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_XDP, ring, frames); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(index), QueueID: queue}); err != nil {
		t.Fatalf("bind an AF_XDP socket to queue %d: %v", queue, err)
	}
	return closer
}

// XDPProgram attaches a program that passes everything, in the driver's mode,
// until the test ends or detach is called.
func XDPProgram(t testing.TB, index int) (detach func()) {
	t.Helper()
	return attachXDP(t, index, unix.XDP_FLAGS_DRV_MODE)
}

// GenericXDPProgram is XDPProgram in generic mode.
func GenericXDPProgram(t testing.TB, index int) (detach func()) {
	t.Helper()
	return attachXDP(t, index, unix.XDP_FLAGS_SKB_MODE)
}

func attachXDP(t testing.TB, index int, flags uint32) (detach func()) {
	t.Helper()
	Require(t)
	const (
		progLoad, linkCreate = 5, 28 // enum bpf_cmd
		typeXDP, attachXDP   = 6, 37 // enum bpf_prog_type, bpf_attach_type
	)
	bpf := func(what string, command uintptr, attributes unsafe.Pointer, size uintptr) int {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attributes), size)
		if errno != 0 {
			t.Fatalf("%s: %v", what, errno)
		}
		return int(fd)
	}
	passes := [2]uint64{0x2_0000_00b7, 0x95} // r0 = XDP_PASS; exit
	licence := []byte("GPL\x00")
	program := struct {
		kind, instructions uint32
		code, licence      uint64
	}{typeXDP, uint32(len(passes)), uint64(uintptr(unsafe.Pointer(&passes[0]))), uint64(uintptr(unsafe.Pointer(&licence[0])))}
	fd := bpf("load an XDP program", progLoad, unsafe.Pointer(&program), unsafe.Sizeof(program))
	runtime.KeepAlive(&passes)
	runtime.KeepAlive(licence)
	defer unix.Close(fd)
	attached := struct{ program, device, kind, flags uint32 }{uint32(fd), uint32(index), attachXDP, flags}
	held := bpf("attach an XDP program", linkCreate, unsafe.Pointer(&attached), unsafe.Sizeof(attached))
	detach = sync.OnceFunc(func() { _ = unix.Close(held) })
	t.Cleanup(detach)
	return detach
}
