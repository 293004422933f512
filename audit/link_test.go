package audit

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
)

// away is a recorded host whose driver says "no such device" when it is asked for link
// modes: phylib does while a NIC is set down.
type away struct {
	*kernel.Replay
}

func (a *away) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	if strings.Contains(r.String(), "LINKMODES_GET") {
		return nil, &kernel.Error{Op: r.String(), Err: kernel.ErrGone}
	}
	return a.Replay.Netlink(ctx, r)
}

// A driver's word that there is no such device is no proof that a NIC went away.
func TestNoSuchDeviceIsNotGone(t *testing.T) {
	data, err := os.ReadFile("../cmd/nictune/testdata/hosts/lab-nics.txtar")
	if err != nil {
		t.Fatal(err)
	}
	replay, err := kernel.ParseRecording(data)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := Named("link")
	if err != nil {
		t.Fatal(err)
	}
	e, err := Gather(t.Context(), &away{Replay: replay}, groups, 0, inventory.NewModules())
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Left) > 0 {
		t.Errorf("left: %v", e.Left)
	}
	said := map[findings.Status]int{}
	for _, f := range Judge(e, groups) {
		if f.Rule == "link/gone" {
			said[f.Status]++
			if f.Status == findings.Unknown && !strings.Contains(f.Seen, "no such device") {
				t.Errorf("%s: %s", f.Subject, f.Seen)
			}
		}
	}
	if said[findings.Unknown] == 0 || said[findings.Fail] > 0 || said[findings.Pass] > 0 {
		t.Errorf("link/gone says %v", said)
	}
}

// unlisted is a recorded host on which nothing is called by a name any more.
type unlisted struct {
	*kernel.Replay
	on map[string][]string // the devices in a bus's directory
}

func (u unlisted) Netlink(context.Context, kernel.Request) ([]kernel.Message, error) { return nil, nil }

func (u unlisted) ReadDir(_ context.Context, path string) ([]string, error) {
	if devices, there := u.on[path]; there {
		return devices, nil
	}
	return nil, &kernel.Error{Op: "read", Object: path, Err: kernel.ErrNotRecorded}
}

// What left is told apart by whether its hardware is still on its bus.
func TestLeft(t *testing.T) {
	at := func(address string, notes ...inventory.Unread) inventory.NIC {
		return inventory.NIC{Name: "x", Index: 7, PCI: &inventory.PCI{Address: address}, Parent: &inventory.Parent{Bus: "pci", Address: address}, Unread: notes}
	}
	usb := inventory.NIC{Name: "y", Parent: &inventory.Parent{Bus: "usb", Address: "1-1:1.0"}}
	e := &Evidence{Inventory: sriov.Inventory{}, Earlier: &Look{}}
	e.Earlier.NICs = []inventory.NIC{at("0000:01:00.0"), at("0000:02:00.0"), at("0000:03:00.0"), usb, {Name: "veth0", Function: inventory.Virtual}}
	stays := at("0000:03:00.0")
	stays.Name = "renamed"
	e.NICs = []inventory.NIC{stays, at("0000:04:00.0", inventory.Unread{Fact: "link.fec", Reason: inventory.Gone})}
	host := unlisted{on: map[string][]string{"/sys/bus/pci/devices": {"0000:02:00.0", "0000:03:00.0"}, "/sys/bus/usb/devices": {"1-1:1.0"}}}
	got := left(t.Context(), host, e)
	if want := fmt.Sprint(map[string]bool{"0000:01:00.0": false, "0000:02:00.0": true, "1-1:1.0": true, "0000:04:00.0": false}); fmt.Sprint(got) != want {
		t.Errorf("%v, want %v", got, want)
	}
	// What was not recorded of a bus says nothing of what left it.
	if got := left(t.Context(), unlisted{}, e); !got["0000:01:00.0"] {
		t.Errorf("%v", got)
	}
	// One that only isn't asked for did not go.
	whole := e.Inventory
	e.whole, e.NICs = &whole, nil
	for _, n := range e.lost() {
		if n.ID() == stays.ID() {
			t.Error("a NIC that has another name is lost")
		}
	}
}

// What the driver's answer lacks is said of the driver.
func TestUntold(t *testing.T) {
	carrier := true
	e := &Evidence{}
	e.NICs = []inventory.NIC{{Name: "eth0", Function: inventory.Plain, Link: inventory.Link{Admin: "up", Carrier: &carrier}}}
	for rule, want := range map[string]string{"link/half-duplex": "the driver tells no duplex", "link/slow": "the driver tells no speed", "link/fec": "the driver tells no speed"} {
		i := slices.IndexFunc(Judge(e, Groups()), func(f findings.Finding) bool { return f.Rule == rule && f.Seen == want })
		if i < 0 {
			t.Errorf("%s does not say %q", rule, want)
		}
	}
}

// A port without light is told of by link/down alone.
func TestNoFibre(t *testing.T) {
	for _, c := range hostCases(t) {
		if !strings.HasPrefix(c.about, "a spare port without a fibre") {
			continue
		}
		for _, f := range Judge(c.evidence, Groups()) {
			switch {
			case f.Rule == "link/down":
				if f.Status != findings.Fail || !strings.Contains(f.Seen, "no light measured as RX power") || !strings.Contains(f.Remedy, "fibre") {
					t.Errorf("%s: %s: %s", f.Rule, f.Seen, f.Remedy)
				}
			case f.Status == findings.Fail:
				t.Errorf("%s: %s", f.Rule, f.Seen)
			}
		}
	}
}

func TestParseUptime(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"350735.47 234388.90\n": 350735470 * time.Millisecond, "0.05 0.00\n": 50 * time.Millisecond, "1": time.Second,
		"": 0, "x": 0, "-1 0": 0, "NaN 0": 0, "+Inf 0": 0, "1e300 0": 0,
	} {
		if got := parseUptime(text).Round(time.Millisecond); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// A NIC finds itself in the earlier look without a look at all the others.
func TestEarlierNICs(t *testing.T) {
	const count = 1000
	var earlier Look
	for i := range count {
		address := fmt.Sprintf("0000:%02x:%02x.0", i>>5, i&31)
		earlier.NICs = append(earlier.NICs, inventory.NIC{
			Name: fmt.Sprint("eth", i), PermanentMAC: strings.Repeat("00:", 19) + "01", // InfiniBand has twenty bytes
			Parent: &inventory.Parent{Bus: "pci", Address: address}, PCI: &inventory.PCI{Address: address},
		})
	}
	e := &Evidence{Earlier: &earlier}
	last := nic{NIC: &earlier.NICs[count-1], evidence: e}
	if last.before() != last.NIC {
		t.Errorf("%+v", last.before())
	}
	// Whoever goes through the list calls ID of each, which is made anew.
	if n := testing.AllocsPerRun(10, func() { last.before() }); n > 10 {
		t.Errorf("%v allocations among %d NICs", n, count)
	}
	// Another look has others.
	e.Earlier = &Look{}
	if last.before() != nil {
		t.Errorf("%+v of a look without NICs", last.before())
	}
}
