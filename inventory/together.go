package inventory

import (
	"context"
	"errors"

	"github.com/nictune/nictune/internal/kernel"
)

// Together returns a Reader for reading the same facts of many NICs again, one NIC
// after the other: those that ethtool netlink tells ([ReadRings], [ReadFeatures],
// ...). With the first NIC the kernel is asked for that one alone. With the second
// it is asked for all in one dump, and the dump answers for the others. A NIC that
// is not in it, or several times, is asked for by itself: the kernel ends a dump at
// the first device that fails, and passes over those that lack what is asked for.
// Whatever else is read, r is asked for.
//
// A dump is made once. So the Reader is for a time in which nothing is written,
// and for one goroutine.
func Together(r kernel.Reader) kernel.Reader {
	return &together{Reader: r, dumps: map[uint16]*dump{}, words: map[uint32]*words{}, features: map[string]any{}}
}

type together struct {
	kernel.Reader
	dumps map[uint16]*dump // by command, from the first question on
	// words are string sets, by their number, that were read by themselves.
	words map[uint32]*words
	// features are what was made of answers, by all of an answer but its device.
	features map[string]any
	// singly ends all dumps. Of a recorded host the facts are there already. And where
	// one was not finished in time, the next would wait as long for the device that
	// hangs.
	singly bool
	// desk is where a NIC lies while it is worked on. It is large, and what is done to
	// it by a function of a table would have a copy made for good.
	desk NIC
}

// dump is what one said of each device, by its index.
type dump struct {
	asked   bool
	answers map[int][]kernel.Message
}

// one asks for a group of facts of one device.
func (g ethtoolGroup) one(ctx context.Context, r kernel.Reader, index int) ([]kernel.Message, error) {
	t, ok := r.(*together)
	if ok && !g.refine {
		if messages := t.all(ctx, g)[index]; len(messages) == 1 {
			return messages, nil
		}
	}
	messages, err := r.Netlink(ctx, kernel.Request{Family: kernel.FamilyEthtool, Command: g.command, Body: g.body(index)})
	if ok && errors.Is(err, kernel.ErrNotRecorded) {
		t.singly = true
	}
	return messages, err
}

// wordsOf asks for a string set, or knows it.
func wordsOf(ctx context.Context, s *survey, id uint32) *words {
	t, ok := s.Reader.(*together)
	if ok && t.words[id] != nil {
		return t.words[id]
	}
	w := readWords(ctx, s, id)
	if ok && len(s.unread) == 0 {
		t.words[id] = w
	}
	return w
}

// aside does something to a NIC without keeping hold of it.
func (s *survey) aside(n *NIC, do func(*NIC) error) error {
	var desk *NIC
	if t, ok := s.Reader.(*together); ok {
		desk = &t.desk
	} else {
		desk = new(NIC)
	}
	*desk = *n
	err := do(desk)
	*n = *desk
	return err
}

// all asks for a group of facts of all devices when it is called a second time.
// Whom the answer lacks is asked for alone, so that its error is of no interest.
func (t *together) all(ctx context.Context, g ethtoolGroup) map[int][]kernel.Message {
	d := t.dumps[g.command]
	switch {
	case d == nil:
		t.dumps[g.command] = &dump{}
		return nil
	case d.asked || t.singly:
		return d.answers
	}
	d.asked = true
	messages, err := t.Netlink(ctx, kernel.Request{Family: kernel.FamilyEthtool, Command: g.command, Dump: true, Body: g.body(0)})
	t.singly = errors.Is(err, context.DeadlineExceeded)
	d.answers = make(map[int][]kernel.Message, len(messages))
	for i, m := range messages {
		if index, err := ethtoolIndex(m.Body); err == nil {
			d.answers[index] = append(d.answers[index], messages[i])
		}
	}
	return d.answers
}
