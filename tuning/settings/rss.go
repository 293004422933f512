package settings

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/tuning"
)

// RSSState is the default context of receive side scaling, as ethtool -x shows
// it: the queue of each bucket, the key in colon-separated hex, the hash function,
// and "none" or what is done to a packet's fields before hashing.
type RSSState struct {
	Table          []uint32 `json:"table,omitempty"`
	Key            string   `json:"key,omitempty"`
	Hash           string   `json:"hfunc,omitempty"`
	InputTransform string   `json:"input-xfrm,omitempty"`
}

// RSSWish is what policies say, in the words of ethtool -X.
type RSSWish struct {
	Equal         *uint32 `json:"equal,omitempty" group:"table" doc:"spread evenly over so many queues, from queue 0 on"`
	Start         *uint32 `json:"start,omitempty" group:"table" doc:"the first queue of equal and weight, instead of queue 0"`
	Weight        *string `json:"weight,omitempty" group:"table" form:"a list of numbers" doc:"the share of each queue, from queue 0 on: [3, 1] sends three quarters to queue 0"`
	ExcludeQueues *string `json:"exclude-queues,omitempty" group:"table" form:"a list of queues" doc:"queues that get nothing; alone it spreads evenly over all others, with equal over the first of the others"`
	Default       *bool   `json:"default,omitempty" group:"table" doc:"on: each queue in turn, as the kernel has it at first"`
	Key           *string `json:"key,omitempty" form:"bytes in hex as in 6d:5a:..." doc:"the hash key, of the length that ethtool -x shows"`
	HashFunction  *string `json:"hfunc,omitempty" words:"toeplitz,xor,crc32" doc:"the hash function"`
	Transform     *string `json:"input-xfrm,omitempty" words:"none,symmetric-xor,symmetric-or-xor" doc:"what is done to the fields before hashing: a symmetric one sends both directions of a connection to one queue"`
}

func (w RSSWish) wantsTable() bool {
	return w.Equal != nil || w.Start != nil || w.Weight != nil || w.ExcludeQueues != nil || w.Default != nil && *w.Default
}

// RSS is ethtool -X.
func RSS() tuning.Knob[RSSState] {
	return tuning.Knob[RSSState]{
		Name: "rss",
		Doc: "Which queues receive (ethtool -X): the indirection table, the key and how it hashes. " +
			"Packets of a flow may be reordered once when it moves to another queue.",
		Impact:  func(nic inventory.NIC, _, _ RSSState) tuning.Impact { return hashImpact(nic) },
		Breaks:  rssBreaks,
		Wish:    tuning.WishOf(resolveRSS),
		After:   []string{"channels", sriov.CountSetting}, // igb has fewer queues beside VFs
		MakeWay: makeWayRSS,
		Keep:    keepRSS,
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit RSSState, err error) {
			rss, err := inventory.ReadRSS(ctx, r, nic)
			if err != nil || rss == nil {
				return current, limit, err
			}
			transform := rss.InputTransform
			if transform == "" {
				transform = noTransform
			}
			return RSSState{Table: rss.Table, Key: rss.Key, Hash: rss.Hash, InputTransform: transform}, limit, nil
		},
		Write: writeRSS,
	}
}

// hashImpact: how packets are spread is written while they flow, but by these
// drivers, which open their queues anew for it (bnxt_set_rxfh and bnxt_srxfh,
// mlx4_en_set_rxfh).
func hashImpact(nic inventory.NIC) tuning.Impact {
	switch driverOf(nic) {
	case "bnxt_en", "mlx4_en":
		return tuning.NICReset
	}
	return tuning.Seamless
}

