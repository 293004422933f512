package inventory

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// crowd is a kernel with the rings of many devices: as many descriptors as the
// device's index.
type crowd struct {
	kernel.Reader
	nics   int
	lacks  int   // this device's driver has no rings
	sick   int   // and this one's fails, which ends a dump
	twice  int   // this device is in a dump twice, first with what is no longer so
	failed error // what a dump ends with
	asked  []string
}

func (c *crowd) Netlink(_ context.Context, req kernel.Request) ([]kernel.Message, error) {
	answer := func(index, size int) kernel.Message {
		return kernel.Message{Body: kernel.Body{}.
			Nested(ethtoolHeader, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, uint32(index))).
			Uint32(uapi.ETHTOOL_A_RINGS_RX, uint32(size))}
	}
	index, err := ethtoolIndex(req.Body)
	if err != nil || req.Command != uapi.ETHTOOL_MSG_RINGS_GET {
		return nil, fmt.Errorf("unexpected %v: %w", req, err)
	}
	if !req.Dump {
		c.asked = append(c.asked, fmt.Sprint(index))
		switch index {
		case c.lacks:
			return nil, syscall.EOPNOTSUPP
		case c.sick:
			return nil, syscall.EIO
		}
		return []kernel.Message{answer(index, index)}, nil
	}
	c.asked = append(c.asked, "all")
	var all []kernel.Message
	for i := 1; i <= c.nics; i++ {
		switch i {
		case c.lacks:
			continue
		case c.sick:
			return all, syscall.EIO
		case c.twice:
			all = append(all, answer(i, 0))
		}
		all = append(all, answer(i, i))
	}
	return all, c.failed
}

func TestTogether(t *testing.T) {
	for _, test := range []struct {
		name string
		host crowd
		want []string // is asked
	}{
		{"one NIC", crowd{nics: 1}, []string{"1"}},
		{"many", crowd{nics: 5}, []string{"1", "all"}},
		{"one that lacks it is asked what it says", crowd{nics: 5, lacks: 3}, []string{"1", "all", "3"}},
		{"those behind a sick one", crowd{nics: 5, sick: 3}, []string{"1", "all", "3", "4", "5"}},
		{"a sick one that comes first", crowd{nics: 3, sick: 1}, []string{"1", "all", "2", "3"}},
		{"one that changed meanwhile", crowd{nics: 4, twice: 3, failed: kernel.ErrInterrupted}, []string{"1", "all", "3"}},
		{"no dump to be had", crowd{nics: 3, sick: -1, failed: syscall.EOPNOTSUPP}, []string{"1", "all"}},
	} {
		r := Together(&test.host)
		for i := 1; i <= test.host.nics; i++ {
			rings, err := ReadRings(t.Context(), r, NIC{Index: i})
			switch {
			case i == test.host.lacks && kernel.ReasonOf(err) == kernel.Unsupported:
			case i == test.host.sick && kernel.ReasonOf(err) == kernel.Failed:
			case err != nil || rings == nil || rings.RX == nil || rings.RX.Current != uint32(i):
				t.Errorf("%s: NIC %d: %+v, %v", test.name, i, rings, err)
			}
		}
		if !slices.Equal(test.host.asked, test.want) {
			t.Errorf("%s: asked for %q, want %q", test.name, test.host.asked, test.want)
		}
	}
}

// A dump that waits in vain for one device is not tried for the next question.
func TestTogetherWithADeviceThatHangs(t *testing.T) {
	host := &crowd{nics: 9, sick: 3, failed: nil}
	r := Together(hanging{host})
	for i := 1; i <= 9; i++ {
		if _, err := ReadRings(t.Context(), r, NIC{Index: i}); (err != nil) != (i == 3) {
			t.Errorf("NIC %d: %v", i, err)
		}
		if _, err := ReadFeatures(t.Context(), r, NIC{Index: i}); err == nil {
			t.Error("this host has no features")
		}
	}
	if want := []string{"1", "all", "3", "4", "5", "6", "7", "8", "9"}; !slices.Equal(host.asked, want) {
		t.Errorf("asked for %q, want %q", host.asked, want)
	}
}

type hanging struct{ *crowd }

func (h hanging) Netlink(ctx context.Context, req kernel.Request) ([]kernel.Message, error) {
	if req.Command == uapi.ETHTOOL_MSG_FEATURES_GET && req.Dump {
		panic("this would hang again")
	}
	messages, err := h.crowd.Netlink(ctx, req)
	if req.Dump {
		return messages, context.DeadlineExceeded
	}
	return messages, err
}
