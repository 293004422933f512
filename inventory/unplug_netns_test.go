package inventory

import (
	"context"
	"sync"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// pulling takes a device away as soon as the devices were listed.
type pulling struct {
	kernel.Reader
	once sync.Once
	pull func()
}

func (p *pulling) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	messages, err := p.Reader.Netlink(ctx, r)
	if r.Family == kernel.FamilyRoute && r.Command == uapi.RTM_GETLINK && r.Dump {
		p.once.Do(p.pull)
	}
	return messages, err
}

// TestUnplugged: what sysfs, ethtool and the counters have no answer to once a device
// was deleted is gone, and not something that it never had. Others are none the worse.
func TestUnplugged(t *testing.T) {
	run(t, "ip link add stays type veth peer name stays1")
	run(t, "ip link add goes type veth peer name goes1")
	live := open(t)
	inv, err := Read(t.Context(), &pulling{Reader: live, pull: func() { run(t, "ip link del goes") }})
	if err != nil {
		t.Fatal(err)
	}
	ReadTraffic(t.Context(), live, inv)
	reasons := map[string]map[string]kernel.Reason{}
	for i := range inv.NICs {
		n := &inv.NICs[i]
		of := map[string]kernel.Reason{}
		for _, u := range n.Unread {
			of[u.Fact] = u.Reason
		}
		reasons[n.Name] = of
	}
	for _, fact := range []string{"link.supportedModes", "steering", "counters/driver", "sysctls.ipv4.force_igmp_version"} {
		if got := reasons["goes"][fact]; got != kernel.Gone {
			t.Errorf("%s of the one that went: %q", fact, got)
		}
		if got := reasons["stays"][fact]; got == kernel.Gone {
			t.Errorf("%s of the one that stayed: %q", fact, got)
		}
	}
}
