package inventory

import (
	"encoding/binary"
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
)

// refusals remembers what software devices refuse: all devices of one type
// share their driver's operations, so one of a thousand veths is asked.
type refusals map[string]bool

// by says whether n is of a type that has refused.
func (r refusals) by(n *NIC) bool { return software(n) && r[n.Type] }

// note remembers an error of n's.
func (r refusals) note(n *NIC, err error) {
	if software(n) && kernel.ReasonOf(err) == kernel.Unsupported {
		r[n.Type] = true
	}
}

// software says that n is certainly no hardware: it has a link type of its own
// and no parent.
func software(n *NIC) bool { return n.Parent == nil && n.Type != "" && n.Type != "ether" }

// short is for an ioctl's answer that is smaller than its struct.
func short(command, device string, answer []byte) error {
	return &kernel.Error{
		Op: "SIOCETHTOOL " + command, Object: device,
		Err: fmt.Errorf("%w: %d bytes that do not hold what they announce", kernel.ErrMalformed, len(answer)),
	}
}

// Offsets in struct ethtool_rxnfc, which carries hash fields and receive rules.
const (
	rxnfcFlowType  = 4
	rxnfcData      = 8
	rxnfcSpec      = 16  // struct ethtool_rx_flow_spec
	rxnfcCount     = 184 // a count, or an RSS context
	rxnfcLocations = 188 // the list of rules
	rxnfcSize      = 192
)

// rxnfc is a struct ethtool_rxnfc with room for a list of so many locations.
func rxnfc(command uint32, locations int) []byte {
	b := make([]byte, max(rxnfcSize, rxnfcLocations+4*locations))
	binary.NativeEndian.PutUint32(b, command)
	return b
}
