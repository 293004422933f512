package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// A Keeper keeps an inventory current: it reads the host whole, and later some of
// its NICs again. What it returned it doesn't write on again. A reading that fails,
// or that its context cuts short, leaves what was known before. It is for one
// goroutine.
type Keeper struct {
	// Check is asked at the end of each reading. With an error that has failed. Nil:
	// nobody is asked.
	Check func(context.Context) error
	// Sysfs has it read of software devices, too, what is in sysfs alone: some files of
	// each, where all else about them is in a few dumps.
	Sysfs bool

	reader kernel.Reader
	inv    *Inventory // nil before the first reading
	ties   map[int]ties
	// refused is what software devices of a type were found not to have.
	refused map[string]map[string]bool
}

// NewKeeper makes a keeper that knows nothing yet.
func NewKeeper(r kernel.Reader) *Keeper { return &Keeper{reader: r} }

// Whole reads the host anew. See [Read].
func (k *Keeper) Whole(ctx context.Context) (*Inventory, error) {
	s := &survey{Reader: k.reader, sysfs: k.Sysfs}
	inv, err := read(ctx, s, subjects())
	if err == nil {
		err = k.check(ctx)
	}
	if err != nil {
		return nil, err
	}
	k.inv, k.ties, k.refused = inv, s.ties, s.refused
	return inv, nil
}

// check is asked at the end of a reading: one that was cut short knows less than the one
// before.
func (k *Keeper) check(ctx context.Context) error {
	if k.Check != nil {
		if err := k.Check(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Some reads some NICs again, by their indexes, and returns an inventory with what
// they are now, new ones among them, and without those that are gone. Of the others
// only what they stand on, under and beside is as these have it now. The host's own
// facts are those of the last whole reading.
//
// It returns an error where only a whole reading can tell.
func (k *Keeper) Some(ctx context.Context, indexes []int) (*Inventory, error) {
	if k.inv == nil {
		return nil, errors.New("nothing is known yet")
	}
	s := &survey{
		Reader: k.reader, sysfs: k.Sysfs, focused: true, host: k.inv.Host, refused: k.refused,
		byIndex: map[int]*NIC{}, byName: map[string]*NIC{}, ties: maps.Clone(k.ties),
	}
	asked := map[int]bool{}
	for _, index := range indexes {
		if asked[index] {
			continue
		}
		asked[index] = true
		delete(s.ties, index)
		l, err := readLink(ctx, k.reader, index)
		switch {
		case kernel.ReasonOf(err) == kernel.Gone:
			continue
		case err != nil:
			return nil, err
		case l.loopback:
			continue
		}
		s.completeFromSysfs(ctx, l)
		s.nics = append(s.nics, &l.nic)
		s.byIndex[index], s.byName[l.nic.Name] = &l.nic, &l.nic
		s.ties[index] = l.ties
	}
	s.all(ctx, nicSubjects())
	if err := k.check(ctx); err != nil {
		return nil, err
	}

	// What could not be read of all NICs is missing of these, where it wasn't already.
	for _, u := range s.unread {
		if slices.ContainsFunc(k.inv.Unread, func(known Unread) bool { return known.Fact == u.Fact && known.Reason == u.Reason }) {
			continue
		}
		u.Fact = strings.TrimPrefix(u.Fact, "nics.")
		for _, n := range s.nics {
			n.Unread = append(n.Unread, u)
		}
	}

	inv := *k.inv
	inv.NICs = make([]NIC, 0, len(k.inv.NICs)+len(s.nics))
	for i := range k.inv.NICs {
		if n := &k.inv.NICs[i]; !asked[n.Index] {
			inv.NICs = append(inv.NICs, *n)
		}
	}
	for _, n := range s.nics {
		inv.NICs = append(inv.NICs, *n)
	}
	slices.SortFunc(inv.NICs, func(a, b NIC) int { return a.Index - b.Index })
	restack(inv.NICs, s.ties)
	k.inv, k.ties = &inv, s.ties
	return &inv, nil
}

// readLink asks for one device.
func readLink(ctx context.Context, r kernel.Reader, index int) (*link, error) {
	header := make([]byte, linkHeader)
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETLINK,
		Body: kernel.Body(header).Uint32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS),
	})
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.Command == uapi.RTM_NEWLINK {
			l, err := decodeLink(m.Body)
			if l.nic.Name == "" {
				return nil, err
			}
			if err != nil {
				l.nic.missed("link", err)
			}
			return &l, nil
		}
	}
	return nil, &kernel.Error{Op: "list network device", Err: kernel.ErrMalformed}
}

// restack finds anew what NICs stand on, under and beside. They may share memory
// with those of an earlier inventory.
func restack(nics []NIC, of map[int]ties) {
	s := &survey{byIndex: make(map[int]*NIC, len(nics)), ties: of}
	for i := range nics {
		n := &nics[i]
		if _, told := of[n.Index]; !told {
			continue
		}
		stack := &n.Stack
		stack.Lower, stack.Upper, stack.Master, stack.Peer = nil, nil, "", ""
		if stack.Bond != nil {
			stack.Bond = new(*stack.Bond)
		}
		if stack.Bridge != nil {
			stack.Bridge = new(*stack.Bridge)
			stack.Bridge.QuerierState = slices.Clone(stack.Bridge.QuerierState)
		}
		s.nics = append(s.nics, n)
		s.byIndex[n.Index] = n
	}
	stackLinks(s)
}
