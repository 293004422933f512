package terminal

import (
	"strings"
	"testing"

	"github.com/nictune/nictune/findings"
)

func TestFindings(t *testing.T) {
	eth := func(name string) findings.Subject { return findings.Subject{ID: name, Name: name} }
	list := []findings.Finding{
		{Rule: "link/down", Severity: findings.Critical, Status: findings.Fail, Subject: eth("eth0"), Title: "no link", Seen: "no carrier; No cable", Expected: "a link", Why: "A leg of a bond that is missing is missed when the other one fails, which is seldom when it suits.", Remedy: "Plug it in."},
		{Rule: "link/down", Severity: findings.Critical, Status: findings.Fail, Subject: eth("enp65s0f0np0"), Title: "no link", Seen: "no carrier", Expected: "a link", Why: "A leg of a bond that is missing is missed when the other one fails, which is seldom when it suits.", Remedy: "Look.\x1b[2J", Waiver: &findings.Waiver{Reason: "moved", Owner: "jane", Expires: "2026-01-31", Expired: true, Policy: "a (edge.yaml:9:3)"}},
		{Rule: "link/eee", Severity: findings.Info, Status: findings.Fail, Subject: eth("eth0"), Title: "it sleeps", Seen: "active", Expected: "awake", Why: "Why.", Remedy: "Do."},
		{Rule: "xdp/native-blocked", Severity: findings.Info, Status: findings.Fail, Subject: eth("eth0"), Title: "it is blocked", Seen: "rx-lro is on", Expected: "nothing", Why: "Why.", Remedy: "Turn it off.", Exact: true},
		{Rule: "xdp/zero-copy-blocked", Severity: findings.Info, Status: findings.Fail, Subject: eth("eth0"), Title: "it copies", Seen: "rx-lro is on", Expected: "nothing", Why: "Why.", Remedy: "Do."},
		{Rule: "xdp/zero-copy-blocked", Severity: findings.Info, Status: findings.Fail, Subject: eth("eth1"), Title: "it copies", Seen: "vfs", Expected: "nothing", Why: "Why.", Remedy: "Take them away.", Exact: true},
		{Rule: "link/fec", Severity: findings.Warning, Status: findings.Error, Subject: eth("eth0"), Seen: "link.fec: failed: input/output error"},
		{Rule: "link/pre-fec-errors", Severity: findings.Warning, Status: findings.Error, Subject: eth("eth0"), Seen: "link.fec: failed: input/output error"},
		{Rule: "link/sqi", Severity: findings.Warning, Status: findings.Unknown, Subject: eth("eth0"), Seen: "not told"},
		{Rule: "link/flaps", Severity: findings.Warning, Status: findings.Waived, Subject: eth("eth0"), Seen: "lost once", Waiver: &findings.Waiver{Reason: "a test", Owner: "jane", Expires: "2099-01-31"}},
		{Rule: "link/slow", Severity: findings.Warning, Status: findings.Pass, Subject: eth("eth0"), Seen: "1000 Mb/s"},
	}
	const want = `CRITICAL  link/down: no link
          eth0          no carrier; No cable
                        do: Plug it in.
          enp65s0f0np0  no carrier
                        do: Look.?[2J
                        WAIVER EXPIRED on 2026-01-31: moved (jane, a (edge.yaml:9:3))
          expected      a link
          why           A leg of a bond that is missing is missed when the other one fails, which is
                        seldom when it suits.

INFO      link/eee: it sleeps
          eth0      active
          expected  awake

INFO      xdp/native-blocked: it is blocked
          eth0      rx-lro is on
          expected  nothing
          do        Turn it off.

INFO      xdp/zero-copy-blocked: it copies
          eth0      rx-lro is on
          eth1      vfs
                    do: Take them away.
          expected  nothing

ERROR     eth0: link.fec: failed: input/output error
          not judged for it: link/fec, link/pre-fec-errors
WAIVED    eth0  link/flaps: lost once (a test; jane, until 2099-01-31)
2 critical, 4 info, 2 error, 1 unknown, 1 waived, 1 passed (--all lists them)
`
	var b strings.Builder
	if err := Findings(&b, list, false); err != nil || b.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, b.String(), want)
	}
	b.Reset()
	if err := Findings(&b, list, true); err != nil || !strings.Contains(b.String(), "UNKNOWN   eth0  link/sqi: not told\n") || !strings.Contains(b.String(), "PASS      eth0  link/slow: 1000 Mb/s\n") {
		t.Errorf("%v\n%s", err, b.String())
	}
}
