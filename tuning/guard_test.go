package tuning

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// used has an XDP program on each of its two NICs, and a setting that breaks it.
func used(t *testing.T) (*host, *Engine, []inventory.NIC) {
	t.Helper()
	h, nics := newHost()
	for i := range nics {
		nics[i].Offloads.XDP = []inventory.XDPProgram{{Mode: "driver", ID: uint32(42 + i)}}
	}
	nics[0].AltNames = []string{"enp1s0"}
	e := engine(t, h, t.TempDir())
	third := toyKnob("third", Seamless)
	third.Breaks = func(use inventory.Use, current, next toy) string {
		if use.Kind == inventory.XDPAttached && *current.A != *next.A {
			return "a"
		}
		return ""
	}
	e.Settings[2] = third
	return h, e, nics
}

func TestGuard(t *testing.T) {
	const (
		reset    = "eth0: first (nic-reset) would disturb the XDP program with id 42"
		seamless = "eth0: third (a) would disturb the XDP program with id 42"
	)
	for name, test := range map[string]struct {
		wants   []string
		disrupt []string
		down    bool
		want    string // "" where it is let through
	}{
		"a reset":              {wants: []string{"eth0 first a=5"}, want: reset + "; to do it all the same: --disrupt eth0"},
		"what breaks it":       {wants: []string{"eth0 third a=5"}, want: seamless},
		"what breaks nothing":  {wants: []string{"eth0 third b=5"}},
		"both":                 {wants: []string{"eth0 first a=5", "eth0 third a=5"}, want: "eth0: first (nic-reset), third (a) would disturb the XDP program with id 42; to"},
		"named":                {wants: []string{"eth0 first a=5"}, disrupt: []string{"eth0"}},
		"by another name":      {wants: []string{"eth0 first a=5"}, disrupt: []string{"enp1s0"}},
		"by its address":       {wants: []string{"eth0 first a=5"}, disrupt: []string{"0000:01:00.0"}},
		"another one is named": {wants: []string{"eth0 first a=5"}, disrupt: []string{"eth1"}, want: reset},
		"one of two is named":  {wants: []string{"eth0 first a=5", "eth1 second a=5"}, disrupt: []string{"eth0"}, want: "refused: eth1: second (link-flap) would disturb the XDP program with id 43; to do it all the same: --disrupt eth1"},
		"nobody is named":      {wants: []string{"eth0 first a=5", "eth1 second a=5"}, want: "--disrupt eth0,eth1"},
		"it is down":           {wants: []string{"eth0 first a=5"}, down: true},
	} {
		t.Run(name, func(t *testing.T) {
			h, e, nics := used(t)
			if test.down {
				nics[0].Link.Admin = "down"
			}
			request := allowAll
			request.Disrupt = test.disrupt
			done, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, test.wants...)), nics, request)
			switch {
			case test.want == "" && (err != nil || done.Outcome != Applied):
				t.Errorf("%+v, %v", done, err)
			case test.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want) || h.writes != 0):
				t.Errorf("%d writes, %v", h.writes, err)
			}
		})
	}
}

func TestGuardOfARollback(t *testing.T) {
	h, e, nics := used(t)
	request := allowAll
	request.Disrupt = []string{"eth0"}
	if _, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth0 first a=5")), nics, request); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Rollback(t.Context(), 1, nics, Request{}, false); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "--disrupt eth0") {
		t.Error(err)
	}
	if done, err := e.Rollback(t.Context(), 1, nics, Request{Disrupt: []string{"eth0"}}, false); err != nil || done.Outcome != Applied {
		t.Errorf("%+v, %v", done, err)
	}
}

// blind is a host that does not say one thing: what its routes are.
type blind struct {
	*host
	command uint16
}

func (b blind) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	if r.Family == kernel.FamilyRoute && r.Command == b.command {
		return nil, &kernel.Error{Op: "route ROUTE_GET dump", Err: syscall.EPERM}
	}
	return b.host.Netlink(ctx, r)
}

// What is not known to work before a change could not be missed after it.
func TestGateRefusesRatherThanGuess(t *testing.T) {
	h, nics := newHost()
	e := engine(t, h, t.TempDir())
	e.Writer = blind{h, uapi.RTM_GETLINK}
	_, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth0 third a=5")), nics, allowAll)
	if err == nil || !strings.Contains(err.Error(), "nothing was changed: eth0: whether its link works can't be told: ") || h.writes != 0 {
		t.Errorf("%v, %d writes", err, h.writes)
	}
}

