package inventory

import (
	"context"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

// recording is a recorded host that was only asked in bulk.
type recording struct{ kernel.Reader }

func (recording) Netlink(context.Context, kernel.Request) ([]kernel.Message, error) {
	return nil, &kernel.Error{Op: "ethtool", Err: kernel.ErrNotRecorded}
}

// What a recorded host was not asked again is what the survey found.
func TestReadAgainOnARecordedHost(t *testing.T) {
	rings := &Rings{RX: &RingSize{Current: 1, Maximum: 2}}
	nic := NIC{Index: 3, Queues: Queues{Rings: rings}, Unread: []Unread{
		{Fact: "queues.channels", Reason: kernel.Unsupported},
		{Fact: "offloads.features", Reason: kernel.Denied, Detail: "not for you"},
	}}
	if got, err := ReadRings(t.Context(), recording{}, nic); err != nil || got != rings {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ReadChannels(t.Context(), recording{}, nic); kernel.ReasonOf(err) != kernel.Unsupported || err.Error() != "the driver does not offer it" {
		t.Errorf("error %v", err)
	}
	if _, err := ReadFeatures(t.Context(), recording{}, nic); kernel.ReasonOf(err) != kernel.Denied || err.Error() != "not for you" {
		t.Errorf("error %v", err)
	}
	nic.Queues.RSS = &RSS{Table: []uint32{0, 1}}
	if got, err := ReadRSS(t.Context(), recording{}, nic); err != nil || got != nic.Queues.RSS {
		t.Errorf("%+v, %v", got, err)
	}
	nic.Link.MTU = new(1500)
	if n, err := ReadNetdev(t.Context(), recording{}, nic); err != nil || n.Link.MTU != nic.Link.MTU {
		t.Errorf("%v, %v", n.Link.MTU, err)
	}
	if _, err := ReadCoalesce(t.Context(), recording{}, nic); err != nil {
		t.Errorf("error %v", err)
	}
	nic.Multicast.Capable = new(true)
	for users, known := range map[uint32]bool{0: true, 1: false} {
		nic.Multicast.AllMultiUsers = &users
		capable, allMulti, err := ReadMulticastFlags(t.Context(), recording{}, nic)
		if err != nil || capable == nil || !*capable || (allMulti != nil) != known || known && *allMulti {
			t.Errorf("%d users: %v, %v, %v", users, capable, allMulti, err)
		}
	}
}
