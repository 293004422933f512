package settings

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// balancer is an irqbalance that was told of some interrupts, on a host that has
// others, too.
type balancer struct {
	kernel.Writer
	setup string
	err   error
	there []string
	told  []string
}

func (b *balancer) Irqbalance(context.Context) ([]byte, error) { return []byte(b.setup), b.err }

func (b *balancer) IrqbalanceSet(_ context.Context, request string) error {
	b.told = append(b.told, request)
	return nil
}

func (b *balancer) ReadDir(context.Context, string) ([]string, error) { return b.there, nil }

func (b *balancer) ReadFile(_ context.Context, path string) ([]byte, error) {
	switch path {
	case "/sys/devices/system/cpu/online":
		return []byte("0-3\n"), nil
	case "/sys/devices/system/cpu/isolated", "/sys/devices/system/cpu/nohz_full":
		return []byte("\n"), nil
	}
	return nil, &kernel.Error{Op: "read", Object: path, Err: syscall.ENOENT}
}

// What irqbalance was told of interrupts that are gone goes with the next word to
// it: their numbers become those of others.
func TestBansOfWhatIsGone(t *testing.T) {
	const four = "SLEEP 10 IRQ 30 LOAD 0 DIFF 0 CLASS 5 IRQ 31 LOAD 0 DIFF 0 CLASS 5 IRQ 32 LOAD 0 DIFF 0 CLASS 5 IRQ 1 LOAD 0 DIFF 0 CLASS 5 BANNED 00000000"
	for name, test := range map[string]struct {
		take, give []int
		want       []string
	}{
		"one more": {take: []int{33}, want: []string{"settings ban irqs 1 30 33"}},
		"one less": {give: []int{30}, want: []string{"settings ban irqs 1"}},
		"nothing":  {},
	} {
		b := &balancer{setup: four, there: []string{"0", "1", "30", "33", "default_smp_affinity"}}
		if err := ban(t.Context(), b, test.take, test.give); err != nil || !slices.Equal(b.told, test.want) {
			t.Errorf("%s: %v, told %q, want %q", name, err, b.told, test.want)
		}
	}
}

// Who may not ask irqbalance is told that, and still sees what would change.
func TestIrqbalanceThatIsDenied(t *testing.T) {
	b := &balancer{err: &kernel.Error{Op: "ask irqbalance", Err: syscall.EACCES}, there: []string{"1"}}
	state := IRQAffinity{"eth0-rx-0": "1"}
	knob := IRQ()
	knob.Read = func(context.Context, kernel.Reader, inventory.NIC) (IRQAffinity, IRQAffinity, error) {
		return state, IRQAffinity{}, nil
	}
	nics := []inventory.NIC{{Name: "eth0", Index: 2}}
	for cpus, changes := range map[string]int{"1": 0, "2": 1} {
		p, err := tuning.MakePlan(t.Context(), b, []tuning.Setting{knob}, wants(t, nics, policyFor("eth0", "irq: {cpus: "+cpus+"}")), nil)
		if err != nil || len(p.Changes) != changes || len(p.Doubts) != 1 {
			t.Fatalf("%s: %v: %+v", cpus, err, p)
		}
		var text strings.Builder
		if err := p.WriteText(&text); err != nil || !strings.Contains(text.String(), "May not last: eth0: irq: irqbalance runs, and whether it leaves these interrupts alone only root can see\n") {
			t.Errorf("%v\n%s", err, text.String())
		}
	}
	b.err = &kernel.Error{Op: "ask irqbalance", Err: syscall.EOPNOTSUPP}
	if p, err := tuning.MakePlan(t.Context(), b, []tuning.Setting{knob}, wants(t, nics, policyFor("eth0", "irq: {cpus: 2}")), nil); err != nil || len(p.Doubts) != 0 {
		t.Errorf("%v: %+v", err, p)
	}
}
