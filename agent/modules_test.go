package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// cages is a recorded host of whose NICs some have a module, and some hang when they
// are asked about it.
type cages struct {
	*recordedHost
	full, hung map[int]bool
	refused    error // what the kernel says to all, instead
}

func (c *cages) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	if r.Family != kernel.FamilyEthtool || r.Command != uapi.ETHTOOL_MSG_MODULE_EEPROM_GET {
		return c.Reader.Netlink(ctx, r)
	}
	var index, length int
	for a := kernel.AttributesOf(r.Body); a.Next(); {
		switch a.Type {
		case uapi.ETHTOOL_A_MODULE_EEPROM_HEADER:
			for h := a.Nested(); h.Next(); {
				if h.Type == uapi.ETHTOOL_A_HEADER_DEV_INDEX {
					index = int(h.Uint32())
				}
			}
		case uapi.ETHTOOL_A_MODULE_EEPROM_LENGTH:
			length = int(a.Uint32())
		}
	}
	switch {
	case c.refused != nil:
		return nil, c.refused
	case c.hung[index]:
		<-ctx.Done()
		return nil, ctx.Err()
	case c.full[index]:
		data := make([]byte, length)
		data[0] = 0x03 // SFP, of which nothing more is known
		return []kernel.Message{{Body: kernel.Body{}.Bytes(uapi.ETHTOOL_A_MODULE_EEPROM_DATA, data)}}, nil
	}
	return c.recordedHost.Netlink(ctx, r)
}

// hardware are the indexes of those that may have a cage.
func hardware(inv *inventory.Inventory) (indexes []int) {
	for i := range inv.NICs {
		if n := &inv.NICs[i]; n.Parent != nil && (n.Function == inventory.PF || n.Function == inventory.Plain) {
			indexes = append(indexes, n.Index)
		}
	}
	return indexes
}

func (a *Agent) devicesWithModules() (indexes []int) {
	for _, p := range a.shown().Modules.Plugged {
		indexes = append(indexes, a.nic(p.Device).Index)
	}
	return indexes
}

// Cages that hang take the time of a round: what was read is shown, what was not is not,
// and the next round begins with those that had no turn.
func TestModulesForWhichThereIsNoTimeAreTheFirstOfTheNextRound(t *testing.T) {
	// The first cage that hangs takes 10 s of it, the second the rest: its turn, or less.
	for _, timeout := range []time.Duration{18 * time.Second, 13 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			host := &cages{recordedHost: recorded(t, "lab-nics.txtar"), full: map[int]bool{}, hung: map[int]bool{}}
			a := kept(t, host, Beside{})
			a.beside.Modules, a.options.Timeout = inventory.NewModules(), timeout
			nics := hardware(a.facts.inventory)
			if len(nics) < 5 {
				t.Fatalf("%d NICs", len(nics))
			}
			for _, index := range nics {
				host.full[index] = true
			}
			round := func(want []int, success bool) {
				t.Helper()
				time.Sleep(besideInterval)
				a.beside.round(t.Context())
				if got := a.devicesWithModules(); !slices.Equal(got, want) {
					t.Errorf("modules of %v, want %v", got, want)
				}
				if r := read1(a.shown(), "module"); r.Success != success {
					t.Errorf("%+v", r)
				}
			}
			round(nics, true)
			host.hung[nics[1]], host.hung[nics[2]] = true, true
			round(nics[:1], false)
			round(slices.Concat(nics[:1], nics[3:]), false)
			synctest.Wait() // the calls that hung have ended
			host.hung = nil
			time.Sleep(besideInterval) // what failed is not asked again within a minute
			round(nics, true)
		})
	}
}

// A driver that has no words for an empty cage is asked again when something else
// speaks for a module, or after a while.
func TestACageIsLookedAtAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &cages{recordedHost: recorded(t, "lab-nics.txtar"), full: map[int]bool{}}
		a := kept(t, host, Beside{Modules: inventory.NewModules()})
		nics := hardware(a.facts.inventory)
		change := func(f func(*inventory.Link)) {
			inv := *a.facts.inventory
			inv.NICs = slices.Clone(inv.NICs)
			f(&inv.NICs[slices.IndexFunc(inv.NICs, func(n inventory.NIC) bool { return n.Index == nics[0] })].Link)
			a.facts.inventory = &inv
		}
		for what, f := range map[string]func(*inventory.Link){
			"carrier":         func(l *inventory.Link) { l.Carrier = new(l.Carrier == nil || !*l.Carrier) },
			"port":            func(l *inventory.Link) { l.Port = "FIBRE" },
			"supported modes": func(l *inventory.Link) { l.Supported = []string{"10000baseSR/Full"} },
		} {
			host.full[nics[0]] = true
			a.beside.round(t.Context())
			if got := a.devicesWithModules(); len(got) != 0 {
				t.Fatalf("%s: modules of %v, and nothing changed", what, got)
			}
			change(f)
			a.beside.round(t.Context())
			if got := a.devicesWithModules(); !slices.Equal(got, nics[:1]) {
				t.Errorf("%s: modules of %v, want %v", what, got, nics[:1])
			}
			host.full[nics[0]] = false
			time.Sleep(besideInterval)
			a.beside.round(t.Context())
		}
		host.full[nics[1]] = true
		time.Sleep(a.options.Interval)
		a.beside.round(t.Context())
		if got := a.devicesWithModules(); !slices.Equal(got, nics[1:2]) {
			t.Errorf("after the interval: modules of %v, want %v", got, nics[1:2])
		}
	})
}

// The log says once why modules can't be read: of each device what is the device's, and
// of all together what is the agent's.
func TestModulesThatCannotBeReadAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &cages{recordedHost: recorded(t, "lab-nics.txtar"), full: map[int]bool{}}
		a := kept(t, host, Beside{Modules: inventory.NewModules()})
		a.options.Interval = time.Second // whoever had none is asked again
		var told []string
		a.options.Failed = func(err error) { told = append(told, err.Error()) }
		nics := hardware(a.facts.inventory)
		for _, step := range []struct {
			refused error
			want    int
		}{
			{syscall.EPERM, 1}, {syscall.EPERM, 0},
			{syscall.EIO, len(nics)}, {syscall.EIO, 0},
			{syscall.EOPNOTSUPP, 0}, {syscall.EPERM, 1},
		} {
			host.refused, told = step.refused, nil
			time.Sleep(2 * besideInterval)
			a.beside.round(t.Context())
			if len(told) != step.want {
				t.Errorf("%v: told %q, want %d", step.refused, told, step.want)
			}
			for _, line := range told {
				if denied := errors.Is(step.refused, syscall.EPERM); strings.Contains(line, "CAP_NET_ADMIN") != denied {
					t.Errorf("%v: told %q", step.refused, line)
				}
			}
		}
	})
}
