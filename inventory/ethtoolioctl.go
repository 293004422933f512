package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
)

// askEach asks every NIC by ioctl for a fact, but for those whose answer is
// known. All software devices of one type share their driver's operations, so
// one of a thousand veths is asked for what it refuses. And one that is gone or
// hangs is not asked again: at a name that it doesn't know, the kernel runs
// modprobe, and each call that hangs costs the others its whole deadline.
func (s *survey) askEach(fact string, ask func(*NIC) error) {
	refused := s.refused[fact] // by type
	if refused == nil {
		refused = map[string]bool{}
		if s.refused == nil {
			s.refused = map[string]map[string]bool{}
		}
		s.refused[fact] = refused
	}
	for _, n := range s.nics {
		switch {
		case s.lost[n] != nil:
			n.missed(fact, s.lost[n])
			continue
		case software(n) && refused[n.Type]:
			n.Unread = append(n.Unread, Unread{Fact: fact, Reason: kernel.Unsupported})
			continue
		}
		err := ask(n)
		if err == nil {
			continue
		}
		switch {
		case lost(err):
			if s.lost == nil {
				s.lost = map[*NIC]error{}
			}
			s.lost[n] = err
		case kernel.ReasonOf(err) == kernel.Unsupported && software(n) && !errors.Is(err, kernel.ErrNotRecorded):
			refused[n.Type] = true
			n.Unread = append(n.Unread, Unread{Fact: fact, Reason: kernel.Unsupported})
			continue
		}
		n.missed(fact, err)
	}
}

// lost says of an error that the device will not answer other questions either.
func lost(err error) bool {
	return kernel.ReasonOf(err) == kernel.Gone || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
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
	rxnfcSpec      = 16                   // struct ethtool_rx_flow_spec
	rxnfcCount     = rxnfcSpec + specSize // a count, or an RSS context
	rxnfcLocations = rxnfcCount + 4       // the list of rules
)

// rxnfc is a struct ethtool_rxnfc with room for a list of so many locations.
func rxnfc(command uint32, locations int) []byte {
	b := make([]byte, max(rxnfcSize, rxnfcLocations+4*locations))
	binary.NativeEndian.PutUint32(b, command)
	return b
}
