package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// eeprom counts how often it is read.
type eeprom struct {
	kernel.Reader
	reads int
	err   error
}

func (e *eeprom) ReadFile(ctx context.Context, _ string) ([]byte, error) {
	e.reads++
	if e.err != nil {
		<-ctx.Done()
	}
	return []byte("vpd"), e.err
}

func TestVPDIsReadOnceForEachCard(t *testing.T) {
	const vpd = "/sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/vpd"
	synctest.Test(t, func(t *testing.T) { // no time goes by but where the card hangs
		for _, err := range []error{nil, errors.New("the card hangs")} {
			card := &eeprom{err: err}
			r := &remembering{Reader: card, vpd: map[string]remembered{}}
			read := func(name string, want int) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				if b, got := r.ReadFile(ctx, name); string(b) != "vpd" || !errors.Is(got, err) {
					t.Errorf("%q, %v", b, got)
				}
				if card.reads != want {
					t.Errorf("%s: the card was read %d times, want %d", name, card.reads, want)
				}
			}
			late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
			defer cancel()
			if _, got := r.ReadFile(late, vpd); !errors.Is(got, err) || len(r.vpd) != 0 {
				t.Errorf("out of time: %v; remembered %v", got, r.vpd)
			}
			card.reads = 0
			read(vpd, 1)
			read(vpd, 1)
			r.forget(&inventory.Inventory{NICs: []inventory.NIC{{PCI: &inventory.PCI{Address: "0000:01:00.0"}}}})
			read(vpd, 1)
			// It was pulled out, and another took its place.
			r.forget(&inventory.Inventory{})
			read(vpd, 2)
			// Other files change.
			read("/sys/class/net/eth0/mtu", 3)
			read("/sys/class/net/eth0/mtu", 4)
		}
	})
}
