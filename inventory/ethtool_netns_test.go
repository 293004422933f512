package inventory

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Software devices of every kind, ours beside what ethtool says of each.
func TestSoftwareDevicesAgreeWithEthtool(t *testing.T) {
	zoo(t)
	s := surveyed(t, open(t), readDrivers, readEthtool, readHashFields, readNtuple, readTunables)
	if len(s.unread) > 0 {
		t.Errorf("of the host: %+v", s.unread)
	}
	for _, n := range s.nics {
		t.Run(n.Name, func(t *testing.T) {
			// ethtool -i has nothing to say of some (a VRF): both or neither.
			if out, err := exec.Command("ethtool", "-i", n.Name).Output(); err == nil {
				sameDriver(t, n, out)
			} else if n.Driver != nil || unreadOf(n, "driver") == "" {
				t.Errorf("ethtool -i: %v; ours %+v, unread %q", err, n.Driver, unreadOf(n, "driver"))
			}
			sameFeatures(t, n, run(t, "ethtool --json -k "+n.Name))
			sameTimestamping(t, n, run(t, "ethtool -T "+n.Name))
			// Where it has next to nothing to say it exits with 75.
			out, _ := exec.Command("ethtool", n.Name).Output()
			settings := colonLines(out)
			if n.Link.Detected != nil {
				same(t, "link detected", map[bool]string{true: "yes", false: "no"}[*n.Link.Detected], settings["Link detected"])
			} else if settings["Link detected"] != "" {
				t.Errorf("link detected: ethtool says %s", settings["Link detected"])
			}
			if n.Link.Abilities != nil {
				same(t, "port", n.Link.Port, settings["Port"])
				same(t, "transceiver", n.Link.Transceiver, settings["Transceiver"])
				same(t, "duplex", n.Link.Duplex, strings.TrimPrefix(strings.ToLower(settings["Duplex"]), "unknown! (255)"))
			}
			for _, u := range n.Unread {
				if u.Reason != "unsupported" {
					t.Errorf("%s: %s %s", u.Fact, u.Reason, u.Detail)
				}
			}
		})
	}
	// A fact is there or listed as missing, and never both.
	for _, n := range s.nics {
		for fact, there := range map[string]bool{
			"link.fec": n.Link.FEC != nil, "link.pause": n.Link.Pause != nil, "link.eee": n.Link.EEE != nil,
			"link.supportedModes": n.Link.Abilities != nil, "queues.channels": n.Queues.Channels != nil,
			"queues.rings": n.Queues.Rings != nil, "queues.coalesce": n.Queues.Coalesce != nil,
			"queues.rss.table":  n.Queues.RSS != nil && n.Queues.RSS.Hash != "",
			"queues.ntuple":     n.Queues.Ntuple != nil,
			"offloads.features": n.Offloads.Features != nil, "offloads.timestamping": n.Offloads.Timestamping != nil,
			"offloads.tunables": n.Offloads.Tunables != nil, "offloads.privateFlags": n.Offloads.PrivateFlags != nil,
			"driver": n.Driver != nil,
		} {
			if listed := unreadOf(n, fact) != ""; listed == there {
				t.Errorf("%s %s: there %v, listed as missing %v", n.Name, fact, there, listed)
			}
		}
	}
}

// The kernel names its own features and link modes, the newest of them, too.
func TestKernelNamesFeaturesAndLinkModes(t *testing.T) {
	w := readWords(t.Context(), surveyed(t, open(t)), wordSets()...)
	for set, want := range map[uint32]string{
		uapi.ETH_SS_FEATURES: "tx-scatter-gather", uapi.ETH_SS_RSS_HASH_FUNCS: "toeplitz",
		uapi.ETH_SS_LINK_MODES: "25000baseCR/Full", uapi.ETH_SS_SOF_TIMESTAMPING: "hardware-transmit",
		uapi.ETH_SS_TS_TX_TYPES: "onestep-sync", uapi.ETH_SS_TS_RX_FILTERS: "ptpv2-event",
	} {
		found := false
		for i := range w.sets[set] {
			found = found || w.word(set, i) == want
		}
		if !found {
			t.Errorf("set %d has no %q: %q", set, want, w.sets[set])
		}
	}
}
