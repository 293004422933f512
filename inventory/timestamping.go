package inventory

import (
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Timestamping is what ethtool -T shows. The words are ethtool's.
type Timestamping struct {
	Capabilities []string `json:"capabilities,omitempty"`
	TXTypes      []string `json:"txTypes,omitempty"`
	RXFilters    []string `json:"rxFilters,omitempty"`
	// PHC is the number of the PTP hardware clock, /dev/ptpN.
	PHC *int `json:"phc,omitempty"`
}

// fileTimestamping files an ETHTOOL_MSG_TSINFO_GET_REPLY.
func fileTimestamping(n *NIC, w *words, body []byte) error {
	t := &Timestamping{}
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		var names *[]string
		var set uint32
		switch attributes.Type {
		case uapi.ETHTOOL_A_TSINFO_TIMESTAMPING:
			names, set = &t.Capabilities, uapi.ETH_SS_SOF_TIMESTAMPING
		case uapi.ETHTOOL_A_TSINFO_TX_TYPES:
			names, set = &t.TXTypes, uapi.ETH_SS_TS_TX_TYPES
		case uapi.ETHTOOL_A_TSINFO_RX_FILTERS:
			names, set = &t.RXFilters, uapi.ETH_SS_TS_RX_FILTERS
		case uapi.ETHTOOL_A_TSINFO_PHC_INDEX:
			t.PHC = new(int(attributes.Uint32()))
			continue
		default:
			continue
		}
		bits, err := decodeBitset(attributes.Data)
		if err != nil {
			return err
		}
		*names = w.list(set, bits.value)
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	n.Offloads.Timestamping = t
	return nil
}
