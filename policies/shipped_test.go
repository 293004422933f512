package policies

import (
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
)

func TestShipped(t *testing.T) {
	shipped, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range shipped {
		names = append(names, p.Name)
		if p.Source.File != "profiles/"+p.Name+".yaml" {
			t.Errorf("%s is in %s: a profile's file has its name", p.Name, p.Source.File)
		}
		if p.Description == "" || p.Priority != -100 {
			t.Errorf("%s: description %q, priority %d", p.Name, p.Description, p.Priority)
		}
		for _, f := range []inventory.Function{inventory.Virtual, inventory.Representor} {
			nic := inventory.NIC{Name: "veth0", Function: f, Driver: &inventory.Driver{Name: "veth"}}
			if holds(&p.Match, &nic) {
				t.Errorf("%s matches a %s NIC", p.Name, f)
			}
		}
		if nic := (inventory.NIC{Name: "eth0", Function: inventory.Plain}); !holds(&p.Match, &nic) {
			t.Errorf("%s does not match plain hardware", p.Name)
		}
	}
	if want := []string{"forwarder", "low-latency", "throughput", "xdp-l4lb"}; !slices.Equal(names, want) {
		t.Errorf("shipped %v, want %v", names, want)
	}
	bound, err := Bind(shipped, testCatalogue())
	if err != nil {
		t.Fatal(err)
	}
	// Where a user names no policies, the host is compared with all of these at
	// once, which a conflict would prevent.
	if _, _, err := Resolve(bound, Host{}, nics()); err != nil {
		t.Error(err)
	}
}

// A user's policy can't take a shipped one's name: a report would not say which
// of them is meant.
func TestShippedNames(t *testing.T) {
	shipped, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	mine := parse(t, "mine.yaml", doc("throughput", 0, "{}", fine))
	_, err = Bind(append(mine, shipped...), testCatalogue())
	if err == nil || !strings.Contains(err.Error(), `the policy "throughput" is already at mine.yaml:3`) {
		t.Errorf("%v", err)
	}
}
