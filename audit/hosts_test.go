package audit

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// hostCase is what was read of a host on which a rule is known to say something:
// testdata/evidence has an archive for each group, whose sections are "RULE STATUS: what
// it is about" and hold an Evidence as JSON, typed by hand. They are the cases at the
// edges of a verdict; recorded hosts, one on which each rule fires and one on which it
// passes, are in cmd/nictune/testdata/rules. The rule is judged on the first NIC, or, where the status
// is that of another, on any: it must say exactly this of one.
type hostCase struct {
	rule     string
	status   findings.Status
	about    string
	evidence *Evidence
}

func hostCases(t *testing.T) []hostCase {
	t.Helper()
	files, err := filepath.Glob("testdata/evidence/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	var all []hostCase
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range archive.Files {
			head, about, _ := strings.Cut(section.Name, ": ")
			rule, status, ok := strings.Cut(head, " ")
			if !ok {
				t.Fatalf("%s: %q", file, section.Name)
			}
			e := &Evidence{}
			// Others are NICs of the host that are not asked for.
			host := struct {
				*Evidence
				Others []inventory.NIC `json:"others"`
			}{Evidence: e}
			d := json.NewDecoder(bytes.NewReader(section.Data))
			d.DisallowUnknownFields()
			if err := d.Decode(&host); err != nil {
				t.Fatalf("%s: %s: %v", file, section.Name, err)
			}
			if len(host.Others) > 0 {
				whole := e.Inventory
				whole.NICs = slices.Concat(e.NICs, host.Others)
				e.whole = &whole
			}
			all = append(all, hostCase{rule, findings.Status(status), about, e})
		}
	}
	return all
}

// Each rule says what it should of known facts.
func TestRulesOnKnownHosts(t *testing.T) {
	for _, c := range hostCases(t) {
		t.Run(strings.ReplaceAll(c.rule, "/", "_")+" "+string(c.status)+" "+c.about, func(t *testing.T) {
			var said []findings.Finding
			for _, f := range Judge(c.evidence, append(Groups(), PolicyGroup())) {
				if f.Rule != c.rule {
					continue
				}
				said = append(said, f)
				if f.Status == c.status {
					if (f.Status == findings.Fail) != (f.Expected != "") || f.Seen == "" {
						t.Errorf("seen %q, expected %q", f.Seen, f.Expected)
					}
					return
				}
			}
			t.Errorf("it says %+v", said)
		})
	}
}

// A host of which nothing was read, and one on which nothing was supported, fail no
// rule and pass none.
func TestNothingReadJudgesNothing(t *testing.T) {
	var notes []inventory.Unread
	for _, fact := range strings.Fields("link.supportedModes link.port link.detected link.fec link.pause link.eee counters/ip counters/fec counters/pause counters/mac counters/aer module irqs pci.link") {
		notes = append(notes, inventory.Unread{Fact: fact, Reason: inventory.Unsupported})
	}
	for name, n := range map[string]inventory.NIC{
		"nothing":     {Name: "eth0", Function: inventory.Plain, PCI: &inventory.PCI{Address: "0000:01:00.0"}},
		"unsupported": {Name: "eth0", Function: inventory.Plain, PCI: &inventory.PCI{Address: "0000:01:00.0"}, Unread: notes},
	} {
		carrier := true
		n.Link.Admin, n.Link.Carrier = "up", &carrier
		e := &Evidence{}
		e.NICs = []inventory.NIC{n}
		for _, f := range Judge(e, Groups()) {
			switch {
			case f.Rule == "link/down" || f.Rule == "link/gone": // these are known
			case f.Status != findings.Unknown && f.Status != findings.NotApplicable:
				t.Errorf("%s: %s is %s: %s", name, f.Rule, f.Status, f.Seen)
			}
		}
	}
}
