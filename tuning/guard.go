package tuning

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// Disruption is what a plan would do to something that a NIC is used for.
type Disruption struct {
	NIC Target `json:"nic"`
	// Settings are the changes that would, each with its impact or its reason.
	Settings []string `json:"settings"`
	// Uses are what would suffer.
	Uses []inventory.Use `json:"uses,omitempty"`
	// Unknown is why more of them can't be told, where some could not.
	Unknown string `json:"unknown,omitempty"`

	// names are those of the settings alone.
	names []string
}

// GuardError is a refusal for the sake of what a NIC is used for. It wraps
// [ErrRefused].
type GuardError struct {
	// Settings are those whose changes are refused; others of the plan may be made
	// without them.
	Settings []string
	text     string
}

// Error says what would be disturbed, and how to allow it.
func (e *GuardError) Error() string { return fmt.Sprintf("%v: %s", ErrRefused, e.text) }

// Unwrap gives ErrRefused.
func (e *GuardError) Unwrap() error { return ErrRefused }

// String is "eth0: channels (nic-reset) would disturb the default route via
// 10.0.0.1".
func (d Disruption) String() string {
	what := fmt.Sprintf("%s: %s", d.NIC.Name, strings.Join(d.Settings, ", "))
	if len(d.Uses) == 0 {
		return fmt.Sprintf("%s: what the NIC is used for can't be told: %s", what, d.Unknown)
	}
	uses := make([]string, 0, len(d.Uses))
	for _, u := range d.Uses {
		uses = append(uses, u.String())
	}
	what += " would disturb " + strings.Join(uses, "; ")
	if d.Unknown != "" {
		what += "; what else the NIC is used for can't be told: " + d.Unknown
	}
	return what
}

// Disruptions are what a plan would do to what its NICs are used for: a change
// above seamless to every use of its NIC, and a seamless one to those that its
// knob says it breaks. A NIC that is administratively down serves nothing itself,
// but its virtual functions can.
//
// Where unknown says why some uses could not be told, every change that could
// disturb one counts.
func Disruptions(settings []Setting, plan *Plan, nics []inventory.NIC, uses inventory.Uses, unknown error) ([]Disruption, error) {
	var all []Disruption
	anew := map[Target]bool{} // whose VFs an earlier change of the plan makes anew, all of them
	for _, c := range plan.Changes {
		i := slices.IndexFunc(nics, func(n inventory.NIC) bool { return TargetOf(&n) == c.NIC })
		rank := rank(settings, c.Setting)
		if i < 0 || rank < 0 {
			continue
		}
		var hit []inventory.Use
		var why string
		for _, use := range uses[nics[i].Index] {
			if nics[i].Link.Admin == "down" && use.VF == "" {
				continue
			}
			if use.Kind == inventory.VFGivenAway && (anew[c.NIC] || settings[rank].asksVictims()) {
				continue // it, or what made all VFs anew before it, knows whether somebody holds that VF
			}
			if !c.Impact.Within(Seamless) {
				hit, why = append(hit, use), string(c.Impact)
				continue
			}
			if use.VF != "" {
				continue // a VF has queues of its own, and its own MTU
			}
			breaks, err := settings[rank].breaks(use, c.Before, c.After)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", c.NIC.Name, c.Setting, err)
			}
			if breaks != "" {
				hit, why = append(hit, use), breaks
			}
		}
		if !c.Impact.Within(Seamless) && settings[rank].remakesVFs() {
			anew[c.NIC] = true
		}
		blind := unknown != nil && (!c.Impact.Within(Seamless) || settings[rank].mayBreak())
		if len(hit) == 0 && !blind {
			continue
		}
		if why == "" {
			why = string(c.Impact)
		}
		at := slices.IndexFunc(all, func(d Disruption) bool { return d.NIC == c.NIC })
		if at < 0 {
			at, all = len(all), append(all, Disruption{NIC: c.NIC})
		}
		d := &all[at]
		if blind {
			d.Unknown = unknown.Error()
		}
		d.Settings, d.names = append(d.Settings, fmt.Sprintf("%s (%s)", c.Setting, why)), append(d.names, c.Setting)
		for _, use := range hit {
			if !slices.Contains(d.Uses, use) {
				d.Uses = append(d.Uses, use)
			}
		}
	}
	return all, nil
}

func (k Knob[T]) mayBreak() bool    { return k.Breaks != nil }
func (k Knob[T]) asksVictims() bool { return k.Victims != nil }

// breaks asks the knob. Of what is not known before another change was made
// nothing can be told, and nothing is.
func (k Knob[T]) breaks(use inventory.Use, current, next Values) (string, error) {
	if k.Breaks == nil {
		return "", nil
	}
	from, to, err := both[T](current, next)
	if err != nil {
		return "", err
	}
	return k.Breaks(use, from, to), nil
}

