package inventory

// Feature is the state of one offload feature.
type Feature struct {
	// Active is whether it is on.
	Active bool `json:"active"`
	// Wanted is whether somebody asked for it. Where it differs from Active a
	// dependency is in the way.
	Wanted bool `json:"wanted"`
	// Hardware is whether a user can switch it.
	Hardware bool `json:"hardware"`
	// Fixed is ethtool's "[fixed]": it can't be changed.
	Fixed bool `json:"fixed,omitempty"`
}
