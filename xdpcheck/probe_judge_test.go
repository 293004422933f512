package xdpcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
)

// surveyed is the running host now, and one of its NICs.
func surveyed(t testing.TB, live *kernel.Live, name string) NIC {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	inv, err := inventory.Read(ctx, live)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := Of(&inv.Host, inv.NICs, inv.Unread, Read(ctx, live, &inv.Host, inv.NICs)).Named(name)
	if !ok {
		t.Fatalf("%s is not there", name)
	}
	return n
}

// judge has the driver itself say whether the verdicts on a NIC are true.
func judge(t testing.TB, live *kernel.Live, name string) (Capabilities, Probed) {
	t.Helper()
	n := surveyed(t, live, name)
	// The kernel lets go of an AF_XDP socket's queue a moment after it was closed.
	for patience := time.Now().Add(5 * time.Second); n.Refuses() != nil && time.Now().Before(patience); n = surveyed(t, live, name) {
		time.Sleep(50 * time.Millisecond)
	}
	if err := n.Refuses(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := n.Capabilities()
	p, err := Probe(ctx, live, *n.NIC)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s (%s, MTU %d): native %s (%s), zero copy %s (%s); probed %+v", name, n.Driver.Name, *n.Link.MTU, c.Native.Answer, c.Native.Why, c.ZeroCopy.Answer, c.ZeroCopy.Why, p)
	if c.Native.Answer == Unknown || p.Attached != (c.Native.Answer == Yes) {
		t.Errorf("%s: native is said to be %s (%s); the driver: %v, %s", name, c.Native.Answer, c.Native.Why, p.Attached, p.Refused)
	}
	granted := p.ZeroCopy != nil && *p.ZeroCopy
	if c.ZeroCopy.Answer == Unknown || granted != (c.ZeroCopy.Answer == Yes) {
		t.Errorf("%s: zero copy is said to be %s (%s); the driver: %v, %s", name, c.ZeroCopy.Answer, c.ZeroCopy.Why, granted, p.ZeroCopyRefused)
	}
	if p.ZeroCopy != nil && !granted && p.ZeroCopyRefused == "" {
		t.Errorf("%s: a socket that insists on zero copy was bound without it", name)
	}
	if p.MultiBuffer && c.MultiBuffer.Answer != Yes {
		t.Errorf("%s: multi-buffer is said to be %s (%s), and the driver took such a program", name, c.MultiBuffer.Answer, c.MultiBuffer.Why)
	}
	after := surveyed(t, live, name)
	if len(after.Offloads.XDP) > 0 || p.CarrierLost {
		t.Errorf("%s: afterwards: programs %v, carrier lost %v", name, after.Offloads.XDP, p.CarrierLost)
	}
	return c, p
}

// judgeMTU has the driver say whether the limit of the MTU is true to the byte.
func judgeMTU(t testing.TB, live *kernel.Live, name, of string) {
	t.Helper()
	c, _ := judge(t, live, name)
	if c.MaxMTU == nil {
		t.Fatalf("%s: no limit of the MTU is known", name)
	}
	for _, mtu := range []int{*c.MaxMTU, *c.MaxMTU + 1} {
		nstest.IP(t, "link set "+of+" mtu "+strconv.Itoa(mtu))
		c, p := judge(t, live, name)
		if want := mtu == *c.MaxMTU; p.Attached != want || (c.Native.Answer == Yes) != want {
			t.Errorf("%s with MTU %d: said %s, the driver %v (%s)", name, mtu, c.Native.Answer, p.Attached, p.Refused)
		}
	}
	nstest.IP(t, "link set "+of+" mtu 1500")
}

func open(t testing.TB) *kernel.Live {
	t.Helper()
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = live.Close() })
	return live
}

// Where a kernel before 5.11 refuses a program the limit that may be meant is named; a
// newer one has none.
func TestOverLimit(t *testing.T) {
	denied := fmt.Errorf("load program: %w", fs.ErrPermission)
	if err := overLimit(denied, Release{5, 10}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "ulimit -l") {
		t.Error(err)
	}
	for _, on := range []Release{{5, 11}, {}} {
		if err := overLimit(denied, on); err.Error() != denied.Error() {
			t.Errorf("%s: %v", on, err)
		}
	}
	if other := errors.New("busy"); overLimit(other, Release{5, 10}).Error() != other.Error() {
		t.Error("another error is taken for the limit")
	}
}
