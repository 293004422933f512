package inventory

// Coalesce are the interrupt moderation settings of ethtool -c, by ethtool's own
// names ("rx-usecs", "adaptive-rx", "cqe-mode-rx", "tx-aggr-max-bytes"). Numbers
// and flags are two maps; one that the driver lacks is absent.
type Coalesce struct {
	Values map[string]uint32 `json:"values,omitempty"`
	Flags  map[string]bool   `json:"flags,omitempty"`
}
