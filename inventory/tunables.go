package inventory

import (
	"context"
	"encoding/binary"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// A tunable is one number that only ioctls tell.
type tunable struct {
	name string
	id   uint32
	kind uint32 // ETHTOOL_TUNABLE_*
	size int
}

// tunables are those of ethtool --get-tunable.
func tunables() []tunable {
	return []tunable{
		{"rx-copybreak", uapi.ETHTOOL_RX_COPYBREAK, uapi.ETHTOOL_TUNABLE_U32, 4},
		{"tx-copybreak", uapi.ETHTOOL_TX_COPYBREAK, uapi.ETHTOOL_TUNABLE_U32, 4},
		{"tx-buf-size", uapi.ETHTOOL_TX_COPYBREAK_BUF_SIZE, uapi.ETHTOOL_TUNABLE_U32, 4},
		{"pfc-prevention-tout", uapi.ETHTOOL_PFC_PREVENTION_TOUT, uapi.ETHTOOL_TUNABLE_U16, 2},
	}
}

// readTunables reads the tunables of the devices that have any.
func readTunables(ctx context.Context, s *survey) {
	s.askEach("offloads.tunables", func(n *NIC) (err error) {
		n.Offloads.Tunables, err = deviceTunables(ctx, s, n.Name)
		return err
	})
}

// deviceTunables are one device's. A driver knows some and refuses others, in
// its own way; the error is for a device that told none.
func deviceTunables(ctx context.Context, s *survey, device string) (map[string]uint32, error) {
	var refusal error
	values := map[string]uint32{}
	for _, t := range tunables() {
		answer, err := s.Ethtool(ctx, device, t.request())
		if err == nil {
			if values[t.name], err = t.decode(device, answer); err != nil {
				return nil, err
			}
			continue
		}
		if refusal == nil || kernel.ReasonOf(refusal) == kernel.Failed {
			refusal = err
		}
		if lost(err) || kernel.ReasonOf(err) == kernel.Denied {
			return nil, err
		}
	}
	if len(values) == 0 {
		return nil, refusal
	}
	return values, nil
}

// tunableData is where the value lies behind struct ethtool_tunable.
const tunableData = 16

func (t tunable) request() []byte {
	b := binary.NativeEndian.AppendUint32(nil, uapi.ETHTOOL_GTUNABLE)
	b = binary.NativeEndian.AppendUint32(b, t.id)
	b = binary.NativeEndian.AppendUint32(b, t.kind)
	b = binary.NativeEndian.AppendUint32(b, uint32(t.size))
	return append(b, make([]byte, t.size)...)
}

func (t tunable) decode(device string, b []byte) (uint32, error) {
	if len(b) < tunableData+t.size {
		return 0, short("GTUNABLE", device, b)
	}
	if t.size == 2 {
		return uint32(binary.NativeEndian.Uint16(b[tunableData:])), nil
	}
	return binary.NativeEndian.Uint32(b[tunableData:]), nil
}
