package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Statistics are a device's standard counters, what ip -s -s link shows and
// /sys/class/net/NAME/statistics holds.
type Statistics struct {
	Name  string
	Index int
	// Values are in the order of StatisticNames. A kernel that lacks the last
	// ones gives fewer.
	Values []uint64
}

// StatisticNames are the names of the counters of Statistics: the fields of
// struct rtnl_link_stats64 in linux/if_link.h, in order. Counters of bytes end
// in _bytes, all others count packets or events.
func StatisticNames() []string { return statisticNames[:] }

var statisticNames = [...]string{
	"rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped",
	"multicast", "collisions",
	"rx_length_errors", "rx_over_errors", "rx_crc_errors", "rx_frame_errors", "rx_fifo_errors", "rx_missed_errors",
	"tx_aborted_errors", "tx_carrier_errors", "tx_fifo_errors", "tx_heartbeat_errors", "tx_window_errors",
	"rx_compressed", "tx_compressed", "rx_nohandler", "rx_otherhost_dropped",
}

// ReadStatistics reads the standard counters of all network devices of the
// caller's network namespace but the loopback, in the order of their indexes.
//
// It returns what it could read, with an error that names what it could not.
//
// It is one RTM_GETLINK dump: RTM_GETSTATS is cheaper for the kernel but does
// not know names, and a name read at another moment may belong to another
// device. Who keeps names current has a [Meter] for that.
func ReadStatistics(ctx context.Context, r kernel.Reader) ([]Statistics, error) {
	messages, err := r.Netlink(ctx, linkDump(0))
	if err != nil && !errors.Is(err, kernel.ErrInterrupted) {
		return nil, fmt.Errorf("read statistics: %w", err)
	}
	interrupted := err != nil
	all, errs := addStatistics(nil, messages)
	if interrupted {
		listed := make(map[string]bool, len(all))
		for _, one := range all {
			listed[one.Name] = true
		}
		missed, err := passedOver(ctx, r, 0, listed)
		errs = append(errs, err)
		var more []error
		all, more = addStatistics(all, missed)
		errs = append(errs, more...)
		// Of several answers about a device the last counts, and of several devices
		// that had one name the last to have it is the one that is there.
		slices.Reverse(all)
		held := make(map[string]bool, len(all))
		all = slices.DeleteFunc(all, func(s Statistics) bool {
			earlier := held[s.Name]
			held[s.Name] = true
			return earlier
		})
	}
	slices.SortStableFunc(all, func(a, b Statistics) int { return a.Index - b.Index })
	all = slices.CompactFunc(all, func(a, b Statistics) bool { return a.Index == b.Index })
	return all, errors.Join(errs...)
}

// addStatistics appends the statistics of devices but the loopback. One that
// can't be decoded costs the others nothing.
func addStatistics(all []Statistics, messages []kernel.Message) ([]Statistics, []error) {
	all = slices.Grow(all, len(messages))
	// The values of all devices lie in one piece of memory.
	values := make([]uint64, 0, len(messages)*len(statisticNames))
	var errs []error
	for _, m := range messages {
		if m.Command != uapi.RTM_NEWLINK {
			continue
		}
		one, loopback, after, err := decodeStatistics(m.Body, values)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !loopback:
			values = after
			all = append(all, one)
		}
	}
	return all, errs
}

// decodeStatistics decodes an RTM_NEWLINK message, appending the values to
// space.
func decodeStatistics(body []byte, space []uint64) (s Statistics, loopback bool, after []uint64, err error) {
	if len(body) < linkHeader {
		return s, false, space, fmt.Errorf("%w: %d bytes where an ifinfomsg is due", kernel.ErrMalformed, len(body))
	}
	s.Index = int(int32(binary.NativeEndian.Uint32(body[4:])))
	loopback = binary.NativeEndian.Uint32(body[8:])&uapi.IFF_LOOPBACK != 0
	after = space
	a := kernel.AttributesAfter(body, linkHeader)
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_IFNAME:
			s.Name = a.String()
		case uapi.IFLA_STATS64:
			after = appendStatistics(space, a.Data)
			s.Values = after[len(space):len(after):len(after)]
		}
	}
	if err := a.Err(); err != nil {
		return s, loopback, space, err
	}
	if s.Name == "" {
		return s, loopback, space, fmt.Errorf("%w: network device %d has no name", kernel.ErrMalformed, s.Index)
	}
	return s, loopback, after, nil
}

// appendStatistics decodes a struct rtnl_link_stats64.
func appendStatistics(space []uint64, b []byte) []uint64 {
	for i := 0; len(b) >= 8 && i < len(statisticNames); i++ {
		space = append(space, binary.NativeEndian.Uint64(b))
		b = b[8:]
	}
	return space
}
