package settings

import (
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

const steeringPolicy = `apiVersion: nictune/v1
kind: TuningPolicy
name: steering
match: {name: [steer0]}
settings:
  rps: {cpus: all, spread: one-to-one, flow-cnt: 64}
  xps: {cpus: "0"}
  napi: {defer-hard-irqs: 2, gro-flush-timeout: 200000}
`

// sysfs is what the files of a device hold, one after the other.
func sysfs(t testing.TB, name string, files ...string) string {
	t.Helper()
	var all []string
	for _, file := range files {
		b, err := os.ReadFile("/sys/class/net/" + name + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimLeft(strings.ReplaceAll(strings.TrimSpace(string(b)), ",", ""), "0")+";")
	}
	return strings.Join(all, "")
}

func steeringFiles(t testing.TB) string {
	return sysfs(t, "steer0", "queues/rx-0/rps_cpus", "queues/rx-1/rps_cpus", "queues/rx-2/rps_cpus", "queues/rx-0/rps_flow_cnt",
		"queues/rx-2/rps_flow_cnt", "queues/tx-0/xps_cpus", "queues/tx-2/xps_cpus", "napi_defer_hard_irqs", "gro_flush_timeout")
}

// TestSteering sets RPS, RFS, XPS and NAPI of a real device, which sysfs shows.
func TestSteering(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "steer0", "numrxqueues 3 numtxqueues 3 type veth peer name steer1")
	nstest.Run(t, "ethtool", "-L", "steer0", "rx", "3", "tx", "3")
	w := live(t)
	all := nics(t, w)
	before := steeringFiles(t)
	e := engine(t, w, t.TempDir())
	p := plan(t, w, all, steeringPolicy)
	if len(p.Changes) != 3 || p.Impact() != tuning.Seamless {
		t.Fatalf("plan %+v", p)
	}
	done, err := e.Apply(t.Context(), p, all, tuning.Request{User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	// Of two CPUs or more the first two queues get one each.
	if got := steeringFiles(t); !strings.HasPrefix(got, "1;2;") || !strings.HasSuffix(got, ";64;64;1;1;2;200000;") {
		t.Errorf("sysfs has %s", got)
	}
	written := w.writes
	if _, err := e.Apply(t.Context(), plan(t, w, all, steeringPolicy), all, allow); err != nil || w.writes != written {
		t.Errorf("a second apply: %v, %d writes after %d", err, w.writes, written)
	}
	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Error(err)
	}
	if after := steeringFiles(t); after != before {
		t.Errorf("after the rollback %s, before %s", after, before)
	}
}

// TestSteeringEachWriteFails keeps each single file's write from the kernel.
func TestSteeringEachWriteFails(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "steer0", "numrxqueues 3 numtxqueues 3 type veth peer name steer1")
	nstest.Run(t, "ethtool", "-L", "steer0", "rx", "3", "tx", "3")
	w := live(t)
	all := nics(t, w)
	before := steeringFiles(t)
	e := engine(t, w, t.TempDir())
	const files = 3 + 3 + 3 + 2
	for n := 1; n <= files+1; n++ {
		w.writes = 0
		w.fail = func(i int) error {
			if i == n {
				return syscall.EIO
			}
			return nil
		}
		done, err := e.Apply(t.Context(), plan(t, w, all, steeringPolicy), all, allow)
		if n > files {
			if err != nil || done == nil || w.writes != files {
				t.Errorf("%d writes for %d files, %v", w.writes, files, err)
			}
			break
		}
		if err == nil || !strings.Contains(err.Error(), "was undone") {
			t.Errorf("write %d: %v", n, err)
		}
		if after := steeringFiles(t); after != before {
			t.Fatalf("write %d: %s, want %s", n, after, before)
		}
	}
	t.Logf("%d of %d failures undone", files, files)
}

