package metrics

import (
	"maps"
	"slices"

	"github.com/nictune/nictune/inventory"
)

// Drift is how far a host is from its policies.
type Drift struct {
	// Shipped says that the policies are those that nictune ships, each held against the
	// host by itself: alternatives that nobody chose.
	Shipped  bool
	Settings []DriftedSetting
	// Skipped is what policies call optional and the NICs lack.
	Skipped []SkippedSetting
	// Matched counts the NICs that each policy is for, by the policy's name.
	Matched map[string]int
	// Undecided are the NICs of which it can't be told whether a policy is for them.
	Undecided []UndecidedMatch
	// InError says that the policies could not be compared with the host.
	InError bool
}

// UndecidedMatch is a NIC that lacks a fact which a policy's match asks for.
type UndecidedMatch struct {
	Policy, Device string
}

// DriftedSetting is one setting of one NIC that a policy wants something of.
type DriftedSetting struct {
	// Device is empty for a setting of the whole host.
	Policy, Device, Setting string
	// Drifted is whether it differs from that. It says nothing where Reason is
	// set: what is wanted can't be had, or could not be compared.
	Drifted bool
	Reason  inventory.Reason
}

// SkippedSetting is a setting, or a field of one, that a policy calls optional and that
// the device lacks.
type SkippedSetting struct {
	// Device is empty for a setting of the whole host, Field where the setting as a whole
	// is skipped: then it is not among [Drift.Settings].
	Policy, Device, Setting, Field string
}

// origins is part of the help of what policies want. A name tells nothing: a policy that
// was given may be called as one that is shipped.
const origins = "The origin is given (--policy), or shipped: an alternative that nobody chose."

// policy says how far the host is from its policies.
func policy() collector {
	return collector{
		name: "policy", doc: "drift from the policies",
		of: func(s *Snapshot) any { return s.Drift },
		define: func(c *catalogue) func(*Snapshot) {
			drifted := c.add(Metric{
				Name: "policy_setting_drifted", Type: gauge, Labels: []string{"policy", "origin", deviceLabel, "setting"},
				Help:   "Whether a setting differs from what a policy wants. A setting of the whole host has no device. " + origins,
				Source: "`nictune plan`", Series: "1 per policy, device and setting that it wants",
			})
			impossible := c.add(Metric{
				Name: "policy_setting_impossible", Type: gauge, Labels: []string{"policy", "origin", deviceLabel, "setting", "reason"},
				Help:   "A setting that a policy wants and that the NIC can't have, by reason. Always 1. " + origins,
				Source: "`nictune plan`", Series: "1 per policy, device and setting that it wants, instead of drifted",
			})
			skipped := c.add(Metric{
				Name: "policy_setting_skipped", Type: gauge, Labels: []string{"policy", "origin", deviceLabel, "setting", "field"},
				Help:   "A setting that a policy calls optional and that the NIC lacks, or, with a field, that part of it. Always 1. " + origins,
				Source: "`nictune plan`", Series: "1 per policy, device and setting that it wants, instead of drifted, or 1 per such field",
			})
			matched := c.add(Metric{
				Name: "policy_matched_nics", Type: gauge, Unit: "NICs", Labels: []string{"policy", "origin"}, Help: "How many NICs a policy is for. " + origins,
				Source: "`nictune plan`", Series: "1 per policy",
			})
			undecided := c.add(Metric{
				Name: "policy_undecided", Type: gauge, Labels: []string{"policy", "origin", deviceLabel},
				Help:   "A NIC to which a policy is not applied because a fact that its match asks for is unknown, such as the speed of a link that is down. Always 1. " + origins,
				Source: "`nictune plan`", Series: "at most 1 per policy and device",
			})
			inError := c.add(Metric{
				Name: "policy_error", Type: gauge, Help: "Whether the policies could not be compared with the host.",
				Source: "`nictune plan`", Series: "1",
			})
			return func(s *Snapshot) {
				d := s.Drift
				if d == nil {
					return
				}
				inError.set(truth(d.InError))
				origin := "given"
				if d.Shipped {
					origin = "shipped"
				}
				for _, s := range d.Settings {
					if s.Reason != "" {
						impossible.set(1, s.Policy, origin, s.Device, s.Setting, string(s.Reason))
						continue
					}
					drifted.set(truth(s.Drifted), s.Policy, origin, s.Device, s.Setting)
				}
				for _, s := range d.Skipped {
					skipped.set(1, s.Policy, origin, s.Device, s.Setting, s.Field)
				}
				for _, policy := range slices.Sorted(maps.Keys(d.Matched)) {
					matched.set(float64(d.Matched[policy]), policy, origin)
				}
				for _, u := range d.Undecided {
					undecided.set(1, u.Policy, origin, u.Device)
				}
			}
		},
	}
}