// rssBreaks: an AF_XDP socket lives on what the table sends to its queue. Another
// key or function sends it other flows, which nobody can tell from the ones that
// it has.
func rssBreaks(use inventory.Use, current, next RSSState) string {
	if use.Kind != inventory.XDPSocket {
		return ""
	}
	for i := range max(len(current.Table), len(next.Table)) {
		before := i < len(current.Table) && current.Table[i] == use.Queue
		after := i < len(next.Table) && next.Table[i] == use.Queue
		if before != after {
			return otherFlows(use)
		}
		if before && (current.Key != next.Key || current.Hash != next.Hash || current.InputTransform != next.InputTransform) {
			return otherHash(use)
		}
	}
	return ""
}

func otherFlows(use inventory.Use) string { return fmt.Sprintf("other flows for queue %d", use.Queue) }

func otherHash(use inventory.Use) string { return fmt.Sprintf("another hash for queue %d", use.Queue) }

func resolveRSS(ctx context.Context, ask tuning.Ask, wish RSSWish, current RSSState) (RSSState, error) {
	var queues uint64
	if wish.wantsTable() && len(current.Table) > 0 {
		var err error
		if queues, err = queuesToBe(ctx, ask); err != nil {
			return current, err
		}
	}
	return wish.apply(current, queues)
}

// apply is the state that is wished for, on a device with so many queues.
func (w RSSWish) apply(current RSSState, queues uint64) (next RSSState, err error) {
	next = current
	if w.Default != nil && !*w.Default {
		return next, errors.New("default takes on only: without it the table is what the rest says, or stays")
	}
	if w.wantsTable() {
		if len(current.Table) == 0 {
			return next, unsupported("the device has no indirection table")
		}
		if next.Table, err = w.table(len(current.Table), queues); err != nil {
			return next, err
		}
	}
	if w.Key != nil {
		if current.Key == "" {
			return next, unsupported("the device has no key")
		}
		key := strings.ToLower(*w.Key)
		if b, err := parseKey(key); err != nil || 3*len(b)-1 != len(current.Key) {
			return next, fmt.Errorf("key: it takes %d bytes in hex with colons between", (len(current.Key)+1)/3)
		}
		next.Key = key
	}
	if w.HashFunction != nil {
		if current.Hash == "" {
			return next, unsupported("the device names no hash function")
		}
		next.Hash = *w.HashFunction
	}
	if w.Transform != nil {
		next.InputTransform = *w.Transform
	}
	return next, nil
}

// makeWayRSS is what a table has to be before channels it names can go: the kernel
// refuses to take them away as long as a table that somebody set names them, and
// it doesn't say who set it. The share of each queue that stays is as even as the
// size of the table allows, in runs, so that it is not the table that the kernel
// makes itself: that one is written when the channels have gone (keepRSS).
func makeWayRSS(_ context.Context, ask tuning.Ask, current RSSState) (RSSState, error) {
	queues, ok := plannedQueues(ask.Planned, receiving)
	if !ok || queues == 0 || !names(current.Table, queues) {
		return current, nil
	}
	next := current
	next.Table = make([]uint32, len(current.Table))
	for i := range next.Table {
		next.Table[i] = uint32(uint64(i) * queues / uint64(len(next.Table)))
	}
	return next, nil
}

// keepRSS keeps a table that somebody chose, as long as its queues are there. One
// that is spread evenly over all queues follows their number, as the kernel's
// own does.
func keepRSS(ask tuning.Ask, before RSSState) (RSSState, error) {
	queues, ok := plannedQueues(ask.Planned, receiving)
	switch {
	case !ok || queues == 0:
	case names(before.Table, queues):
		before.Table = slices.Clone(before.Table)
		for i := range before.Table {
			before.Table[i] = uint32(uint64(i) % queues)
		}
	case evenly(before.Table, plannedBefore(ask.Planned, receiving)):
		before.Table = nil
	}
	return before, nil
}

// names says whether a table names a queue beyond so many.
func names(table []uint32, queues uint64) bool {
	return slices.ContainsFunc(table, func(queue uint32) bool { return uint64(queue) >= queues })
}

