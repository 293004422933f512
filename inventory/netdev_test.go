package inventory

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

func netdevAnswer(command uint16, bodies ...kernel.Body) answer {
	var a answer
	for _, b := range bodies {
		a.messages = append(a.messages, kernel.Message{Command: command, Body: b})
	}
	return a
}

func TestReadNetdev(t *testing.T) {
	r := linksOf(linkMessage(2, 1, 0, named("eth0")), linkMessage(3, 1, 0, named("eth1")))
	key := func(command uint16) string { return fmt.Sprint(kernel.FamilyNetdev, " ", command) }
	var dump64, metadata [8]byte
	dump64[0], metadata[0] = 0x2b, 6 // basic, redirect, xsk-zerocopy, rx-sg on a little-endian host
	if (kernel.Body{}).Uint16(0, 1)[4] == 0 {
		dump64, metadata = [8]byte{7: 0x2b}, [8]byte{7: 6}
	}
	queue := func(id uint32, direction uint32) kernel.Body {
		return kernel.Body{}.Uint32(uapi.NETDEV_A_QUEUE_ID, id).Uint32(uapi.NETDEV_A_QUEUE_TYPE, direction).Uint32(uapi.NETDEV_A_QUEUE_IFINDEX, 2)
	}
	r.netlink[key(uapi.NETDEV_CMD_DEV_GET)] = netdevAnswer(uapi.NETDEV_CMD_DEV_GET,
		kernel.Body{}.Uint32(uapi.NETDEV_A_DEV_IFINDEX, 2).Bytes(uapi.NETDEV_A_DEV_XDP_FEATURES, dump64[:]).Uint32(uapi.NETDEV_A_DEV_XDP_ZC_MAX_SEGS, 17).
			Bytes(uapi.NETDEV_A_DEV_XDP_RX_METADATA_FEATURES, metadata[:]).Bytes(uapi.NETDEV_A_DEV_XSK_FEATURES, make([]byte, 8)),
		kernel.Body{}.Uint32(uapi.NETDEV_A_DEV_IFINDEX, 3).Bytes(uapi.NETDEV_A_DEV_XDP_FEATURES, make([]byte, 8)),
		kernel.Body{}.Uint32(uapi.NETDEV_A_DEV_IFINDEX, 99).Bytes(uapi.NETDEV_A_DEV_XDP_FEATURES, make([]byte, 8)))
	// The second answers about rx 0 and NAPI 515 are of a later round.
	r.netlink[key(uapi.NETDEV_CMD_QUEUE_GET)] = netdevAnswer(uapi.NETDEV_CMD_QUEUE_GET,
		queue(0, uapi.NETDEV_QUEUE_TYPE_RX).Uint32(uapi.NETDEV_A_QUEUE_NAPI_ID, 514),
		queue(0, uapi.NETDEV_QUEUE_TYPE_TX),
		queue(1, uapi.NETDEV_QUEUE_TYPE_RX).Uint32(uapi.NETDEV_A_QUEUE_DMABUF, 5).Nested(uapi.NETDEV_A_QUEUE_XSK, nil).Nested(uapi.NETDEV_A_QUEUE_IO_URING, nil),
		queue(0, uapi.NETDEV_QUEUE_TYPE_RX).Uint32(uapi.NETDEV_A_QUEUE_NAPI_ID, 515))
	napi := kernel.Body{}.Uint32(uapi.NETDEV_A_NAPI_IFINDEX, 2).Uint32(uapi.NETDEV_A_NAPI_ID, 515)
	r.netlink[key(uapi.NETDEV_CMD_NAPI_GET)] = netdevAnswer(uapi.NETDEV_CMD_NAPI_GET, napi,
		napi.Uint32(uapi.NETDEV_A_NAPI_IRQ, 33).Uint32(uapi.NETDEV_A_NAPI_PID, 4711).Uint32(uapi.NETDEV_A_NAPI_DEFER_HARD_IRQS, 2).
			Uint32(uapi.NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT, 20000).Bytes(uapi.NETDEV_A_NAPI_IRQ_SUSPEND_TIMEOUT, make([]byte, 8)).
			Uint32(uapi.NETDEV_A_NAPI_THREADED, uapi.NETDEV_NAPI_THREADED_BUSY_POLL))
	r.netlink[key(uapi.NETDEV_CMD_PAGE_POOL_GET)] = netdevAnswer(uapi.NETDEV_CMD_PAGE_POOL_GET,
		kernel.Body{}.Uint32(uapi.NETDEV_A_PAGE_POOL_ID, 12).Uint32(uapi.NETDEV_A_PAGE_POOL_IFINDEX, 2).Uint32(uapi.NETDEV_A_PAGE_POOL_NAPI_ID, 515).
			Uint32(uapi.NETDEV_A_PAGE_POOL_INFLIGHT, 256).Uint32(uapi.NETDEV_A_PAGE_POOL_INFLIGHT_MEM, 1<<20),
		kernel.Body{}.Uint32(uapi.NETDEV_A_PAGE_POOL_ID, 13)) // of a device that is gone
	s := surveyed(t, r, readNetdev)
	want := Queues{
		Netdev: []Queue{
			{Direction: "rx", ID: 0, NAPI: new(uint32(515))}, {Direction: "tx", ID: 0},
			{Direction: "rx", ID: 1, DMABuf: new(uint32(5)), XSK: true, IOUring: true},
		},
		NAPI: []NAPI{{
			ID: 515, IRQ: new(33), PID: new(4711), DeferHardIRQs: new(uint32(2)), GROFlushTimeoutNS: new(uint64(20000)),
			IRQSuspendTimeoutNS: new(uint64(0)), Threaded: "busy-poll",
		}},
		PagePools: []PagePool{{ID: 12, NAPI: new(uint32(515)), Inflight: new(uint64(256)), InflightBytes: new(uint64(1 << 20))}},
	}
	eth0, eth1 := s.byName["eth0"], s.byName["eth1"]
	if !reflect.DeepEqual(eth0.Queues, want) {
		t.Errorf("\n got %s\nwant %s", asJSON(t, eth0.Queues), asJSON(t, want))
	}
	if want := []string{"basic", "redirect", "xsk-zerocopy", "rx-sg"}; !reflect.DeepEqual(eth0.Offloads.XDPFeatures, want) || value(eth0.Offloads.XDPZeroCopyMaxSegments) != uint32(17) {
		t.Errorf("eth0: %v", eth0.Offloads.XDPFeatures)
	}
	if want := []string{"hash", "vlan-tag"}; !reflect.DeepEqual(eth0.Offloads.XDPMetadata, want) {
		t.Errorf("eth0: metadata %v", eth0.Offloads.XDPMetadata)
	}
	if eth0.Offloads.XSKFeatures == nil || len(eth0.Offloads.XSKFeatures) != 0 || eth1.Offloads.XSKFeatures != nil {
		t.Errorf("none is known of eth0, nothing of eth1: %#v, %#v", eth0.Offloads.XSKFeatures, eth1.Offloads.XSKFeatures)
	}
	if eth1.Offloads.XDPFeatures == nil || len(eth1.Offloads.XDPFeatures) != 0 {
		t.Errorf("that eth1 offers nothing is known: %#v", eth1.Offloads.XDPFeatures)
	}
	if len(s.unread) != 0 {
		t.Errorf("unread: %+v", s.unread)
	}
}

