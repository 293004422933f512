package agent

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// sickHost is a recorded host of which some devices, or all, hang until they are let go,
// and with them what is asked of all devices at once.
type sickHost struct {
	*recordedHost
	letGo chan struct{}

	mu    sync.Mutex
	sick  []inventory.NIC
	all   bool
	asked int // how many calls hang, or hung
}

func (h *sickHost) hang(some []inventory.NIC, all bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sick, h.all = some, all
}

// stuck is how many calls hung since it was asked last.
func (h *sickHost) stuck() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.asked
	h.asked = 0
	return n
}

// meet hangs if a call concerns who does.
func (h *sickHost) meet(concerns func(*inventory.NIC) bool) {
	h.mu.Lock()
	hangs := h.all
	for i := range h.sick {
		hangs = hangs || concerns(&h.sick[i])
	}
	if hangs {
		h.asked++
	}
	h.mu.Unlock()
	if hangs {
		<-h.letGo
	}
}

func (h *sickHost) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	h.meet(func(n *inventory.NIC) bool {
		index := string(binary.NativeEndian.AppendUint32(nil, uint32(n.Index)))
		switch r.Family {
		case kernel.FamilyControl:
			return false
		case kernel.FamilyRoute:
			return !r.Dump && string(r.Body[4:8]) == index
		case kernel.FamilyDevlink:
			return r.Dump || strings.Contains(string(r.Body), n.Parent.Address)
		}
		const attribute = "\x08\x00\x01\x00" // the index, in a header or by itself
		return r.Dump && !strings.Contains(string(r.Body), attribute) || strings.Contains(string(r.Body), attribute+index)
	})
	return h.recordedHost.Netlink(ctx, r)
}

func (h *sickHost) Ethtool(ctx context.Context, device string, arg []byte) ([]byte, error) {
	h.meet(func(n *inventory.NIC) bool { return n.Name == device })
	return h.recordedHost.Ethtool(ctx, device, arg)
}

func (h *sickHost) DriverInfo(ctx context.Context, device string) (kernel.DriverInfo, error) {
	h.meet(func(n *inventory.NIC) bool { return n.Name == device })
	return h.recordedHost.DriverInfo(ctx, device)
}

func (h *sickHost) Counters(ctx context.Context, device string) ([]kernel.Counter, error) {
	h.meet(func(n *inventory.NIC) bool { return n.Name == device })
	return h.recordedHost.Counters(ctx, device)
}

// open are the rules of which a device has a finding of this status.
func open(f *metrics.Findings, n *inventory.NIC, status findings.Status) (rules []string) {
	for _, one := range f.Open {
		if one.Subject.Name == n.Name && one.Status == status {
			rules = append(rules, one.Rule)
		}
	}
	return rules
}

// A PF that hangs costs its own findings and VFs, and nobody else's. It is asked once
// for as long as it hangs, whatever else is read. And while no device answers what was
// known stays.
func TestAPFThatHangsCostsItsOwnFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &sickHost{recordedHost: recorded(t, "lab-vfs.txtar"), letGo: make(chan struct{})}
		a := New(host, Options{
			Timeout: 30 * time.Second, Interval: 5 * time.Minute, Failed: func(err error) { t.Log(err) },
			Beside: &Beside{Groups: audit.Groups(), VFs: true, XDP: true, Modules: inventory.NewModules()},
		})
		round := func(want bool) metrics.Snapshot {
			t.Helper()
			time.Sleep(5 * time.Minute)
			if ok := a.readWhole(t.Context()); ok != want {
				t.Errorf("the facts were read: %v", ok)
			}
			a.beside.round(t.Context())
			s := a.shown()
			for _, part := range []string{"findings", "module"} {
				if r := read1(s, part); r.Success != want || want != r.At.Equal(time.Now()) && len(host.sick) == 0 || r.At.IsZero() {
					t.Errorf("at %s: %+v", time.Now(), r)
				}
			}
			return s
		}
		first := round(true)
		var pfs []inventory.NIC
		for _, n := range a.current().NICs {
			if n.Function == inventory.PF && n.PCI != nil && n.PCI.SRIOV != nil {
				pfs = append(pfs, n)
			}
		}
		if len(pfs) < 2 {
			t.Fatalf("%d PFs", len(pfs))
		}
		sick, sound := &pfs[0], &pfs[1]
		host.hang(pfs[:1], false)
		second := round(true)
		if second.Findings == first.Findings || second.VFs == first.VFs || second.XDP == first.XDP {
			t.Error("findings, VFs and XDP are those from before")
		}
		if before, now := open(first.Findings, sound, findings.Error), open(second.Findings, sound, findings.Error); !slices.Equal(before, now) {
			t.Errorf("%s had errors %v, and has %v", sound.Name, before, now)
		}
		if before, now := open(first.Findings, sick, findings.Error), open(second.Findings, sick, findings.Error); len(now) <= len(before) {
			t.Errorf("%s hangs; it had errors %v, and has %v", sick.Name, before, now)
		}
		for _, pf := range second.VFs.PFs {
			for _, vf := range pf.VFs {
				if asked := vf.Settings != nil; asked == (pf.Name == sick.Name) {
					t.Errorf("%s hangs; the settings of VF %d of %s: %v", sick.Name, vf.Index, pf.Name, asked)
				}
			}
		}
		host.stuck()
		for range 3 {
			round(true)
		}
		if n := host.stuck(); n != 0 {
			t.Errorf("%d more calls hang after three rounds", n)
		}

		// Now some driver holds the lock of all.
		last := a.shown()
		facts := a.current()
		host.hang(nil, true)
		round(false)
		host.stuck()
		for range 3 {
			round(false)
		}
		if n := host.stuck(); n != 0 {
			t.Errorf("%d more calls hang after three rounds in which nobody answers", n)
		}
		if now := a.shown(); now.Findings != last.Findings || now.VFs != last.VFs || now.XDP != last.XDP || now.Modules != last.Modules || a.current() != facts {
			t.Error("what was known is not shown any more")
		}

		host.hang(nil, false)
		close(host.letGo)
		synctest.Wait()
		again := round(true)
		if !slices.Equal(open(again.Findings, sick, findings.Error), open(first.Findings, sick, findings.Error)) {
			t.Errorf("%s answers again; errors %v", sick.Name, open(again.Findings, sick, findings.Error))
		}
	})
}

// Of many that hang each has less time than the one before, so that some is left.
func TestManyThatHangLeaveTimeForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &sickHost{recordedHost: recorded(t, "lab-vfs.txtar"), letGo: make(chan struct{})}
		host.hang(nil, true)
		reader := Sparing(host)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for _, device := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			if _, err := reader.Counters(sharing(ctx), device); err == nil {
				t.Error("it hangs, and has an answer")
			}
		}
		if left := time.Until(deadlineOf(ctx)); left < time.Second {
			t.Errorf("%s are left of 30s", left)
		}
		close(host.letGo)
		synctest.Wait()
		host.hang(nil, false)
		if _, err := reader.Netlink(ctx, kernel.Request{Family: kernel.FamilyRoute, Command: uapi.RTM_GETLINK, Dump: true, Body: make([]byte, 16)}); err != nil {
			t.Log(err) // what was recorded is another question
		}
		if s := sparingOf(reader); s.some.Load() != 0 || len(s.hanging) != 0 {
			t.Errorf("%d hang still", len(s.hanging))
		}
	})
}

func deadlineOf(ctx context.Context) time.Time {
	deadline, _ := ctx.Deadline()
	return deadline
}
