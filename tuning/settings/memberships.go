package settings

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// StaticGroups are the link-layer groups that an administrator added to a device,
// by address.
type StaticGroups map[string]bool

// noGroups is the word for an empty list.
const noGroups = "none"

// MembershipsWish is what policies say.
type MembershipsWish struct {
	Link *string `json:"link,omitempty" form:"a list of group addresses" words:"none" doc:"link-layer groups that the device lets in without anybody listening, in quotes as in [\"01:00:5e:01:02:03\"]; none is none of ours"`
}

// Memberships is ip maddr add and del.
func Memberships() tuning.Knob[StaticGroups] {
	return tuning.Knob[StaticGroups]{
		Name: "memberships",
		Doc: "Static link-layer multicast groups (ip maddr add): the device lets them in for programs that listen by other means than joining, as captures and packet filters do. " +
			"What a policy lists takes the place of what nictune added before; groups that others added stay.",
		Entries: true,
		Impact:  func(inventory.NIC, StaticGroups, StaticGroups) tuning.Impact { return tuning.Seamless },
		Wish:    tuning.WishOf(resolveMemberships),
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit StaticGroups, err error) {
			current, err = readMemberships(ctx, r, nic)
			return current, StaticGroups{}, err
		},
		Write: writeMemberships,
	}
}

func readMemberships(ctx context.Context, r kernel.Reader, nic inventory.NIC) (StaticGroups, error) {
	groups, err := inventory.ReadLinkGroups(ctx, r, nic)
	if err != nil {
		return nil, err
	}
	static := StaticGroups{}
	for _, m := range groups {
		if m.Static {
			static[m.Address] = true
		}
	}
	return static, nil
}

func resolveMemberships(_ context.Context, ask tuning.Ask, wish MembershipsWish, current StaticGroups) (StaticGroups, error) {
	next := maps.Clone(current)
	for address := range ask.Owned {
		delete(next, address)
	}
	if wish.Link == nil || *wish.Link == noGroups {
		return next, nil
	}
	for text := range strings.SplitSeq(*wish.Link, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		address, err := net.ParseMAC(text)
		if err != nil || len(address) != 6 || address[0]&1 == 0 {
			return nil, fmt.Errorf("link: %q is no group address as in 01:00:5e:01:02:03", text)
		}
		next[address.String()] = true
	}
	return next, nil
}

func writeMemberships(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next StaticGroups) error {
	for _, groups := range []struct {
		has, lacks StaticGroups
		add        bool
	}{{current, next, false}, {next, current, true}} {
		for _, text := range slices.Sorted(maps.Keys(groups.has)) {
			if groups.lacks[text] {
				continue
			}
			address, err := net.ParseMAC(text)
			if err != nil {
				return err
			}
			if err := w.MulticastAddress(ctx, nic.Name, address, groups.add); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
		}
	}
	return nil
}
