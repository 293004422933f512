//go:build lab

package settings

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// netdevsim makes a simulated device of two ports with four queues each, whose
// driver chooses where rules go or does not.
func netdevsim(t *testing.T, id int, driverChooses bool) []string {
	t.Helper()
	ports := labtest.Netdevsim(t, id, 2, 4)
	for _, port := range ports {
		labtest.Ethtool(t, "-K", port, "ntuple", "on")
	}
	for _, parameter := range []string{"lab_special", "lab_only_special"} {
		netdevsimParameter(t, parameter, driverChooses)
	}
	return ports
}

// netdevsimParameter switches a parameter of the lab's add-on for the time of the test.
func netdevsimParameter(t *testing.T, name string, on bool) {
	t.Helper()
	path := "/sys/module/netdevsim/parameters/" + name
	was, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, map[bool][]byte{true: []byte("Y"), false: []byte("N")}[on], 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(path, was, 0) })
}

// labRules are rules as policies say them, and as ethtool takes them.
var labRules = [][2]string{
	{"{flow-type: udp4, dst-port: 53, queue: 3}", "flow-type udp4 dst-port 53 queue 3"},
	{"{flow-type: tcp4, src-ip: 10.0.0.0/8, dst-ip: 192.0.2.1, tos: 16, src-port: 80, dst-port: 1024/0xfc00, action: drop}",
		"flow-type tcp4 src-ip 10.0.0.0 m 0.255.255.255 dst-ip 192.0.2.1 tos 16 src-port 80 dst-port 1024 m 0x3ff action -1"},
	{"{flow-type: sctp4, dst-port: 9, vf: 2, queue: 1}", "flow-type sctp4 dst-port 9 vf 2 queue 1"},
	{"{flow-type: ah4, spi: 256, queue: 0}", "flow-type ah4 spi 256 queue 0"},
	{"{flow-type: esp4, dst-ip: 192.0.2.1, spi: 0x100/0xffffff00, action: 2}", "flow-type esp4 dst-ip 192.0.2.1 spi 256 m 0xff action 2"},
	{"{flow-type: ip4, src-ip: 192.0.2.9, l4proto: 47, tos: 0xb8/0xfc, queue: 1}", "flow-type ip4 src-ip 192.0.2.9 tos 0xb8 m 0x03 l4proto 47 queue 1"},
	{"{flow-type: ip4, l4proto: 6, src-port: 80, queue: 1}", "flow-type ip4 l4proto 6 src-port 80 queue 1"},
	{"{flow-type: tcp6, src-ip: \"fd00::/64\", dst-port: 22, tclass: 0x20, queue: 2}", "flow-type tcp6 src-ip fd00:: m ::ffff:ffff:ffff:ffff tclass 0x20 dst-port 22 queue 2"},
	{"{flow-type: udp6, dst-ip: \"ff02::fb\", dst-port: 5353, queue: 0}", "flow-type udp6 dst-ip ff02::fb dst-port 5353 queue 0"},
	{"{flow-type: ah6, spi: 1, queue: 0}", "flow-type ah6 spi 1 queue 0"},
	{"{flow-type: esp6, src-ip: \"fd00::1\", queue: 0}", "flow-type esp6 src-ip fd00::1 queue 0"},
	{"{flow-type: ip6, l4proto: 58, l4data: 0x80000000/0xff000000, queue: 0}", "flow-type ip6 l4proto 58 l4data 0x80000000 m 0xffffff queue 0"},
	{"{flow-type: ether, src: 02:00:00:00:00:01, dst: 01:00:5e:00:00:00/ff:ff:ff:80:00:00, proto: 0x88f7, queue: 0}",
		"flow-type ether src 02:00:00:00:00:01 dst 01:00:5e:00:00:00 m 00:00:00:7f:ff:ff proto 0x88f7 queue 0"},
	{"{flow-type: udp4, dst-port: 4789, vlan: 100/0xfff, vlan-etype: 0x8100, dst-mac: 02:00:00:00:00:09, user-def: 7, queue: 1}",
		"flow-type udp4 dst-port 4789 vlan 100 m 0xf000 vlan-etype 0x8100 dst-mac 02:00:00:00:00:09 user-def 7 queue 1"},
	{"{flow-type: tcp4, dst-port: 7 m 0xff00, queue: 1}", "flow-type tcp4 dst-port 7 m 0xff00 queue 1"},
}