// What the kernel makes of a value is held against what was wanted.
func TestSteeringRefused(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "steer0", "numrxqueues 3 numtxqueues 3 type veth peer name steer1")
	nstest.Run(t, "ethtool", "-L", "steer0", "rx", "3", "tx", "3")
	w := live(t)
	all := nics(t, w)
	before := steeringFiles(t)
	e := engine(t, w, t.TempDir())
	odd := strings.Replace(steeringPolicy, "64", "65", 1)
	done, err := e.Apply(t.Context(), plan(t, w, all, odd), all, allow)
	if err != nil {
		t.Fatal("an odd number of flows:", err)
	}
	if again := plan(t, w, all, odd); len(again.Changes) > 0 || !strings.Contains(steeringFiles(t), "128") {
		t.Errorf("an odd number of flows: %+v", again.Changes)
	}
	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil || steeringFiles(t) != before {
		t.Error("rolled back:", err)
	}
	for change, want := range map[string]string{
		`rps: {cpus: "0,4000"}`:   "test.yaml:6: steer0: rps: cpus 0,4000: 4000 are not online",
		"rps: {spread: all}":      "rps: spread: say over which cpus",
		"rps: {cpus: local-cpus}": "the NIC names no local CPUs",
		"irq: {cpus: all}":        "irq: unsupported: the NIC has no interrupts of its own",
		"rss: {equal: 1}":         "rss: unsupported",
	} {
		document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nmatch: {name: [steer0]}\nsettings:\n  " + change + "\n"
		if _, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, document), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", change, err, want)
		}
	}
}

// TestThreadedNAPI: polling in threads needs a driver with NAPI, which tun has
// once a program asks for it, and veth while it is up with GRO.
func TestThreadedNAPI(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "steer0", "type veth peer name steer1")
	nstest.Run(t, "ethtool", "-K", "steer0", "gro", "on")
	nstest.IP(t, "link set steer0 up")
	nstest.IP(t, "link set steer1 up")
	w := live(t)
	all := nics(t, w)
	const document = "apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nmatch: {name: [steer0]}\nsettings:\n  napi: {threaded: on}\n"
	p := plan(t, w, all, document)
	e := engine(t, w, t.TempDir())
	done, err := e.Apply(t.Context(), p, all, allow)
	if err != nil {
		t.Fatal(err)
	}
	if got := sysfs(t, "steer0", "threaded"); got != "1;" {
		t.Errorf("threaded is %s", got)
	}
	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Error(err)
	}
	if got := sysfs(t, "steer0", "threaded"); got != ";" {
		t.Errorf("threaded is %s after the rollback", got)
	}
}

// TestRPSMovesWork sends packets on one CPU and has another one handle them.
func TestRPSMovesWork(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "steer0", "type veth peer name steer1")
	nstest.IP(t, "link set steer0 up")
	nstest.IP(t, "link set steer1 up")
	nstest.IP(t, "addr add 192.0.2.1/24 dev steer1")
	nstest.IP(t, "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev steer1")
	w := live(t)
	all := nics(t, w)
	const document = "apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nmatch: {name: [steer0]}\nsettings:\n  rps: {cpus: 1}\n"
	for _, applied := range []bool{false, true} {
		if applied {
			if _, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, document), all, allow); err != nil {
				t.Fatal(err)
			}
		}
		before := handedOn(t)
		sendOn(t, 0, "192.0.2.2:9")
		moved := handedOn(t)[1] - before[1]
		if applied != (moved > 0) {
			t.Errorf("with the policy %v: %d times packets were handed to CPU 1", applied, moved)
		}
		t.Logf("with the policy %v: CPU 1 was called for packets %d times", applied, moved)
	}
}

// sentOn is how many packets sendOn sends.
const sentOn = 100

// sendOn sends packets on a CPU, which then also receives what a veth's peer
// gets.
func sendOn(t *testing.T, cpu int, to string) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine, on its CPU
		mask := [16]uint64{1 << cpu}
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask))); errno != 0 {
			done <- errno
			return
		}
		addr, err := net.ResolveUDPAddr("udp4", to)
		if err != nil {
			done <- err
			return
		}
		// A socket without a peer isn't told that nobody listens there.
		c, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", ":0")
		for range sentOn {
			if err == nil {
				_, err = c.WriteTo(make([]byte, 64), addr)
			}
		}
		if err == nil {
			err = c.Close()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// handedOn is how often each CPU was called for packets that another received.
func handedOn(t *testing.T) (byCPU []uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		n, err := strconv.ParseUint(strings.Fields(line)[9], 16, 64) // received_rps
		if err != nil {
			t.Fatal(err)
		}
		byCPU = append(byCPU, n)
	}
	return byCPU
}
