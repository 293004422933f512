package tuning

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// Gates are what must hold after the last change, or everything is undone:
// every NIC that was changed has its carrier back, is no slower than before and
// up in the eyes of its bond; the gateways of the default routes that it carries
// answer, if they did before; and what is listed here.
//
// Of the members of one bond or team no second one is touched before the first
// has its link back.
type Gates struct {
	// Timeout is how long each of them may take, counted from when its turn has come:
	// a gateway can't answer before the carrier is back. 0 is 30 s.
	Timeout time.Duration
	// TCP are addresses (host:port) that have to take a connection, before the
	// first change and after the last.
	TCP []string
	// Dial makes a connection and closes it. It is needed where TCP is not empty.
	Dial func(ctx context.Context, address string) error
}

// GateError is a gate that stayed shut.
type GateError struct {
	// NIC is empty for a gate that concerns none.
	NIC string
	// What is what did not hold: "no carrier".
	What string
	// After is how long it was waited for.
	After time.Duration
}

// Error says which gate it was.
func (e *GateError) Error() string {
	s := "health gate: "
	if e.NIC != "" {
		s += e.NIC + ": "
	}
	return fmt.Sprintf("%s%s, %s after the change", s, e.What, e.After.Round(time.Second))
}

const (
	gateTimeout = 30 * time.Second
	// gatePause is between two looks at what is not yet as it was.
	gatePause = 100 * time.Millisecond
	// steady is how long a link that was touched has to hold: some drivers drop
	// it only a moment after they have answered.
	steady = 500 * time.Millisecond
	// neighbourPatience is how long a gateway that did not answer before a change
	// is waited for: the kernel asks three times, a second apart.
	neighbourPatience = 4 * time.Second
	// dialPatience bounds one attempt to connect.
	dialPatience = 5 * time.Second
)

// gates is what a transaction watches.
type gates struct {
	// before is the health of each NIC before its first change, by index.
	before map[int]inventory.Health
	// touched are the NICs that had a change which drops the carrier.
	touched  []int
	gateways []gateway
	// bonds are the names of the host's bonds and teams.
	bonds []string
}

// gateway is a neighbour that answered before the first change.
type gateway struct {
	nic     string
	device  int
	address netip.Addr
}

func (t *transaction) gateTimeout() time.Duration {
	if t.Gates.Timeout == 0 {
		return gateTimeout
	}
	return t.Gates.Timeout
}

// watch notes what works before anything is changed.
func (t *transaction) watch(ctx context.Context) error {
	for _, address := range t.Gates.TCP {
		dialing, cancel := context.WithTimeout(ctx, min(dialPatience, t.gateTimeout()))
		err := t.Gates.Dial(dialing, address)
		cancel()
		if err != nil {
			return fmt.Errorf("%w: %s takes no connection even before the change: %w", ErrRefused, address, err)
		}
	}
	for _, nic := range t.changed() {
		if err := t.look(ctx, nic); err != nil {
			return fmt.Errorf("nothing was changed: %s: whether its link works can't be told: %w", nic.Name, err)
		}
		for _, use := range t.uses[nic.Index] {
			g := gateway{nic.Name, use.Device, use.Peer}
			if use.Kind != inventory.DefaultRoute || !use.Peer.IsValid() ||
				slices.ContainsFunc(t.gateways, func(o gateway) bool { return o.device == g.device && o.address == g.address }) {
				continue
			}
			if t.answers(ctx, g, time.Now().Add(neighbourPatience)) {
				t.gateways = append(t.gateways, g)
			}
		}
	}
	return ctx.Err()
}

// changed are the NICs of the plan, each once.
func (t *transaction) changed() []*inventory.NIC {
	var nics []*inventory.NIC
	for _, nic := range t.nics {
		if nic != nil && nic.Index != 0 && !slices.ContainsFunc(nics, func(n *inventory.NIC) bool { return n.Index == nic.Index }) {
			nics = append(nics, nic)
		}
	}
	return nics
}

// look notes the health of a NIC that nothing was done to yet. What can't be told
// before could not be missed later.
func (t *transaction) look(ctx context.Context, nic *inventory.NIC) error {
	if _, known := t.before[nic.Index]; known {
		return nil
	}
	if t.before == nil {
		t.before = map[int]inventory.Health{}
	}
	reading, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	health, err := inventory.ReadHealth(reading, t.Writer, *nic)
	if err != nil && kernel.ReasonOf(err) != kernel.Unsupported {
		return err
	}
	t.before[nic.Index] = health
	return nil
}

// turn waits until a NIC may be touched: until the other members of its bond or
// team that were touched before it work again.
func (t *transaction) turn(ctx context.Context, i int) error {
	nic := t.nics[i]
	if nic == nil || nic.Index == 0 || t.plan.Changes[i].Impact.Within(Seamless) {
		return nil
	}
	_ = t.look(ctx, nic) // it may be on its way back, which nothing may stop
	for _, other := range t.changed() {
		if other.Index == nic.Index || !slices.Contains(t.touched, other.Index) || !t.together(nic, other) {
			continue
		}
		if err := t.works(ctx, other); err != nil {
			return fmt.Errorf("%s is left alone, because %s of the same %s does not work again: %w", nic.Name, other.Name, nic.Stack.Master, err)
		}
	}
	if !slices.Contains(t.touched, nic.Index) {
		t.touched = append(t.touched, nic.Index)
	}
	return nil
}

