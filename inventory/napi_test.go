package inventory

import (
	"context"
	"os"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/nstest"
)

func TestReadNAPIDefaults(t *testing.T) {
	h := newMapHost(map[string]string{
		"/sys/class/net/eth0/gro_flush_timeout":    "18446744073709551615\n",
		"/sys/class/net/eth0/napi_defer_hard_irqs": "4294967295\n",
		"/sys/class/net/eth0/threaded":             "2\n",
		"/sys/class/net/eth1/gro_flush_timeout":    "0\n",
		"/sys/class/net/eth1/napi_defer_hard_irqs": "-1\n",
		"/sys/class/net/eth2/gro_flush_timeout":    "0\n",
		"/sys/class/net/eth2/napi_defer_hard_irqs": "0\n",
		"/sys/class/net/eth2/threaded":             "0\n",
	})
	h.denied["/sys/class/net/eth2/threaded"] = true
	s := h.survey(
		&NIC{Index: 2, Name: "eth0", Parent: &Parent{}},
		&NIC{Index: 3, Name: "eth1", Parent: &Parent{}},
		&NIC{Index: 4, Name: "eth2", Queues: Queues{NAPI: []NAPI{{ID: 1}}}},
		&NIC{Index: 5, Name: "vlan0"},
	)
	readNAPIDefaults(t.Context(), s)
	same(t, "eth0", s.nics[0].Queues, Queues{GROFlushTimeoutNS: new(uint64(1<<64 - 1)), DeferHardIRQs: new(uint32(1<<32 - 1)), Threaded: new(2)})
	same(t, "eth1", s.nics[1].Queues, Queues{GROFlushTimeoutNS: new(uint64(0))})
	same(t, "eth1's number that is none", unreadOf(s.nics[1], "queues.napiDeferHardIrqs"),
		`failed malformed answer: /sys/class/net/eth1/napi_defer_hard_irqs holds "-1\n"`)
	same(t, "eth1's missing file", s.nics[1].Unread[1].Reason, Unsupported)
	same(t, "eth2's denied file", s.nics[2].Unread[0].Reason, Denied)
	same(t, "eth2's threads", s.nics[2].Queues.Threaded, (*int)(nil))
	if h.reads["read /sys/class/net/vlan0/threaded"] != 0 || len(s.nics[3].Unread) > 0 {
		t.Error("a device without hardware and polling was asked")
	}
}

// silentFiles is a recording made before these files were read.
type silentFiles struct{ *mapHost }

func (silentFiles) ReadFile(context.Context, string) ([]byte, error) {
	return nil, &kernel.Error{Op: "read", Err: kernel.ErrNotRecorded}
}

func TestNAPIDefaultsOfAnOldRecording(t *testing.T) {
	s := newMapHost(nil).survey(&NIC{Index: 2, Name: "eth0", Parent: &Parent{}})
	s.Reader = silentFiles{}
	readNAPIDefaults(t.Context(), s)
	if n := s.nics[0]; len(n.Unread) > 0 || n.Queues.Threaded != nil {
		t.Errorf("%+v", n)
	}
}

func TestNAPIDefaultsAreThoseOfTheKernel(t *testing.T) {
	nstest.Link(t, "napi0", "type veth peer name napi1")
	run(t, "ethtool -K napi0 gro on") // gives a veth polling contexts
	nstest.IP(t, "link set napi0 up")
	for file, value := range map[string]string{"gro_flush_timeout": "20000", "napi_defer_hard_irqs": "2"} {
		if err := os.WriteFile("/sys/class/net/napi0/"+file, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	s := surveyed(t, open(t), readNetdev, readNAPIDefaults)
	n := s.byName["napi0"]
	if len(n.Queues.NAPI) == 0 {
		t.Fatalf("no polling contexts: %+v", n.Unread)
	}
	same(t, "gro_flush_timeout", n.Queues.GROFlushTimeoutNS, new(uint64(20000)))
	same(t, "napi_defer_hard_irqs", n.Queues.DeferHardIRQs, new(uint32(2)))
	same(t, "threaded", n.Queues.Threaded, new(0))
	// The contexts take them over, where the kernel shows theirs.
	for _, c := range n.Queues.NAPI {
		if c.DeferHardIRQs != nil {
			same(t, "a context's", *c.DeferHardIRQs, uint32(2))
		}
	}
}
