package inventory

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/lab/nstest"
)

// TestXDPAgreesWithIP attaches real programs, in the driver and before the
// stack, and compares what is seen of them with ip -j -d link.
func TestXDPAgreesWithIP(t *testing.T) {
	nstest.Link(t, "x0", "type veth peer name x1")
	live := open(t)
	index := surveyed(t, live).byName["x0"].Index
	// XDP_FLAGS_SKB_MODE and XDP_FLAGS_DRV_MODE of linux/if_link.h.
	for flags, mode := range map[uint32]string{1 << 1: "generic", 1 << 2: "driver"} {
		setXDP(t, live, index, passAll(t), flags)
		type attached struct {
			Name string `json:"ifname"`
			XDP  struct {
				Prog struct {
					ID uint32 `json:"id"`
				} `json:"prog"`
			} `json:"xdp"`
		}
		links := runJSON[[]attached](t, "ip -j -d link show x0")
		i := slices.IndexFunc(links, func(a attached) bool { return a.Name == "x0" })
		if i < 0 || links[i].XDP.Prog.ID == 0 {
			t.Fatalf("ip shows no program: %+v", links)
		}
		want := []XDPProgram{{Mode: mode, ID: links[i].XDP.Prog.ID}}
		if got := surveyed(t, live).byName["x0"].Offloads.XDP; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		setXDP(t, live, index, -1, flags)
		if got := surveyed(t, live).byName["x0"].Offloads.XDP; got != nil {
			t.Errorf("after the program is gone: %+v", got)
		}
	}
}

func setXDP(t *testing.T, w kernel.Writer, index, program int, flags uint32) {
	t.Helper()
	header := make([]byte, linkHeader)
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	err := w.NetlinkSet(t.Context(), kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_SETLINK,
		Body: kernel.Body(header).Nested(uapi.IFLA_XDP, kernel.Body{}.
			Uint32(uapi.IFLA_XDP_FD, uint32(int32(program))).Uint32(uapi.IFLA_XDP_FLAGS, flags)),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// passAll loads the smallest XDP program there is: return XDP_PASS.
func passAll(t *testing.T) int {
	t.Helper()
	program := [2]uint64{2<<32 | 0xb7, 0x95} // r0 = 2; exit
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Fatal("the program is written for a little-endian host")
	}
	license := []byte("Apache-2.0\x00")
	// The kernel gets their addresses as numbers: they may not move.
	var pinned runtime.Pinner
	defer pinned.Unpin()
	pinned.Pin(&program)
	pinned.Pin(&license[0])
	attributes := struct {
		kind, length             uint32
		program, license         uintptr
		logLevel, logSize        uint32
		log                      uintptr
		kernelVersion, loadFlags uint32
	}{
		kind: unix.BPF_PROG_TYPE_XDP, length: uint32(len(program)),
		program: uintptr(unsafe.Pointer(&program)), license: uintptr(unsafe.Pointer(&license[0])),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	if errno != 0 {
		t.Fatal(fmt.Errorf("load an XDP program: %w", errno))
	}
	t.Cleanup(func() { _ = unix.Close(int(fd)) })
	return int(fd)
}