// together says whether two NICs stand in for each other. A bridge's ports do
// not.
func (t *transaction) together(a, b *inventory.NIC) bool {
	return a.Stack.Master == b.Stack.Master && slices.Contains(t.bonds, a.Stack.Master)
}

// bondsOf are the names of the bonds and teams.
func bondsOf(nics []inventory.NIC) []string {
	var names []string
	for i := range nics {
		if nics[i].Type == "bond" || nics[i].Type == "team" {
			names = append(names, nics[i].Name)
		}
	}
	return names
}

// healthy waits until everything works as before the first change.
func (t *transaction) healthy(ctx context.Context) error {
	for _, nic := range t.changed() {
		if err := t.works(ctx, nic); err != nil {
			return err
		}
	}
	for _, g := range t.gateways {
		if !t.answers(ctx, g, time.Now().Add(t.gateTimeout())) {
			return t.shut(ctx, g.nic, fmt.Sprintf("the gateway %s does not answer", g.address))
		}
	}
	for _, address := range t.Gates.TCP {
		if err := t.takes(ctx, address); err != nil {
			return t.shut(ctx, "", fmt.Sprintf("%s takes no connection (%v)", address, err))
		}
	}
	return nil
}

// shut is the error of a gate, unless somebody did not want to wait for it.
func (t *transaction) shut(ctx context.Context, nic, what string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return &GateError{NIC: nic, What: what, After: t.gateTimeout()}
}

// works waits until a NIC's link is as it was before.
func (t *transaction) works(ctx context.Context, nic *inventory.NIC) error {
	deadline := time.Now().Add(t.gateTimeout())
	before, known := t.before[nic.Index]
	if !known || before.Carrier == nil || !*before.Carrier {
		return nil // there was nothing to lose
	}
	var since time.Time // when it last began to work
	for {
		reading, cancel := context.WithTimeout(ctx, t.timeout())
		now, err := inventory.ReadHealth(reading, t.Writer, *nic)
		cancel()
		var lacks string
		switch {
		case err != nil:
			lacks = err.Error()
		case now.Carrier == nil:
			lacks = "it is administratively down"
		case !*now.Carrier:
			lacks = "no carrier"
		case before.SpeedMbps != nil && !t.speedChosen(nic) && (now.SpeedMbps == nil || *now.SpeedMbps < *before.SpeedMbps):
			lacks = fmt.Sprintf("the speed was %d Mb/s and is %s", *before.SpeedMbps, speed(now.SpeedMbps))
		case before.MII == "up" && now.MII != "up":
			lacks = fmt.Sprintf("%s has the MII status %q", nic.Stack.Master, now.MII)
		}
		switch {
		case lacks != "":
			since = time.Time{}
		case !slices.Contains(t.touched, nic.Index):
			return nil
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= steady:
			return nil
		}
		if !sleep(ctx, gatePause, deadline) {
			if lacks == "" && ctx.Err() == nil {
				return nil // it works, if not for long
			}
			return t.shut(ctx, nic.Name, lacks)
		}
	}
}

func speed(mbps *int) string {
	if mbps == nil {
		return "unknown"
	}
	return fmt.Sprintf("%d Mb/s", *mbps)
}

// speedChosen says whether the plan chooses the speed of a NIC.
func (t *transaction) speedChosen(nic *inventory.NIC) bool {
	for i, n := range t.nics {
		if n != nil && n.Index == nic.Index && t.settings[i].choosesSpeed() {
			return true
		}
	}
	return false
}

// answers makes the kernel probe a gateway until it answers.
func (t *transaction) answers(ctx context.Context, g gateway, deadline time.Time) bool {
	var probed time.Time
	for !t.answered(ctx, g, &probed) {
		if !sleep(ctx, gatePause/5, deadline) {
			return false
		}
	}
	return true
}

// answered says whether a gateway has answered since it was first probed, and
// probes it when it is time to.
func (t *transaction) answered(ctx context.Context, g gateway, probed *time.Time) bool {
	const again = time.Second // the kernel's own pace
	ctx, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	n, err := readNeighbour(ctx, t.Writer, g.device, g.address)
	switch {
	case err == nil && n.static:
		return true
	case err == nil && n.reachable() && !probed.IsZero():
		return true
	case time.Since(*probed) >= again && n.state != "PROBE" && n.state != "INCOMPLETE":
		if err := probeNeighbour(ctx, t.Writer, g.device, g.address); err == nil {
			*probed = time.Now()
		}
	}
	return false
}

// takes tries a TCP target until it takes a connection.
func (t *transaction) takes(ctx context.Context, address string) error {
	deadline := time.Now().Add(t.gateTimeout())
	for {
		dialing, cancel := context.WithTimeout(ctx, min(dialPatience, max(time.Until(deadline), gatePause)))
		err := t.Gates.Dial(dialing, address)
		cancel()
		if err == nil || !sleep(ctx, gatePause, deadline) {
			return err
		}
	}
}
