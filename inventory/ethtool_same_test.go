package inventory

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// What ethtool prints, put beside what a survey says. Each comparison goes both
// ways: what ethtool shows and we lack is a difference, too.

// ethtoolObject is the one object of an `ethtool --json` answer, without the
// name; nil where ethtool printed none.
func ethtoolObject(t *testing.T, out []byte) map[string]any {
	t.Helper()
	var list []map[string]any
	// What can't be had is "netlink error: ..." and an empty list.
	if i := strings.IndexByte(string(out), '['); i > 0 {
		out = out[i:]
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("ethtool: %v in %s", err, out)
	}
	if len(list) != 1 {
		return nil
	}
	delete(list[0], "ifname")
	if len(list[0]) == 0 {
		return nil
	}
	return list[0]
}

// plain is v as JSON decodes it, so that it compares with ethtool's.
func plain(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// ethtoolNames are the features that ethtool shows by names older than the
// kernel's.
var ethtoolNames = map[string]string{
	"rx-checksumming":              "rx-checksum",
	"generic-segmentation-offload": "tx-generic-segmentation",
	"generic-receive-offload":      "rx-gro",
	"large-receive-offload":        "rx-lro",
	"rx-vlan-offload":              "rx-vlan-hw-parse",
	"tx-vlan-offload":              "tx-vlan-hw-insert",
	"ntuple-filters":               "rx-ntuple-filter",
	"receive-hashing":              "rx-hashing",
}

// sameFeatures compares with `ethtool --json -k`.
func sameFeatures(t *testing.T, n *NIC, out []byte) {
	t.Helper()
	object := ethtoolObject(t, out)
	if len(object) < 40 {
		t.Errorf("ethtool shows only %d features", len(object))
	}
	left := maps.Clone(n.Offloads.Features)
	for name, v := range object {
		state, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("feature %s: %v", name, v)
		}
		if state["fixed"] == nil {
			continue // the sum of several, which follow
		}
		if kernels, ok := ethtoolNames[name]; ok {
			name = kernels
		}
		f, ok := left[name]
		if !ok {
			t.Errorf("feature %s: ethtool shows it, we don't", name)
			continue
		}
		delete(left, name)
		same(t, "feature "+name, map[string]any{"active": f.Active, "fixed": f.Fixed, "requested": f.Wanted}, state)
	}
	for name := range left {
		t.Errorf("feature %s: we show it, ethtool doesn't", name)
	}
}

// colonLines are the "name: value" lines of a text.
func colonLines(out []byte) map[string]string {
	lines := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			lines[name] = strings.TrimSpace(value)
		}
	}
	return lines
}

// sameDriver compares with `ethtool -i`.
func sameDriver(t *testing.T, n *NIC, out []byte) {
	t.Helper()
	if n.Driver == nil {
		t.Errorf("no driver; ethtool has one: %s", out)
		return
	}
	lines := colonLines(out)
	maps.DeleteFunc(lines, func(name, _ string) bool { return strings.HasPrefix(name, "supports-") })
	same(t, "driver", map[string]string{
		"driver": n.Driver.Name, "version": n.Driver.Version, "firmware-version": strings.TrimSpace(n.Driver.Firmware),
		"expansion-rom-version": n.Driver.ExpansionROM, "bus-info": n.Driver.BusInfo,
	}, lines)
}

// sameTimestamping compares with `ethtool -T`.
func sameTimestamping(t *testing.T, n *NIC, out []byte) {
	t.Helper()
	if n.Offloads.Timestamping == nil {
		t.Errorf("no timestamping; ethtool has: %s", out)
		return
	}
	lists := map[string][]string{}
	clock, section := "", ""
	for line := range strings.Lines(string(out)) {
		if word, ok := strings.CutPrefix(line, "\t"); ok {
			word, _, _ = strings.Cut(strings.TrimSpace(word), " ") // older versions add the constant's name
			lists[section] = append(lists[section], word)
			continue
		}
		var value string
		section, value, _ = strings.Cut(strings.TrimSpace(line), ":")
		if section == "PTP Hardware Clock" || section == "Hardware timestamp provider index" {
			clock = strings.TrimSpace(value)
		}
	}
	ts := n.Offloads.Timestamping
	same(t, "timestamping capabilities", slices.Sorted(slices.Values(ts.Capabilities)), slices.Sorted(slices.Values(lists["Capabilities"])))
	same(t, "transmit modes", ts.TXTypes, lists["Hardware Transmit Timestamp Modes"])
	same(t, "receive filters", ts.RXFilters, lists["Hardware Receive Filter Modes"])
	phc := "none"
	if ts.PHC != nil {
		phc = string(plainNumber(*ts.PHC))
	}
	same(t, "PHC", phc, clock)
}

func plainNumber(i int) []byte {
	b, _ := json.Marshal(i)
	return b
}
