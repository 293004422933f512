package policies_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// Whoever plans reads only what NICs are told apart by, unless a match looks at
// more. So all the other keys must hold of that as they hold of all facts.
func TestMatchKnowsWhatItLooksAt(t *testing.T) {
	const head = "apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nsettings: {rings: {rx: max}}\nmatch: "
	beyond := []string{"{speed: 1000}", "{where: nic.link.mtu > 0}"}
	within := []string{
		"{}", "{driver: igb}", "{driver: virtio_net}", "{kind: vf}", "{kind: pf}", "{kind: virtual}", "{kind: plain}", `{pci: "8086:*"}`, `{pci: "0000:01:*"}`,
		`{name: "eth*"}`, `{name: "*", permanentMac: "52:54:00:00:01:00"}`, `{vendor: "8086"}`, `{device: "10c9"}`, `{subsystem: "*:*"}`,
		"{numaNode: 0}", "{numaNode: 1}", `{firmware: "*"}`, "{linkState: up}", "{linkState: down}", "{labels: {role: edge}}",
	}
	hosts, err := filepath.Glob("../cmd/nictune/testdata/hosts/*.txtar")
	if err != nil || len(hosts) == 0 {
		t.Fatalf("no recorded hosts: %v", err)
	}
	matched := map[string]int{}
	for _, name := range hosts {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		replay, err := kernel.ParseRecording(b)
		if err != nil {
			t.Fatal(err)
		}
		all, err := inventory.Read(t.Context(), replay)
		if err != nil {
			t.Fatal(err)
		}
		identity, err := inventory.ReadIdentity(t.Context(), replay)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range append(within, beyond...) {
			parsed, err := policies.Parse("p.yaml", []byte(head+text+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			match := &parsed[0].Match
			if match.BeyondIdentity() {
				matched["beyond"]++
				continue
			}
			host := policies.HostOf(all, map[string]string{"role": "edge"})
			for i := range all.NICs {
				want, err1 := match.Holds(&all.NICs[i], &host)
				got, err2 := match.Holds(&identity.NICs[i], &host)
				if got != want || err1 != nil || err2 != nil {
					t.Errorf("%s: %s of %s: %v by its identity, %v by all facts (%v, %v)", name, text, all.NICs[i].Name, got, want, err1, err2)
				}
				if got {
					matched[text]++
				}
			}
		}
	}
	if matched["beyond"] != len(beyond)*len(hosts) {
		t.Errorf("%d matches look beyond the identity, want %d", matched["beyond"], len(beyond)*len(hosts))
	}
	for _, text := range within {
		if matched[text] == 0 {
			t.Errorf("%s matches no NIC of the recorded hosts: nothing is shown about it", text)
		}
	}
}