// evenly says whether a table gives each of so many queues the same share, as
// nearly as its size allows.
func evenly(table []uint32, queues uint64) bool {
	shares := map[uint32]uint64{}
	for _, queue := range table {
		shares[queue]++
	}
	for queue := range queues {
		if least := uint64(len(table)) / queues; shares[uint32(queue)]-least > 1 {
			return false
		}
	}
	return true
}

// rxRings is how many queues a table can name.
func rxRings(ctx context.Context, r kernel.Reader, nic inventory.NIC) (uint64, error) {
	queues, err := inventory.ReadRXRings(ctx, r, nic)
	if err == nil {
		return queues, nil
	}
	// A recorded host was not asked this.
	c, channelsErr := inventory.ReadChannels(ctx, r, nic)
	if channelsErr != nil || c == nil {
		return 0, err
	}
	for _, n := range []*inventory.ChannelCount{c.RX, c.Combined} {
		if n != nil {
			queues += uint64(n.Current)
		}
	}
	return queues, nil
}

// table is the table of so many entries that is wished for, on a device with so
// many queues. It is the one that ethtool -X makes of the same words.
func (w RSSWish) table(size int, queues uint64) ([]uint32, error) {
	excluded, err := parseNumbers(w.ExcludeQueues, "exclude-queues")
	if err != nil {
		return nil, err
	}
	for _, q := range excluded {
		if q >= queues {
			return nil, fmt.Errorf("exclude-queues: there is no queue %d, the device has %d now", q, queues)
		}
	}
	var start uint64
	if w.Start != nil {
		if start = uint64(*w.Start); start >= queues {
			return nil, fmt.Errorf("start: there is no queue %d, the device has %d now", start, queues)
		}
	}
	if w.Default != nil && *w.Default && (w.Equal != nil || w.Start != nil || w.Weight != nil || w.ExcludeQueues != nil) {
		return nil, errors.New("default says all: leave equal, start, weight and exclude-queues out")
	}
	if w.Weight != nil {
		if w.Equal != nil || w.ExcludeQueues != nil {
			return nil, errors.New("weight says all: leave equal and exclude-queues out, and give a queue the weight 0 to exclude it")
		}
		weights, err := parseNumbers(w.Weight, "weight")
		if err != nil {
			return nil, err
		}
		weights = append(make([]uint64, start), weights...)
		if uint64(len(weights)) > queues {
			return nil, fmt.Errorf("weight names %d queues, the device has %d now", len(weights), queues)
		}
		return weightedTable(size, weights)
	}
	var over []uint32
	for q := start; q < queues; q++ {
		if !slices.Contains(excluded, q) {
			over = append(over, uint32(q))
		}
	}
	if w.Equal != nil {
		if *w.Equal == 0 || uint64(*w.Equal) > uint64(len(over)) {
			return nil, fmt.Errorf("equal: %d: the device has %d queues for it now", *w.Equal, len(over))
		}
		over = over[:*w.Equal]
	}
	if len(over) == 0 {
		return nil, errors.New("exclude-queues leaves no queue to receive")
	}
	table := make([]uint32, size)
	for i := range table {
		table[i] = over[i%len(over)]
	}
	return table, nil
}

// weightedTable gives each queue a run of entries in proportion to its weight.
func weightedTable(size int, weights []uint64) ([]uint32, error) {
	var sum uint64
	for _, w := range weights {
		sum += w
	}
	if sum == 0 {
		return nil, errors.New("weight: all are 0, no queue would be left to receive")
	}
	table := make([]uint32, 0, size)
	var upTo uint64
	for queue, w := range weights {
		upTo += w
		for uint64(len(table)) < uint64(size)*upTo/sum {
			table = append(table, uint32(queue))
		}
	}
	return table, nil
}