// guarded refuses changes that would disturb what a NIC is used for, unless the
// request names that NIC.
func (t *transaction) guarded(ctx context.Context, nics []inventory.NIC, request Request) error {
	reading, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	victims, err := Victims(reading, t.Writer, t.Settings, t.plan, nics)
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	for _, name := range request.Disrupt {
		if !slices.ContainsFunc(nics, func(n inventory.NIC) bool { return isCalled(&n, name) }) &&
			!slices.ContainsFunc(victims, func(v Victim) bool { return slices.Contains(v.Names, name) }) {
			return fmt.Errorf("--disrupt: this host has no NIC %q; nictune inventory lists them", name)
		}
	}
	uses, fault := inventory.ReadUses(reading, t.Writer, nics)
	t.uses = uses
	plan := *t.plan // by the names that the NICs have now
	plan.Changes = slices.Clone(plan.Changes)
	for i := range plan.Changes {
		if t.nics[i] != nil {
			plan.Changes[i].NIC = TargetOf(t.nics[i])
		}
	}
	allowed := func(nic Target) bool {
		i := slices.IndexFunc(nics, func(n inventory.NIC) bool { return TargetOf(&n) == nic })
		return i >= 0 && slices.ContainsFunc(request.Disrupt, func(name string) bool { return isCalled(&nics[i], name) })
	}
	found, err := Disruptions(t.Settings, &plan, nics, uses, fault)
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	var reasons, names, refused []string
	for _, v := range victims {
		if !v.released(request) {
			reasons, names, refused = append(reasons, v.Text), append(names, v.Names[0]), append(refused, v.setting)
		}
	}
	for _, d := range found {
		if !allowed(d.NIC) {
			reasons, names, refused = append(reasons, d.String()), append(names, d.NIC.Name), append(refused, d.names...)
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	slices.Sort(refused)
	return &GuardError{
		Settings: slices.Compact(refused),
		text:     fmt.Sprintf("%s; to do it all the same: --disrupt %s", strings.Join(reasons, "; "), strings.Join(names, ",")),
	}
}

// Victim is somebody who would lose a device.
type Victim struct {
	// Names are what the device goes by, the one to release it by first: a PCI
	// address, the name of its network device.
	Names []string `json:"names"`
	// Text says who, and what: "eth1: sriov would take VF 3 (0000:01:10.6) from vm
	// web1 (pid 4711)".
	Text string `json:"text"`

	// setting is the one whose change would take it, where [Victims] found it.
	setting string
}

// released says whether a request names the victim.
func (v Victim) released(request Request) bool {
	return slices.ContainsFunc(v.Names, func(name string) bool { return slices.Contains(request.Disrupt, name) })
}

// Victims are who would lose a device by a plan.
func Victims(ctx context.Context, r kernel.Reader, settings []Setting, plan *Plan, nics []inventory.NIC) ([]Victim, error) {
	var all []Victim
	for _, c := range plan.Changes {
		i := slices.IndexFunc(nics, func(n inventory.NIC) bool { return TargetOf(&n) == c.NIC })
		rank := rank(settings, c.Setting)
		if i < 0 || rank < 0 {
			continue
		}
		victims, err := settings[rank].victims(ctx, r, nics[i], c.Before, c.After)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", c.NIC.Name, c.Setting, err)
		}
		for _, v := range victims {
			v.setting = c.Setting
			if !slices.ContainsFunc(all, func(o Victim) bool { return o.Text == v.Text }) {
				all = append(all, v)
			}
		}
	}
	return all, nil
}

// victims asks the knob.
func (k Knob[T]) victims(ctx context.Context, r kernel.Reader, nic inventory.NIC, current, next Values) ([]Victim, error) {
	if k.Victims == nil {
		return nil, nil
	}
	from, to, err := both[T](current, next)
	if err != nil {
		return nil, err
	}
	return k.Victims(ctx, r, nic, from, to)
}

// spares refuses a write that takes a device from somebody whom the request does
// not name: who was not there when the plan was begun, or came before its undo.
func (t *transaction) spares(ctx context.Context, i int, current, next Values) error {
	victims, err := t.settings[i].victims(ctx, t.Writer, *t.nics[i], current, next)
	if err != nil {
		return err
	}
	for _, v := range victims {
		if !v.released(t.journal.Request) {
			return fmt.Errorf("%w: %s", ErrRefused, v.Text)
		}
	}
	return nil
}

// isCalled says whether a NIC goes by a name: its own, another one of it, its
// PCI address or its identity.
func isCalled(n *inventory.NIC, name string) bool {
	return n.Name == name || slices.Contains(n.AltNames, name) || n.ID() == name || n.PCI != nil && n.PCI.Address == name
}
