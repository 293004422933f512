package inventory

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/nictune/nictune/internal/kernel"
)

// Read surveys a host. The error is for a survey that could not even list the
// devices; everything less is in the Unread lists of the inventory.
func Read(ctx context.Context, r kernel.Reader) (*Inventory, error) {
	return read(ctx, &survey{Reader: r}, subjects())
}

// ReadIdentity surveys what NICs are told apart by: links and what they are stacked
// on, drivers, places on the buses, functions. The rest is absent, and not in the
// Unread lists: the names that pci.ids has, interrupts, the host, and what ethtool
// shows. It costs a fraction of [Read], which matters to who looks for a NIC or two.
func ReadIdentity(ctx context.Context, r kernel.Reader) (*Inventory, error) {
	return read(ctx, &survey{Reader: r, brief: true}, []subject{readDevlink, readPlaces, readDrivers, readFunctions})
}

func read(ctx context.Context, s *survey, subjects []subject) (*Inventory, error) {
	s.byIndex, s.byName = map[int]*NIC{}, map[string]*NIC{}
	if err := readLinks(ctx, s); err != nil {
		return nil, fmt.Errorf("list network devices: %w", err)
	}
	s.all(ctx, subjects)
	inv := &Inventory{APIVersion: APIVersion, Kind: Kind, CollectedAt: time.Now().UTC().Truncate(time.Second), Host: s.host, Unread: s.unread}
	inv.NICs = make([]NIC, 0, len(s.nics)) // a host without any has a list, too
	var same sameNotes
	for _, n := range s.nics {
		n.Unread = same.as(n.Unread)
		inv.NICs = append(inv.NICs, *n)
	}
	return inv, nil
}

func (s *survey) all(ctx context.Context, subjects []subject) {
	for _, subject := range subjects {
		subject(ctx, s)
	}
}

// subject adds what it can find out to a survey.
type subject func(context.Context, *survey)

// subjects are read in this order: a later one may use what an earlier one
// found.
func subjects() []subject { return append([]subject{readHost}, nicSubjects()...) }

// nicSubjects are those about NICs.
func nicSubjects() []subject {
	return []subject{
		readDevlink,
		readPlaces, // which interrupts are a NIC's depends on its devlink port
		readDrivers,
		readEthtool,
		readHashFields,
		readNtuple,
		readTunables,
		readMulticast,
		readNetdev,
		readNAPIDefaults, // of those that have contexts
		readFunctions,    // goes by what the others found
	}
}

// survey is an inventory in the making.
type survey struct {
	kernel.Reader
	// brief leaves out of places what only people ask for.
	brief bool
	// sysfs reads of software devices, too, what sysfs alone has.
	sysfs   bool
	host    Host
	unread  []Unread
	nics    []*NIC // by index
	byIndex map[int]*NIC
	byName  map[string]*NIC
	// ties are of all devices, by index, also of those that a focused survey leaves
	// out.
	ties map[int]ties
	// focused says that nics are only some of the host's, and asked by themselves.
	focused bool
	// stalled says that a dump of ethtool netlink had no answer: devices are asked one
	// by one from then on.
	stalled bool
	// lost are those that don't answer any more, and why. See askEach.
	lost map[*NIC]error
	// refused are the facts that software devices of a type don't have, by fact and
	// type.
	refused map[string]map[string]bool
}

// missed notes that a fact of the host could not be read.
func (s *survey) missed(fact string, err error) {
	s.unread = append(s.unread, unread(fact, err))
}

// missed notes that a fact of this NIC could not be read.
func (n *NIC) missed(fact string, err error) {
	n.Unread = append(n.Unread, unread(fact, err))
}

func unread(fact string, err error) Unread {
	return Unread{Fact: fact, Reason: kernel.ReasonOf(err), Detail: err.Error()}
}

// sameNotes are lists of what could not be read, one for all NICs of which the same is
// to be said: thousands of devices of one kind lack the same dozen facts, and a list of
// its own for each was a tenth of all facts.
type sameNotes struct {
	seed  maphash.Seed
	lists map[uint64][]Unread
}

// as is a list that says the same. Nobody writes on it: it has no room for more.
func (s *sameNotes) as(list []Unread) []Unread {
	if len(list) == 0 {
		return nil
	}
	if s.lists == nil {
		s.seed, s.lists = maphash.MakeSeed(), map[uint64][]Unread{}
	}
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, u := range list {
		maphash.WriteComparable(&h, u)
	}
	known, ok := s.lists[h.Sum64()]
	if ok && slices.Equal(known, list) {
		return known
	}
	list = slices.Clip(slices.Clone(list))
	s.lists[h.Sum64()] = list
	return list
}