func TestGuardRefusesRatherThanGuess(t *testing.T) {
	h, nics := newHost()
	e := engine(t, h, t.TempDir())
	e.Writer = blind{h, uapi.RTM_GETROUTE}
	plan := mustPlan(t, h, want(t, nics, "eth0 first a=5"))
	_, err := e.Apply(t.Context(), plan, nics, allowAll)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "what the NIC is used for can't be told: list the default routes: route ROUTE_GET dump: operation not permitted") {
		t.Error(err)
	}
	request := allowAll
	request.Disrupt = []string{"eth0"}
	if _, err := e.Apply(t.Context(), plan, nics, request); err != nil {
		t.Error(err)
	}
	if _, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth1 third a=5")), nics, allowAll); err != nil {
		t.Errorf("what is seamless: %v", err)
	}

	// What is seamless and can break a use is not known to break none.
	h, e, nics = used(t)
	e.Writer = blind{h, uapi.RTM_GETROUTE}
	plan = mustPlan(t, h, want(t, nics, "eth0 third b=5"))
	_, err = e.Apply(t.Context(), plan, nics, allowAll)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "eth0: third (seamless): what the NIC is used for can't be told: list the default routes: route ROUTE_GET dump: operation not permitted") ||
		!strings.Contains(err.Error(), "--disrupt eth0") || h.writes != 0 {
		t.Errorf("%v, %d writes", err, h.writes)
	}
	if _, err := e.Apply(t.Context(), plan, nics, request); err != nil {
		t.Error(err)
	}
}

// A refusal names the settings that it is about, and not those that break nothing.
func TestGuardNamesSettings(t *testing.T) {
	h, e, nics := used(t)
	_, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth0 second a=5", "eth0 first a=5", "eth0 third b=5")), nics, allowAll)
	var guard *GuardError
	if !errors.As(err, &guard) || !slices.Equal(guard.Settings, []string{"first", "second"}) || h.writes != 0 {
		t.Errorf("%+v, %v", guard, err)
	}
}

// A VF in a VM suffers from a reset of its PF, not from what is seamless there. A
// setting that looks for the users of VFs itself is not held back by one that may
// have none. What breaks a program breaks that of a VF only by a reset.
func TestGuardOfVFs(t *testing.T) {
	h, e, nics := used(t)
	plan := mustPlan(t, h, want(t, nics, "eth0 first a=5", "eth0 second a=5", "eth0 third a=5"))
	second := toyKnob("second", LinkFlap)
	second.Victims = func(context.Context, kernel.Reader, inventory.NIC, toy, toy) ([]Victim, error) { return nil, nil }
	e.Settings[1] = second
	for kind, want := range map[inventory.UseKind]string{inventory.VFGivenAway: "first", inventory.XDPAttached: "first second"} {
		use := inventory.Use{Kind: kind, Device: nics[0].Index, VF: "0000:01:10.0"}
		found, err := Disruptions(e.Settings, plan, nics, inventory.Uses{nics[0].Index: {use}}, nil)
		if err != nil || len(found) != 1 || strings.Join(found[0].names, " ") != want {
			t.Errorf("%s: %+v, %v", kind, found, err)
		}
	}
}

// What comes after all VFs were made anew takes none from anybody: that was asked
// before they were.
func TestGuardOfVFsMadeAnew(t *testing.T) {
	h, e, nics := used(t)
	plan := mustPlan(t, h, want(t, nics, "eth0 first a=5", "eth0 second a=5"))
	plan.Changes[0].Impact, plan.Changes[1].Impact = NICReset, NICReset
	for _, anew := range []bool{false, true} {
		first := toyKnob("first", NICReset)
		first.Victims = func(context.Context, kernel.Reader, inventory.NIC, toy, toy) ([]Victim, error) { return nil, nil }
		first.RemakesVFs = anew
		e.Settings[0] = first
		for kind, want := range map[inventory.UseKind]bool{inventory.VFGivenAway: !anew, inventory.XDPAttached: true} {
			use := inventory.Use{Kind: kind, Device: nics[0].Index, VF: "0000:01:10.0"}
			found, err := Disruptions(e.Settings, plan, nics, inventory.Uses{nics[0].Index: {use}}, nil)
			if err != nil || (len(found) == 1 && slices.Contains(found[0].names, "second")) != want {
				t.Errorf("%s, VFs made anew %v: %+v, %v", kind, anew, found, err)
			}
		}
	}
}

// The VFs of a NIC that is down work: what runs over them is disturbed with it.
func TestGuardOfANICThatIsDown(t *testing.T) {
	h, nics := newHost()
	nics[0].Link.Admin = "down"
	plan := mustPlan(t, h, want(t, nics, "eth0 first a=5"))
	route := inventory.Use{Kind: inventory.DefaultRoute, Device: 9, Through: "vf0"}
	for vf, want := range map[string]int{"": 0, "vf0": 1} {
		route.VF = vf
		found, err := Disruptions(toySettings(), plan, nics, inventory.Uses{nics[0].Index: {route}}, nil)
		if err != nil || len(found) != want {
			t.Errorf("by the VF %q: %v, %v", vf, found, err)
		}
	}
}