// A kernel without the family is noted for the host, once for each subject.
func TestReadNetdevWithoutTheFamily(t *testing.T) {
	s := surveyed(t, linksOf(linkMessage(2, 1, 0, named("eth0"))), readNetdev)
	if len(s.unread) != 4 || len(s.nics[0].Unread) != 0 || s.nics[0].Offloads.XDPFeatures != nil {
		t.Errorf("host: %+v, eth0: %s", s.unread, asJSON(t, s.nics[0]))
	}
}

func FuzzDecodeNetdev(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(kernel.Body{}.Uint32(uapi.NETDEV_A_DEV_IFINDEX, 2).Bytes(uapi.NETDEV_A_DEV_XDP_FEATURES, make([]byte, 8))))
	f.Add([]byte(kernel.Body{}.Uint32(uapi.NETDEV_A_QUEUE_ID, 0).Uint32(uapi.NETDEV_A_QUEUE_IFINDEX, 2).Uint32(uapi.NETDEV_A_QUEUE_TYPE, 1)))
	for _, command := range []uint16{uapi.NETDEV_CMD_DEV_GET, uapi.NETDEV_CMD_QUEUE_GET, uapi.NETDEV_CMD_NAPI_GET} {
		for _, m := range messagesOf(f, kernel.Request{Family: kernel.FamilyNetdev, Command: command, Dump: true})[:4] {
			f.Add(m.Body)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, dev := decodeNetdevDevice(body)
		_, _, queue := decodeNetdevQueue(body)
		_, _, napi := decodeNAPI(body)
		_, _, pool := decodePagePool(body)
		for _, err := range []error{dev, queue, napi, pool} {
			if err != nil && !errors.Is(err, kernel.ErrMalformed) {
				t.Error(err)
			}
		}
	})
}