// parseNumbers reads a list of numbers below 65536.
func parseNumbers(list *string, field string) ([]uint64, error) {
	if list == nil {
		return nil, nil
	}
	var numbers []uint64
	for part := range strings.SplitSeq(*list, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(part), 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%s takes a list of numbers as in [2, 3], not %q", field, *list)
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

func parseKey(text string) ([]byte, error) {
	return hex.DecodeString(strings.ReplaceAll(text, ":", ""))
}

// Offsets and values in struct ethtool_rxfh of linux/ethtool.h.
const (
	rxfhContext    = 4
	rxfhIndirSize  = 8
	rxfhKeySize    = 12
	rxfhFunction   = 16
	rxfhTransform  = 17
	rxfhConfig     = 24
	rxfhKeepsTable = 0xffffffff // ETH_RXFH_INDIR_NO_CHANGE
)

// noTransform is ethtool's word for no input transformation.
const noTransform = "none"

// rxfhRequest is an ETHTOOL_SRSSH about a context that changes nothing of it yet.
func rxfhRequest(number uint32) []byte {
	arg := make([]byte, rxfhConfig)
	binary.NativeEndian.PutUint32(arg, uapi.ETHTOOL_SRSSH)
	binary.NativeEndian.PutUint32(arg[rxfhContext:], number)
	binary.NativeEndian.PutUint32(arg[rxfhIndirSize:], rxfhKeepsTable)
	arg[rxfhTransform] = uapi.RXH_XFRM_NO_CHANGE
	return arg
}

// hashBit is the ETH_RSS_HASH_* of a name.
func hashBit(name string) (byte, error) {
	for i, known := range []string{"toeplitz", "xor", "crc32"} {
		if name == known {
			return 1 << i, nil
		}
	}
	return 0, unsupported("there is no hash function " + name)
}

// transformBits is the RXH_XFRM_* of a name.
func transformBits(name string) (byte, error) {
	switch name {
	case "", noTransform:
		return 0, nil
	case "symmetric-xor":
		return uapi.RXH_XFRM_SYM_XOR, nil
	case "symmetric-or-xor":
		return uapi.RXH_XFRM_SYM_OR_XOR, nil
	}
	return 0, unsupported("there is no input transformation " + name)
}

// writeRSS uses the ioctl, which all kernels have: netlink's RSS_SET is as young
// as Linux 6.17.
func writeRSS(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next RSSState) error {
	arg := rxfhRequest(0)
	// "Unchanged" has a value of its own only since Linux 6.8; older kernels want
	// a zero there.
	if bits, err := transformBits(next.InputTransform); err == nil {
		arg[rxfhTransform] = bits
	} else if next.InputTransform != current.InputTransform {
		return err
	}
	if current.Hash != next.Hash {
		bit, err := hashBit(next.Hash)
		if err != nil {
			return err
		}
		arg[rxfhFunction] = bit
	}
	if !slices.Equal(current.Table, next.Table) {
		queues, err := rxRings(ctx, w, nic)
		if err != nil {
			return err
		}
		if isDefault(next.Table, queues) {
			// As a table of the kernel's own it does not stand in the way of later
			// changes of the channels.
			binary.NativeEndian.PutUint32(arg[rxfhIndirSize:], 0)
		} else {
			binary.NativeEndian.PutUint32(arg[rxfhIndirSize:], uint32(len(next.Table)))
			for _, queue := range next.Table {
				arg = binary.NativeEndian.AppendUint32(arg, queue)
			}
		}
	}
	if current.Key != next.Key {
		key, err := parseKey(next.Key)
		if err != nil {
			return fmt.Errorf("key: %w", err)
		}
		binary.NativeEndian.PutUint32(arg[rxfhKeySize:], uint32(len(key)))
		arg = append(arg, key...)
	}
	_, err := w.EthtoolSet(ctx, nic.Name, arg)
	return err
}

// isDefault says whether a table is what the kernel makes of "default": each
// queue in turn (ethtool_rxfh_indir_default).
func isDefault(table []uint32, queues uint64) bool {
	for i, queue := range table {
		if queues == 0 || uint64(queue) != uint64(i)%queues {
			return false
		}
	}
	return true
}
