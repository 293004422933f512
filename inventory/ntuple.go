package inventory

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Ntuple are the receive flow rules of ethtool -n.
type Ntuple struct {
	// Capacity is how many rules the device takes; absent where it doesn't say.
	Capacity *int `json:"capacity,omitempty"`
	// DriverChooses says that the driver chooses where a rule goes
	// (RX_CLS_LOC_SPECIAL).
	DriverChooses bool       `json:"driverChooses,omitempty"`
	Rules         []FlowRule `json:"rules,omitempty"`
}

// FlowRule is one receive flow rule.
type FlowRule struct {
	Location uint32 `json:"location"`
	// FlowType is ethtool's: "tcp4", "udp6", "ether".
	FlowType string `json:"flowType"`
	// Match are the fields compared, by ethtool's names ("src-ip", "dst-port",
	// "vlan"), as value, or value/mask where the mask isn't full: the bits set in
	// it are compared.
	Match map[string]string `json:"match,omitempty"`
	// Action is "drop", "wake", or "queue" with Queue, which is one of VF number VF
	// where that is present, and is added to what Context's table says where that is.
	Action  string  `json:"action"`
	Queue   *uint32 `json:"queue,omitempty"`
	VF      *uint32 `json:"vf,omitempty"`
	Context *uint32 `json:"context,omitempty"`

	// partial: the rule compares what ethtool -N has no words for.
	partial bool
}

// maxRules bounds a list of rules: devices hold up to some 16,000.
const maxRules = 1 << 17

// readNtuple reads the receive flow rules.
func readNtuple(ctx context.Context, s *survey) {
	s.askEach("queues.ntuple", func(n *NIC) (err error) {
		n.Queues.Ntuple, err = ntuple(ctx, s, n.Name)
		return err
	})
}

// ntuple reads one device's rules: how many, where, and each. Rules come and go
// meanwhile: one that is gone when its turn comes is left out.
func ntuple(ctx context.Context, s kernel.Reader, device string) (*Ntuple, error) {
	list, capacity, chooses, err := ruleLocations(ctx, s, device)
	if err != nil {
		return nil, err
	}
	t := &Ntuple{DriverChooses: chooses}
	if capacity > 0 {
		t.Capacity = new(int(capacity))
	}
	for _, location := range list {
		request := rxnfc(uapi.ETHTOOL_GRXCLSRULE, 0)
		binary.NativeEndian.PutUint32(request[rxnfcSpec+specLocation:], location)
		answer, err := s.Ethtool(ctx, device, request)
		if kernel.ReasonOf(err) == kernel.Unsupported {
			continue // ENOENT: deleted since
		}
		if err != nil {
			return t, fmt.Errorf("rule %d: %w", location, err)
		}
		rule, err := decodeRule(device, answer)
		if err != nil {
			return t, fmt.Errorf("rule %d: %w", location, err)
		}
		t.Rules = append(t.Rules, rule)
	}
	return t, nil
}

// ruleLocations are where the rules are, how many the device takes, and whether
// its driver chooses where. The list fails when rules were added since they were
// counted: it is tried again.
func ruleLocations(ctx context.Context, s kernel.Reader, device string) (locations []uint32, capacity uint32, chooses bool, err error) {
	for range 3 {
		var answer []byte
		if answer, err = s.Ethtool(ctx, device, rxnfc(uapi.ETHTOOL_GRXCLSRLCNT, 0)); err != nil {
			return nil, 0, false, err
		}
		if len(answer) < rxnfcSize {
			return nil, 0, false, short("GRXCLSRLCNT", device, answer)
		}
		count := binary.NativeEndian.Uint32(answer[rxnfcCount:])
		if count > maxRules {
			return nil, 0, false, short("GRXCLSRLCNT", device, answer)
		}
		chooses = binary.NativeEndian.Uint64(answer[rxnfcData:])&uapi.RX_CLS_LOC_SPECIAL != 0
		request := rxnfc(uapi.ETHTOOL_GRXCLSRLALL, int(count))
		binary.NativeEndian.PutUint32(request[rxnfcCount:], count)
		if answer, err = s.Ethtool(ctx, device, request); err == nil {
			locations, capacity, err = decodeLocations(device, answer)
			return locations, capacity, chooses, err
		}
		if kernel.ReasonOf(err) != kernel.Failed || ctx.Err() != nil {
			break
		}
	}
	return nil, 0, false, err
}

// decodeLocations decodes the answer to ETHTOOL_GRXCLSRLALL: where rules are,
// and how many the device takes.
func decodeLocations(device string, b []byte) (locations []uint32, capacity uint32, err error) {
	if len(b) < rxnfcLocations {
		return nil, 0, short("GRXCLSRLALL", device, b)
	}
	count := binary.NativeEndian.Uint32(b[rxnfcCount:])
	if count > maxRules || len(b) < rxnfcLocations+4*int(count) {
		return nil, 0, short("GRXCLSRLALL", device, b)
	}
	for i := range int(count) {
		locations = append(locations, binary.NativeEndian.Uint32(b[rxnfcLocations+4*i:]))
	}
	// Some drivers mark here, too, that they choose locations themselves.
	return locations, uint32(binary.NativeEndian.Uint64(b[rxnfcData:])) &^ uapi.RX_CLS_LOC_SPECIAL, nil
}
