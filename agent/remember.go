package agent

import (
	"context"
	"errors"
	"path"
	"sync"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// remembering is a host whose cards' vital product data is read once for as
// long as the card is there: it never changes, and comes from an EEPROM on a
// slow bus that some cards serve badly.
type remembering struct {
	kernel.Reader

	mu  sync.Mutex
	vpd map[string]remembered // by path
}

type remembered struct {
	content []byte
	err     error
}

// ReadFile implements kernel.Reader.
func (r *remembering) ReadFile(ctx context.Context, name string) ([]byte, error) {
	// A reading that ran out of time before it came to the card says nothing of it.
	if path.Base(name) != "vpd" || ctx.Err() != nil {
		return r.Reader.ReadFile(ctx, name)
	}
	r.mu.Lock()
	answer, ok := r.vpd[name]
	r.mu.Unlock()
	if ok {
		return answer.content, answer.err
	}
	answer.content, answer.err = r.Reader.ReadFile(ctx, name)
	// A card that answers badly, or not in time, is not asked again either.
	if !errors.Is(ctx.Err(), context.Canceled) {
		r.mu.Lock()
		r.vpd[name] = answer
		r.mu.Unlock()
	}
	return answer.content, answer.err
}

// forget drops what is known of cards that are gone: another may come in their
// place.
func (r *remembering) forget(inv *inventory.Inventory) {
	there := map[string]bool{}
	for _, n := range inv.NICs {
		if n.PCI != nil {
			there[n.PCI.Address] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.vpd {
		if !there[path.Base(path.Dir(name))] {
			delete(r.vpd, name)
		}
	}
}