// rulesOf is what ethtool -n prints of a device.
func rulesOf(t *testing.T, port string) string {
	t.Helper()
	_, rules, _ := strings.Cut(string(labtest.Ethtool(t, "-n", port)), "\n\n")
	return rules
}

func flowsPolicy(port string, rules ...string) string {
	return policyFor(port, "flows: ["+strings.Join(rules, ", ")+"]")
}

// tuned is a host that remembers what nictune did.
type tuned struct {
	*tuning.Engine
	w   *countingWriter
	dir string
	all []inventory.NIC
}

func tune(t *testing.T) *tuned {
	t.Helper()
	w, dir := live(t), t.TempDir()
	return &tuned{Engine: engine(t, w, dir), w: w, dir: dir, all: nics(t, w)}
}

// apply carries a policy out, and sees that nothing is left to do then.
func (h *tuned) apply(t *testing.T, policy string) *tuning.Transaction {
	t.Helper()
	done, err := h.Apply(t.Context(), h.planned(t, policy), h.all, allow)
	if err != nil || done == nil {
		t.Fatalf("%s: %v", policy, err)
	}
	h.w.writes = 0
	if again := h.planned(t, policy); len(again.Changes) != 0 || h.w.writes != 0 {
		t.Errorf("to change again: %+v", again.Changes)
	}
	return done
}

func (h *tuned) planned(t *testing.T, policy string) *tuning.Plan {
	t.Helper()
	p, err := h.plan(t, policy)
	if err != nil {
		t.Fatalf("%s: %v", policy, err)
	}
	return p
}

