package inventory

import (
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/nstest"
)

// A veth with several queues, on the running kernel: its own counters, interrupts,
// CPUs, and how RPS and XPS steer.
func TestReadTraffic(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "vt0", "numtxqueues 2 numrxqueues 2 type veth peer name vt1 numtxqueues 2 numrxqueues 2")
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { live.Close() })
	if err := live.WriteFile(t.Context(), "/sys/class/net/vt0/queues/rx-1/rps_cpus", []byte("1")); err != nil {
		t.Fatal(err)
	}
	inv, err := Read(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	traffic := ReadTraffic(t.Context(), live, inv)
	for _, u := range traffic.Unread {
		if u.Reason == Failed {
			t.Errorf("%+v", u)
		}
	}
	if len(traffic.CPUs) == 0 || len(traffic.CPUs) != len(traffic.Softnet) || len(traffic.Interrupts.Counts) == 0 {
		t.Errorf("%d CPUs, %d of softnet, %d interrupts", len(traffic.CPUs), len(traffic.Softnet), len(traffic.Interrupts.Counts))
	}
	n := traffic.NICs["vt0"]
	if n.Steering == nil || len(n.Steering.Receive) != 2 || n.Steering.Receive[0].CPUs != "" || n.Steering.Receive[1].CPUs != "0" || len(n.Steering.Transmit) != 2 {
		t.Errorf("steering %+v", n.Steering)
	}
	drops := 0
	for _, m := range n.Driver {
		if m.Meaning == ReceiveDropped && m.Queue == drops {
			drops++
		}
	}
	if drops != 2 {
		t.Errorf("the driver counts %+v, want drops of two queues", n.Driver)
	}
}
