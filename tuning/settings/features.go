package settings

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/tuning"
)

// FeatureSet is the state of every feature, by the kernel's names.
type FeatureSet map[string]FeatureState

// FeatureState is what ethtool -k shows of a feature. Its JSON is true or false;
// where a request has not been followed it is ethtool's "off [requested on]".
type FeatureState struct {
	Active bool
	// Requested is what was asked for. The kernel remembers it, and follows it as
	// soon as what is in the way has gone.
	Requested bool
}

// Where a request has not been followed, in ethtool's words.
const (
	offRequestedOn = "off [requested on]"
	onRequestedOff = "on [requested off]"
)

// MarshalJSON implements json.Marshaler.
func (f FeatureState) MarshalJSON() ([]byte, error) {
	switch {
	case f.Active == f.Requested:
		return strconv.AppendBool(nil, f.Active), nil
	case f.Active:
		return json.Marshal(onRequestedOff)
	default:
		return json.Marshal(offRequestedOn)
	}
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *FeatureState) UnmarshalJSON(b []byte) error {
	switch s := string(b); s {
	case "true":
		*f = FeatureState{true, true}
	case "false":
		*f = FeatureState{}
	case `"` + onRequestedOff + `"`:
		*f = FeatureState{Active: true}
	case `"` + offRequestedOn + `"`:
		*f = FeatureState{Requested: true}
	default:
		return fmt.Errorf("a feature is on or off, not %s", s)
	}
	return nil
}

// Features is ethtool -K.
func Features() tuning.Knob[FeatureSet] {
	return tuning.Knob[FeatureSet]{
		Name: "features",
		Doc: "What the NIC does for the stack (ethtool -K): any name that ethtool -k shows. " +
			"Switching some that concern receiving resets the NIC with many drivers.",
		Aliases: featureAliases(),
		After:   []string{sriov.SwitchSetting}, // mlx5 builds its network device anew as an uplink
		Impact:  featuresImpact,
		Read:    readFeatures,
		Write:   writeFeatures,
	}
}

// featureAliases are ethtool's own names for features, which are older than the
// kernel's, and its short forms.
func featureAliases() map[string][]string {
	aliases := map[string][]string{
		"rx-checksumming":              {"rx-checksum"},
		"tx-checksumming":              {"tx-checksum-ipv4", "tx-checksum-ip-generic", "tx-checksum-ipv6", "tx-checksum-fcoe-crc", "tx-checksum-sctp"},
		"scatter-gather":               {"tx-scatter-gather", "tx-scatter-gather-fraglist"},
		"tcp-segmentation-offload":     {"tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation"},
		"generic-segmentation-offload": {"tx-generic-segmentation"},
		"generic-receive-offload":      {"rx-gro"},
		"large-receive-offload":        {"rx-lro"},
		"rx-vlan-offload":              {"rx-vlan-hw-parse"},
		"tx-vlan-offload":              {"tx-vlan-hw-insert"},
		"ntuple-filters":               {"rx-ntuple-filter"},
		"receive-hashing":              {"rx-hashing"},
	}
	for short, long := range map[string]string{
		"rx": "rx-checksumming", "tx": "tx-checksumming", "sg": "scatter-gather",
		"tso": "tcp-segmentation-offload", "gso": "generic-segmentation-offload",
		"gro": "generic-receive-offload", "lro": "large-receive-offload", "rxvlan": "rx-vlan-offload",
		"txvlan": "tx-vlan-offload", "ntuple": "ntuple-filters", "rxhash": "receive-hashing",
	} {
		aliases[short] = aliases[long]
	}
	return aliases
}

// featuresImpact is for the worst of the drivers. What the stack does itself,
// and what it merely leaves to the NIC packet by packet when sending, is
// switched between two packets. For the rest igb, e1000e, ixgbe, mlx5 and others
// set the hardware up anew.
func featuresImpact(_ inventory.NIC, current, next FeatureSet) tuning.Impact {
	for name := range next {
		if next[name] == current[name] {
			continue
		}
		sending := strings.HasPrefix(name, "tx-") && !strings.HasPrefix(name, "tx-vlan-")
		if !sending && !strings.HasPrefix(name, "rx-gro") && name != "rx-udp-gro-forwarding" || name == "rx-gro-hw" {
			return tuning.NICReset
		}
	}
	return tuning.Seamless
}

// readFeatures has as limit the features that can't be changed, which are what
// they are.
func readFeatures(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit FeatureSet, err error) {
	const most = 64 // that a kernel can have
	type states struct{ current, limit FeatureSet }
	all, err := inventory.FeaturesAs(ctx, r, nic, func(all *states, name string, f inventory.Feature) {
		if all.current == nil {
			*all = states{make(FeatureSet, most), make(FeatureSet, most)}
		}
		all.current[name] = FeatureState{Active: f.Active, Requested: f.Wanted}
		if f.Fixed {
			all.current[name] = FeatureState{Active: f.Active, Requested: f.Active}
			all.limit[name] = all.current[name]
		}
	})
	return all.current, all.limit, err
}

func writeFeatures(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next FeatureSet) error {
	// A feature whose request was not followed is asked for again, or given up.
	from, to := map[string]bool{}, map[string]bool{}
	for name := range next {
		if next[name] != current[name] {
			from[name], to[name] = !next[name].Requested, next[name].Requested
		}
	}
	return set(ctx, w, uapi.ETHTOOL_MSG_FEATURES_SET, about(nic).
		Nested(uapi.ETHTOOL_A_FEATURES_WANTED, flips(from, to)))
}