func (h *tuned) plan(t *testing.T, policy string) (*tuning.Plan, error) {
	t.Helper()
	past, err := tuning.History(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	return tuning.MakePlan(t.Context(), h.w, All(), wants(t, h.all, policy), func() ([]tuning.Transaction, error) { return past, nil })
}

func (h *tuned) rollback(t *testing.T, done *tuning.Transaction, force bool) {
	t.Helper()
	if _, err := h.Rollback(t.Context(), done.ID, h.all, allow, force); err != nil {
		t.Errorf("rollback: %v", err)
	}
}

// TestFlows has the kernel store the rules of a policy and the same rules as
// ethtool -N gives them, and ethtool -n compare the two.
func TestFlows(t *testing.T) {
	labtest.Require(t, "nics")
	for i, driverChooses := range []bool{false, true} {
		t.Run(fmt.Sprint("driver chooses ", driverChooses), func(t *testing.T) {
			ports := netdevsim(t, 30+i, driverChooses)
			h := tune(t)
			const foreign = "flow-type tcp4 dst-port 22 action -1"
			for _, port := range ports {
				labtest.Ethtool(t, append([]string{"-N", port}, strings.Fields(foreign)...)...)
			}
			alone := rulesOf(t, ports[0])
			var wish []string
			for _, rule := range labRules {
				wish = append(wish, rule[0])
				labtest.Ethtool(t, append([]string{"-N", ports[1]}, strings.Fields(rule[1])...)...)
			}
			done := h.apply(t, flowsPolicy(ports[0], wish...))
			if ours, theirs := rulesOf(t, ports[0]), rulesOf(t, ports[1]); !sameRules(ours, theirs, driverChooses) {
				t.Errorf("ours:\n%s\nethtool's:\n%s", ours, theirs)
			}

			// Some go, one is for another queue; the foreign one stays.
			h.apply(t, flowsPolicy(ports[0], "{flow-type: udp4, dst-port: 53, queue: 1}", wish[2]))
			for _, rule := range []string{foreign, "flow-type udp4 dst-port 53 queue 1", labRules[2][1]} {
				if got := h.storedRules(t, ports[0]); !strings.Contains(got, rule+"\n") || strings.Count(got, "\n") != 3 {
					t.Errorf("there is no %q among\n%s", rule, got)
				}
			}
			if !strings.Contains(rulesOf(t, ports[0]), "Action: Direct to queue 1") {
				t.Errorf("ethtool says:\n%s", rulesOf(t, ports[0]))
			}
			h.apply(t, flowsPolicy(ports[0]))
			if got := rulesOf(t, ports[0]); got != alone {
				t.Errorf("without our rules:\n%s\nbefore them:\n%s", got, alone)
			}
			h.rollback(t, done, true)
			if got := rulesOf(t, ports[0]); got != alone {
				t.Errorf("after a rollback:\n%s\nbefore:\n%s", got, alone)
			}

			// What is somebody else's is not touched, whatever the policy says.
			for wish, want := range map[string]string{
				"{flow-type: tcp4, dst-port: 22, queue: 1}":                                            "which nictune did not put there, is for the same packets",
				"{flow-type: udp4, dst-port: 1, queue: 4}":                                             "there is no queue 4: the device has 4 queues",
				"{flow-type: udp4, dst-port: 1, context: 5}":                                           "there is no RSS context 5",
				"{flow-type: udp4, dst-port: 1, queue: 1}, {flow-type: udp4, dst-port: 0x1, queue: 2}": "item 1 of the list is for the same packets",
				"{flow-type: udp4, proto: 1, queue: 1}":                                                `udp4 has no "proto"`,
			} {
				if _, err := h.plan(t, flowsPolicy(ports[0], wish)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "test.yaml:6") {
					t.Errorf("%s: %v, want %q with its line", wish, err, want)
				}
			}
			// The same rule that is there already is there.
			if p := h.planned(t, flowsPolicy(ports[0], "{flow-type: tcp4, dst-port: 22, action: drop}")); len(p.Changes) != 0 {
				t.Errorf("a rule that is there: %+v", p.Changes)
			}
			// What only the driver refuses is undone.
			_, err := h.Apply(t.Context(), h.planned(t, flowsPolicy(ports[0], wish[0], wish[1], "{flow-type: sctp6, dst-port: 9, queue: 1}")), h.all, allow)
			if err == nil || !strings.Contains(err.Error(), "flow-type sctp6 dst-port 9") || strings.Contains(err.Error(), "could not be undone") {
				t.Errorf("a rule that the driver refuses: %v", err)
			}
			if got := rulesOf(t, ports[0]); got != alone {
				t.Errorf("after the undo:\n%s\nbefore:\n%s", got, alone)
			}
		})
	}
}

// sameRules compares what ethtool prints of two devices; where the driver chose
// the places, without these.
func sameRules(a, b string, anywhere bool) bool {
	if !anywhere {
		return a == b
	}
	rules := func(text string) map[string]int {
		count := map[string]int{}
		for rule := range strings.SplitSeq(text, "Filter: ") {
			_, rule, _ = strings.Cut(rule, "\n")
			count[rule]++
		}
		return count
	}
	return fmt.Sprint(rules(a)) == fmt.Sprint(rules(b))
}

// storedRules are the rules that the kernel has, in ethtool's words.
func (h *tuned) storedRules(t *testing.T, port string) string {
	t.Helper()
	for _, nic := range h.all {
		if nic.Name == port {
			table, err := inventory.ReadNtuple(t.Context(), h.w, nic)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, rule := range table.Rules {
				b.WriteString(rule.String() + "\n")
			}
			return b.String()
		}
	}
	t.Fatalf("no %s", port)
	return ""
}

// TestFlowLocations: what a policy says of locations, and what stands there.
func TestFlowLocations(t *testing.T) {
	labtest.Require(t, "nics")
	port := netdevsim(t, 32, false)[0]
	h := tune(t)
	labtest.Ethtool(t, "-N", port, "flow-type", "tcp4", "dst-port", "22", "action", "-1", "loc", "7")
	locations := func() string {
		var out []string
		for line := range strings.Lines(rulesOf(t, port)) {
			if n, ok := strings.CutPrefix(line, "Filter: "); ok {
				out = append(out, strings.TrimSpace(n))
			}
		}
		return strings.Join(out, " ")
	}
	h.apply(t, flowsPolicy(port, "{flow-type: udp4, dst-port: 1, queue: 1}", "{flow-type: udp4, dst-port: 2, queue: 1, loc: 31}", "{flow-type: udp4, dst-port: 3, queue: 1}"))
	if got := locations(); got != "7 29 30 31" {
		t.Errorf("rules at %s", got)
	}
	h.apply(t, flowsPolicy(port, "{flow-type: udp4, dst-port: 1, queue: 1, loc: 0}", "{flow-type: udp4, dst-port: 3, queue: 2}"))
	if got := locations(); got != "0 7 29" {
		t.Errorf("rules at %s", got)
	}
	for wish, want := range map[string]string{
		"{flow-type: udp4, dst-port: 9, queue: 1, loc: 7}":                                                   "rule 7 (flow-type tcp4 dst-port 22 action -1), which nictune did not put there, is at this location",
		"{flow-type: udp4, dst-port: 9, queue: 1, loc: 32}":                                                  "the device takes 32 rules: 0 to 31",
		"{flow-type: udp4, dst-port: 9, queue: 1, loc: 3}, {flow-type: udp4, dst-port: 8, queue: 1, loc: 3}": "another item of the list has it",
	} {
		if _, err := h.plan(t, flowsPolicy(port, wish)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", wish, err, want)
		}
	}
}

// TestFlowsMakeWay: rules, contexts and channels in one plan, in both directions.
func TestFlowsMakeWay(t *testing.T) {
	labtest.Require(t, "nics")
	port := netdevsim(t, 33, false)[0]
	labtest.Ethtool(t, "-K", port, "ntuple", "off")
	h := tune(t)
	first := h.apply(t, policyFor(port, `features: {ntuple: on}
  rss-contexts: [{context: 1, start: 2, equal: 2}, {context: 2, weight: [1, 3], hfunc: xor}]
  flows: [{flow-type: udp4, dst-port: 53, queue: 3}, {flow-type: udp4, dst-port: 123, queue: 1}, {flow-type: tcp4, dst-port: 80, context: 1}, {flow-type: tcp4, dst-port: 81, context: 2}]`))
	if got := rulesOf(t, port); strings.Count(got, "Filter:") != 4 || !strings.Contains(got, "RSS Context 1") {
		t.Errorf("rules:\n%s", got)
	}
	if got := string(labtest.Ethtool(t, "-x", port, "context", "1")); !strings.Contains(got, "    0:      2     3     2     3") {
		t.Errorf("context 1:\n%s", got)
	}
	got := string(labtest.Ethtool(t, "-x", port, "context", "2"))
	if !strings.Contains(got, "   24:      0     0     0     0     0     0     0     0\n   32:      1     1") || !strings.Contains(got, "xor: on") {
		t.Errorf("context 2:\n%s", got)
	}

	// Fewer channels: rule and context are ours, and move.
	second := h.apply(t, policyFor(port, `channels: {combined: 2}
  rss-contexts: [{context: 1, equal: 1}, {context: 2, weight: [1, 3], hfunc: xor}]
  flows: [{flow-type: udp4, dst-port: 53, queue: 1}, {flow-type: tcp4, dst-port: 80, context: 1}]`))
	if got := rulesOf(t, port); strings.Count(got, "Filter:") != 2 || strings.Contains(got, "queue 3") {
		t.Errorf("rules:\n%s", got)
	}
	h.rollback(t, second, false)
	if got := rulesOf(t, port); strings.Count(got, "Filter:") != 4 || !strings.Contains(got, "queue 3") {
		t.Errorf("rules after the rollback:\n%s", got)
	}
	if got := string(labtest.Ethtool(t, "-x", port, "context", "1")); !strings.Contains(got, "    0:      2     3     2     3") {
		t.Errorf("context 1 after the rollback:\n%s", got)
	}

	// Fewer channels alone: what is ours makes way, and what still can stays.
	third := h.apply(t, policyFor(port, "channels: {combined: 2}"))
	if got := rulesOf(t, port); strings.Count(got, "Filter:") != 3 || strings.Contains(got, "queue 3") {
		t.Errorf("rules:\n%s", got)
	}
	h.rollback(t, third, false)
	if got := rulesOf(t, port); strings.Count(got, "Filter:") != 4 {
		t.Errorf("rules after the rollback:\n%s", got)
	}

	// What is not ours does not, and the plan says so before anything is written.
	labtest.Ethtool(t, "-N", port, "flow-type", "tcp4", "dst-port", "22", "queue", "3", "loc", "7")
	for _, policy := range []string{"channels: {combined: 2}", "features: {ntuple: off}"} {
		_, err := h.plan(t, policyFor(port, policy))
		if err == nil || !strings.Contains(err.Error(), "rule 7 (flow-type tcp4 dst-port 22 queue 3), which nictune did not put there") {
			t.Errorf("%s: %v", policy, err)
		}
	}
	labtest.Ethtool(t, "-N", port, "delete", "7")
	labtest.Ethtool(t, "-X", port, "context", "new", "equal", "4")
	if _, err := h.plan(t, policyFor(port, "channels: {combined: 2}")); err == nil || !strings.Contains(err.Error(), "RSS context 3, which nictune did not make") {
		t.Errorf("a foreign context: %v", err)
	}
	for wish, want := range map[string]string{
		"[{context: 3, equal: 1}]":               "context 3 is there, and nictune did not make it",
		"[{context: 1}, {context: 6, equal: 1}]": "the kernel gives the next one the number 2",
		"[{context: 1, equal: 1}, {context: 1}]": "twice",
		"[{context: 0, equal: 1}]":               "context 0 is the default one",
		"[{equal: 5}]":                           "the device has 4 queues",
	} {
		if _, err := h.plan(t, policyFor(port, "rss-contexts: "+wish)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", wish, err, want)
		}
	}
	// Switching ntuple off takes our rules away first.
	labtest.Ethtool(t, "-X", port, "context", "3", "delete")
	off := h.apply(t, policyFor(port, "features: {ntuple: off}\n  rss-contexts: []\n  flows: []"))
	h.rollback(t, off, false)
	if got := rulesOf(t, port); strings.Count(got, "Filter:") != 4 {
		t.Errorf("rules after ntuple came back:\n%s", got)
	}
	h.rollback(t, first, false)
	if got, err := labtest.Try(t, "ethtool", "-x", port, "context", "1"); err == nil {
		t.Errorf("context 1 after the first rollback:\n%s", got)
	}
}

// TestContextHashFields: which fields of which packets an RSS context hashes, as ethtool
// sees them, beside those of the default context and of a context of somebody else.
func TestContextHashFields(t *testing.T) {
	labtest.Require(t, "nics")
	port := netdevsim(t, 35, false)[0]
	h := tune(t)
	const ports = "L4 bytes 0 & 1 [TCP/UDP src port] L4 bytes 2 & 3 [TCP/UDP dst port]"
	hashed := func(flow, context, want string) {
		t.Helper()
		args := []string{"-n", port, "rx-flow-hash", flow}
		if context != "" {
			args = append(args, "context", context)
		}
		if got := strings.Join(strings.Fields(string(labtest.Ethtool(t, args...))), " "); !strings.HasSuffix(got, "key: "+want) {
			t.Errorf("%s of context %s: %s, want %s", flow, context, got, want)
		}
	}
	labtest.Ethtool(t, "-X", port, "context", "new", "equal", "3") // somebody else's
	labtest.Ethtool(t, "-N", port, "rx-flow-hash", "udp4", "d", "context", "1")
	contexts := `rss-contexts: [{context: 2, equal: 2, rx-flow-hash: {udp4: fnsd, tcp6: s}}, {context: 3, weight: [1, 3]}]`
	first := h.apply(t, policyFor(port, contexts))
	hashed("udp4", "2", "IP SA IP DA "+ports)
	hashed("tcp6", "2", "IP SA")
	hashed("tcp4", "2", "IP SA IP DA") // the driver's
	hashed("udp4", "3", "IP SA IP DA")
	hashed("udp4", "1", "IP DA")
	hashed("udp4", "", "IP SA IP DA")
	if plan := h.planned(t, policyFor(port, contexts)); len(plan.Changes) != 0 {
		t.Errorf("planned again: %+v", plan.Changes)
	}

	// Changed by ethtool it is drift; one field changes, and comes back.
	labtest.Ethtool(t, "-N", port, "rx-flow-hash", "tcp6", "sd", "context", "2")
	drift := h.planned(t, policyFor(port, contexts)).Changes[0]
	if drift.Setting != "rss-contexts" || len(drift.Fields) != 1 || drift.Fields[0].Name != "2/tcp6" {
		t.Errorf("drift: %+v", drift.Fields)
	}
	labtest.Ethtool(t, "-N", port, "rx-flow-hash", "tcp6", "s", "context", "2")
	second := h.apply(t, policyFor(port, `rss-contexts: [{context: 2, equal: 2, rx-flow-hash: {udp4: sd}}, {context: 3, weight: [1, 3]}]`))
	hashed("udp4", "2", "IP SA IP DA")
	hashed("tcp6", "2", "IP SA")
	h.rollback(t, second, false)
	hashed("udp4", "2", "IP SA IP DA "+ports)

	// A context that goes comes back with its fields.
	gone := h.apply(t, policyFor(port, "rss-contexts: []"))
	if got, err := labtest.Try(t, "ethtool", "-x", port, "context", "2"); err == nil {
		t.Errorf("context 2 is still there:\n%s", got)
	}
	h.rollback(t, gone, false)
	hashed("udp4", "2", "IP SA IP DA "+ports)
	hashed("tcp6", "2", "IP SA")
	hashed("udp4", "3", "IP SA IP DA")
	h.rollback(t, first, false)
	hashed("udp4", "1", "IP DA")

	for wish, want := range map[string]string{
		"{equal: 2, rx-flow-hash: {udp4: sdx}}": "rx-flow-hash: udp4: \"sdx\": it takes letters of",
		"{equal: 2, rx-flow-hash: {udp4: sr}}":  "stands alone",
	} {
		if _, err := h.plan(t, policyFor(port, "rss-contexts: ["+wish+"]")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", wish, err, want)
		}
	}

	// A driver that has none by context: refused before a write, or left out.
	netdevsimParameter(t, "lab_ctx_fields", false)
	contexts = "rss-contexts: [{context: 2, equal: 2, rx-flow-hash: {udp4: sdfn}}]"
	before, err := h.plan(t, policyFor(port, contexts))
	if err == nil || !strings.Contains(err.Error(), "rx-flow-hash: the driver has no hash fields by RSS context (") {
		t.Errorf("no fields by context: %+v, %v", before, err)
	}
	if plan := h.planned(t, policyFor(port, contexts)+"optional: true\n"); len(plan.Changes) != 0 || len(plan.Skipped) != 1 {
		t.Errorf("optional: %+v, skipped %+v", plan.Changes, plan.Skipped)
	}
	if got, err := labtest.Try(t, "ethtool", "-x", port, "context", "2"); err == nil {
		t.Errorf("context 2 was made:\n%s", got)
	}
	done := h.apply(t, policyFor(port, "rss-contexts: [{context: 2, equal: 2}]")) // without them it is had
	h.rollback(t, done, false)
}

// TestRSSKinds: hash functions, symmetric hashing, hash fields, and coalescing by
// queue, as ethtool sees them.
func TestRSSKinds(t *testing.T) {
	labtest.Require(t, "nics")
	port := netdevsim(t, 34, false)[0]
	h := tune(t)
	show := func(args ...string) string {
		return strings.Join(strings.Fields(string(labtest.Ethtool(t, args...))), " ")
	}
	before := show("-x", port) + show("-n", port, "rx-flow-hash", "udp4") + show("-Q", port, "--show-coalesce")
	done := h.apply(t, policyFor(port, `rss: {hfunc: crc32, input-xfrm: symmetric-xor, start: 1, equal: 2}
  rx-flow-hash: {udp4: fnsd, tcp6: fn, ether: ds}
  coalesce-queues: [{queues: all, rx-usecs: 8, tx-frames: 3}, {queues: [1, 2-3], rx-usecs: 16, adaptive-tx: on}]`))
	if got := show("-x", port); !strings.Contains(got, "0: 1 2 1 2") || !strings.Contains(got, "crc32: on") || !strings.Contains(got, "symmetric-xor: on") {
		t.Errorf("rss: %s", got)
	}
	for flow, want := range map[string]string{
		"udp4": "IP SA IP DA L4 bytes 0 & 1 [TCP/UDP src port] L4 bytes 2 & 3 [TCP/UDP dst port]", "tcp6": "key: L4 bytes 0 & 1 [TCP/UDP src port] L4 bytes 2 & 3 [TCP/UDP dst port]", "ether": "key: IP SA IP DA",
	} {
		if got := show("-n", port, "rx-flow-hash", flow); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s", flow, got)
		}
	}
	for mask, want := range map[string][]string{
		"0x1": {"Adaptive RX: off TX: off", " rx-usecs: 8 ", " tx-frames: 3 "}, "0x4": {"Adaptive RX: off TX: on", " rx-usecs: 16 "},
	} {
		got := show("-Q", port, "queue_mask", mask, "--show-coalesce")
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("queue mask %s: no %q in %s", mask, part, got)
			}
		}
	}
	h.rollback(t, done, false)
	if got := show("-x", port) + show("-n", port, "rx-flow-hash", "udp4") + show("-Q", port, "--show-coalesce"); got != before {
		t.Errorf("after the rollback: %s\nbefore: %s", got, before)
	}
	for settings, want := range map[string]string{
		"rx-flow-hash: {udp4: sdx}":                   "udp4: \"sdx\": it takes letters of",
		"rx-flow-hash: {gtpu4: sr}":                   "stands alone",
		"coalesce-queues: [{queues: 4, rx-usecs: 1}]": "there is no queue 4",
		"coalesce-queues: [{rx-usecs: 1}]":            "say which, or all",
		"rss: {default: on, equal: 1}":                "default says all",
		"rss: {hfunc: md5}":                           "",
	} {
		if settings == "rss: {hfunc: md5}" {
			continue // refused when the policy is loaded
		}
		if _, err := h.plan(t, policyFor(port, settings)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
	// A value that the driver refuses for the second queue only is undone for the first.
	_, err := h.Apply(t.Context(), h.planned(t, policyFor(port, "coalesce-queues: [{queues: 0, rx-usecs: 5}, {queues: 1, rx-usecs: 10001}]")), h.all, allow)
	if err == nil || strings.Contains(err.Error(), "could not be undone") {
		t.Errorf("a refused value: %v", err)
	}
	if got := show("-Q", port, "--show-coalesce"); !strings.HasSuffix(before, got) {
		t.Errorf("after the undo: %s", got)
	}
}
