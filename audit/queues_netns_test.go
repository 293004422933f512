package audit

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
)

// flood sends UDP to an address until the test ends.
func flood(t *testing.T, to string) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for range 20 {
				_, _ = c.Write(make([]byte, 64)) // nobody has to hear it
			}
			time.Sleep(time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		c.Close()
	})
}

// A veth with traffic, watched for a moment: what is drawn, and what rules say.
func TestWatch(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "wa0", "numtxqueues 2 numrxqueues 2 type veth peer name wa1 numtxqueues 2 numrxqueues 2")
	nstest.IP(t, "addr add 192.0.2.1/24 dev wa0")
	nstest.IP(t, "link set wa0 up")
	nstest.IP(t, "link set wa1 up")
	nstest.IP(t, "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev wa0")
	flood(t, "192.0.2.2:9")
	e, groups := gather(t, 300*time.Millisecond, "queues")
	all := Judge(e, groups)
	for _, f := range all { // how they end depends on what the machine does meanwhile
		if (f.Rule == "queues/softnet-drops" || f.Rule == "queues/time-squeeze") && f.Status != findings.Pass && f.Status != findings.Fail {
			t.Errorf("%s is %s: %s", f.Rule, f.Status, f.Seen)
		}
	}
	expect(t, all, "queues/receive-drops", "wa0", findings.NotApplicable)
	r := e.Rates()
	if r == nil || r.Seconds < 0.3 || len(r.CPUs) == 0 {
		t.Fatalf("rates %+v", r)
	}
	rate := func(device, direction string) float64 {
		i := slices.IndexFunc(r.Queues, func(q QueueRate) bool { return q.Device == device && q.Direction == direction })
		if i < 0 {
			return -1
		}
		return r.Queues[i].PacketsPerSecond
	}
	if sent, received := rate("wa0", "tx"), rate("wa1", "rx"); sent < 100 || received < 100 || rate("wa1", "tx") > sent/10 {
		t.Errorf("sent %.0f and received %.0f packets a second: %+v", sent, received, r.Queues)
	}
	processed := 0.0
	for _, c := range r.CPUs {
		processed += c.PacketsPerSecond
		if c.SoftIRQ < 0 || c.SoftIRQ > 1 || c.Idle < 0 || c.Idle > 1 {
			t.Errorf("CPU %d: %+v", c.CPU, c)
		}
	}
	if processed < 100 {
		t.Errorf("the CPUs received %.0f packets a second", processed)
	}
}

// A host that nobody watched has no rates, and rules that need them don't pass.
func TestWatchNot(t *testing.T) {
	nstest.Require(t)
	e, groups := gather(t, 0, "queues")
	if r := e.Rates(); r != nil {
		t.Errorf("rates of one look: %+v", r)
	}
	expect(t, Judge(e, groups), "queues/softirq-saturated", "host", findings.Unknown)
}

// XPS on a real veth: one CPU named, then all of them.
func TestXPS(t *testing.T) {
	nstest.Require(t)
	online, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		t.Fatal(err)
	}
	cpus, err := inventory.ParseCPUSet(string(online))
	if err != nil {
		t.Fatal(err)
	}
	if cpus.Len() < 2 || cpus.Len() > 32 {
		t.Skipf("CPUs %s: this takes 2 to 32", online)
	}
	nstest.Link(t, "xp0", "numtxqueues 2 type veth peer name xp1 numrxqueues 2")
	nstest.IP(t, "link set xp0 up")
	nstest.IP(t, "link set xp1 up")
	write := func(queue, mask string) {
		t.Helper()
		if err := os.WriteFile("/sys/class/net/xp0/queues/"+queue+"/xps_cpus", []byte(mask), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	judge := func() []findings.Finding {
		e, groups := gather(t, 0, "queues")
		return Judge(e, groups)
	}
	expect(t, judge(), "queues/xps", "xp0", findings.Pass)
	write("tx-0", "1")
	if f := expect(t, judge(), "queues/xps", "xp0", findings.Fail); !strings.HasPrefix(f.Seen, "CPUs 1") {
		t.Errorf("seen %q", f.Seen)
	}
	write("tx-1", fmt.Sprintf("%x", 1<<cpus.Len()-2)) // all but CPU 0
	expect(t, judge(), "queues/xps", "xp0", findings.Pass)
}
