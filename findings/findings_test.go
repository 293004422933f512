package findings

import (
	"testing"

	"github.com/nictune/nictune/inventory"
)

type card struct{ verdict Verdict }

func (card) Subject() Subject { return Subject{ID: "0000:3b:00.0", Name: "eth0"} }

// Why and remedy are told of what fails and of nothing else; a verdict's own remedy
// is better than the rule's.
func TestJudge(t *testing.T) {
	about := About{ID: "link/a", Severity: Critical, Title: "it is broken", Why: "It matters.", Remedy: "Mend it."}
	rule := []Rule[card]{{About: about, Judge: func(c card) Verdict { return c.verdict }}}
	for _, test := range []struct {
		name    string
		verdict Verdict
		want    Finding
	}{
		{"a pass", Passes("%d of %d", 3, 3), Finding{Status: Pass, Seen: "3 of 3"}},
		{"a percent sign in what is seen", Passes("100% full"), Finding{Status: Pass, Seen: "100% full"}},
		{"a failure", Fails("1", "3"), Finding{Status: Fail, Seen: "1", Expected: "3", Why: "It matters.", Remedy: "Mend it."}},
		{"a remedy of its own", Fails("1", "3").To("Buy %d.", 2), Finding{Status: Fail, Seen: "1", Expected: "3", Why: "It matters.", Remedy: "Buy 2.", Exact: true}},
		{"unknown", Unclear("nobody tells"), Finding{Status: Unknown, Seen: "nobody tells"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := test.want
			want.Rule, want.Severity, want.Title, want.Subject = about.ID, about.Severity, about.Title, card{}.Subject()
			if got := Judge(rule, card{test.verdict}); len(got) != 1 || got[0] != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// A fact that is missing is never a pass: where reading failed it is an error, else
// unknown.
func TestUnread(t *testing.T) {
	unread := []inventory.Unread{
		{Fact: "link.fec", Reason: inventory.Unsupported},
		{Fact: "link.pause", Reason: inventory.Failed, Detail: "input/output error"},
		{Fact: "pci", Reason: inventory.Denied, Detail: "permission denied"},
	}
	for _, test := range []struct {
		facts []string
		want  Verdict
	}{
		{[]string{"link.fec"}, Verdict{Status: Unknown, Seen: "link.fec: unsupported"}},
		{[]string{"link.fec.active"}, Verdict{Status: Unknown, Seen: "link.fec: unsupported"}},
		{[]string{"link.fecs"}, Verdict{Status: Unknown, Seen: "link.fecs is not known"}},
		{[]string{"link.pause"}, Verdict{Status: Error, Seen: "link.pause: failed: input/output error"}},
		{[]string{"pci.vpd"}, Verdict{Status: Unknown, Seen: "pci: denied: permission denied"}},
		{[]string{"link.speedMbps", "link.pause"}, Verdict{Status: Error, Seen: "link.pause: failed: input/output error"}},
		{[]string{"link.speedMbps", "link.duplex"}, Verdict{Status: Unknown, Seen: "link.speedMbps or link.duplex is not known"}},
	} {
		if got := Unread(unread, test.facts...); got != test.want {
			t.Errorf("%q: got %+v, want %+v", test.facts, got, test.want)
		}
	}
}

func TestSortAndFailed(t *testing.T) {
	all := []Finding{
		{Rule: "a/pass", Status: Pass, Severity: Critical},
		{Rule: "b/info", Status: Fail, Severity: Info},
		{Rule: "c/unknown", Status: Unknown, Severity: Critical},
		{Rule: "d/warning", Status: Fail, Severity: Warning},
		{Rule: "a/warning", Status: Fail, Severity: Warning},
		{Rule: "e/waived", Status: Waived, Severity: Critical},
	}
	Sort(all)
	want := []string{"a/warning", "d/warning", "b/info", "c/unknown", "e/waived", "a/pass"}
	for i, f := range all {
		if f.Rule != want[i] {
			t.Errorf("%d is %s, want %s", i, f.Rule, want[i])
		}
	}
	if Failed(all, Critical) || !Failed(all, Warning) || !Failed(all, Info) {
		t.Error("a waived, unknown or passed rule counts as failed, or a warning does not")
	}
}

func TestAppendJudgedKeepsWhatIsThere(t *testing.T) {
	rule := []Rule[card]{{About: About{ID: "link/a"}, Judge: func(c card) Verdict { return c.verdict }}}
	first := Judge(rule, card{Passes("1")})[0]
	both := AppendJudged([]Finding{first}, rule, card{Passes("2")})
	if len(both) != 2 || both[0] != first || both[1].Seen != "2" {
		t.Errorf("%+v", both)
	}
}
