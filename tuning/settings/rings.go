package settings

import (
	"context"
	"math/bits"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// RingSizes are the descriptor rings, as ethtool -g shows them.
type RingSizes struct {
	RX           *uint32 `json:"rx,omitempty" doc:"descriptors of a receive ring" words:"max"`
	RXMini       *uint32 `json:"rx-mini,omitempty" doc:"descriptors of a receive ring for small frames" words:"max"`
	RXJumbo      *uint32 `json:"rx-jumbo,omitempty" doc:"descriptors of a receive ring for jumbo frames" words:"max"`
	TX           *uint32 `json:"tx,omitempty" doc:"descriptors of a transmit ring" words:"max"`
	RXBufLen     *uint32 `json:"rx-buf-len,omitempty" doc:"size of a receive buffer in bytes"`
	CQESize      *uint32 `json:"cqe-size,omitempty" doc:"size of a completion queue entry in bytes"`
	TXPush       *bool   `json:"tx-push,omitempty" doc:"write descriptors to the NIC directly instead of having it fetch them"`
	RXPush       *bool   `json:"rx-push,omitempty" doc:"as tx-push, for receive descriptors"`
	TXPushBufLen *uint32 `json:"tx-push-buf-len,omitempty" doc:"bytes of a packet that tx-push writes along" words:"max"`
	TCPDataSplit *bool   `json:"tcp-data-split,omitempty" doc:"put headers and TCP payload into separate buffers"`
	HDSThreshold *uint32 `json:"hds-thresh,omitempty" doc:"payload in bytes from which tcp-data-split splits" words:"max"`
}

// The values of ETHTOOL_A_RINGS_TCP_DATA_SPLIT.
const (
	splitOff = uapi.ETHTOOL_TCP_DATA_SPLIT_DISABLED
	splitOn  = uapi.ETHTOOL_TCP_DATA_SPLIT_ENABLED
)

// Rings is ethtool -G.
func Rings() tuning.Knob[RingSizes] {
	return tuning.Knob[RingSizes]{
		Name: "rings",
		Doc:  "How many packets the NIC's rings hold (ethtool -G). Changing it resets the NIC with most drivers.",
		Impact: func(_ inventory.NIC, _, _ RingSizes) tuning.Impact {
			return tuning.NICReset
		},
		Round: roundRings,
		Read:  readRings,
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next RingSizes) error {
			b := about(nic)
			b = changed(b, uapi.ETHTOOL_A_RINGS_RX, current.RX, next.RX)
			b = changed(b, uapi.ETHTOOL_A_RINGS_RX_MINI, current.RXMini, next.RXMini)
			b = changed(b, uapi.ETHTOOL_A_RINGS_RX_JUMBO, current.RXJumbo, next.RXJumbo)
			b = changed(b, uapi.ETHTOOL_A_RINGS_TX, current.TX, next.TX)
			b = changed(b, uapi.ETHTOOL_A_RINGS_RX_BUF_LEN, current.RXBufLen, next.RXBufLen)
			b = changed(b, uapi.ETHTOOL_A_RINGS_CQE_SIZE, current.CQESize, next.CQESize)
			b = switched(b, uapi.ETHTOOL_A_RINGS_TX_PUSH, current.TXPush, next.TXPush, 0, 1)
			b = switched(b, uapi.ETHTOOL_A_RINGS_RX_PUSH, current.RXPush, next.RXPush, 0, 1)
			b = changed(b, uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN, current.TXPushBufLen, next.TXPushBufLen)
			b = switched(b, uapi.ETHTOOL_A_RINGS_TCP_DATA_SPLIT, current.TCPDataSplit, next.TCPDataSplit, splitOff, splitOn)
			b = changed(b, uapi.ETHTOOL_A_RINGS_HDS_THRESH, current.HDSThreshold, next.HDSThreshold)
			return set(ctx, w, uapi.ETHTOOL_MSG_RINGS_SET, b)
		},
	}
}

// roundRings rounds sizes as the driver does in its set_ringparam: what isn't here
// takes them as they are, or nobody has looked. What a driver makes of sizes below
// its smallest is left for it to show.
func roundRings(nic inventory.NIC, next RingSizes) RingSizes {
	var round func(n uint32) uint32
	switch driverOf(nic) {
	case "e1000", "e1000e", "igb", "igbvf", "igc", "ixgbe", "ixgbevf": // REQ_RX_DESCRIPTOR_MULTIPLE, or IXGBE_...
		round = func(n uint32) uint32 { return (n + 7) &^ 7 }
	case "i40e", "ice": // I40E_REQ_DESCRIPTOR_MULTIPLE, ICE_REQ_DESC_MULTIPLE
		round = func(n uint32) uint32 { return (n + 31) &^ 31 }
	case "mlx5_core": // order_base_2
		round = func(n uint32) uint32 { return 1 << bits.Len32(max(n, 1)-1) }
	case "ena": // rounddown_pow_of_two
		round = func(n uint32) uint32 { return 1 << (bits.Len32(max(n, 1)) - 1) }
	default:
		return next
	}
	for _, size := range []**uint32{&next.RX, &next.TX} {
		if *size != nil && **size <= 1<<31 {
			*size = new(round(**size))
		}
	}
	return next
}

func readRings(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit RingSizes, err error) {
	rings, err := inventory.ReadRings(ctx, r, nic)
	if err != nil || rings == nil {
		return current, limit, err
	}
	for _, f := range []struct {
		size           *inventory.RingSize
		current, limit **uint32
	}{
		{rings.RX, &current.RX, &limit.RX},
		{rings.RXMini, &current.RXMini, &limit.RXMini},
		{rings.RXJumbo, &current.RXJumbo, &limit.RXJumbo},
		{rings.TX, &current.TX, &limit.TX},
		{rings.TXPushBufLen, &current.TXPushBufLen, &limit.TXPushBufLen},
		{rings.HDSThreshold, &current.HDSThreshold, &limit.HDSThreshold},
	} {
		if f.size != nil {
			*f.current, *f.limit = &f.size.Current, &f.size.Maximum
		}
	}
	current.RXBufLen, current.CQESize = rings.RXBufLen, rings.CQESize
	current.TXPush, current.RXPush = rings.TXPush, rings.RXPush
	switch rings.TCPDataSplit {
	case "on":
		current.TCPDataSplit = new(true)
	case "off":
		current.TCPDataSplit = new(false)
	}
	return current, limit, nil
}
