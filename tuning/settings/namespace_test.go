package settings

import (
	"errors"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

// TestSoftwareDevices turns knobs that software devices have, and has ethtool
// and ip judge: set, nothing left to set, taken back.
func TestSoftwareDevices(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "tunebr", "type bridge")
	for name, test := range map[string]struct {
		make     string
		settings string
		impact   tuning.Impact
		sees     map[string]string // by command, with blanks made single
	}{
		"coalesce of a tap": {"tuntap add tune0 mode tap", "coalesce: {rx-frames: 12}", tuning.Seamless,
			map[string]string{"ethtool -c tune0": "rx-frames: 12"}},
		"link of a tap": {"tuntap add tune0 mode tap", "link: {speed: 2500, duplex: half}", tuning.Seamless,
			map[string]string{"ethtool tune0": "Speed: 2500Mb/s Duplex: Half"}},
		"alias of a bridge": {"link add tune0 type bridge", "netdev: {alias: uplink to rack 7}", tuning.Seamless,
			map[string]string{"ip link show tune0": "alias uplink to rack 7"}},
		"multicast of a veth": {"link add tune0 type veth peer name tune1", "multicast: {multicast: off, allmulti: on}", tuning.Seamless,
			map[string]string{"ip link show tune0": "<BROADCAST,ALLMULTI,M-DOWN>"}},
		"multicast of a veth that is up": {"link add tune0 up type veth peer name tune1", "multicast: {allmulti: on}", tuning.Seamless,
			map[string]string{"ip -d link show tune0": "promiscuity 0 allmulti 1", "ip link show tune0": "BROADCAST,MULTICAST,ALLMULTI,UP"}},
		"versions of IGMP and MLD": {"link add tune0 type veth peer name tune1", "multicast: {force-igmp-version: 2, force-mld-version: 1}", tuning.Seamless,
			map[string]string{"cat /proc/sys/net/ipv4/conf/tune0/force_igmp_version": "2", "cat /proc/sys/net/ipv6/conf/tune0/force_mld_version": "1"}},
		"multicast of a bridge": {"link add tune0 type bridge", "bridge: {mcast-snooping: off, mcast-querier: on, mcast-router: 2, mcast-hash-max: 8192, mcast-igmp-version: 3, mcast-mld-version: 2}",
			tuning.Seamless, map[string]string{"ip -d -j link show tune0": `"mcast_router":2,`, "ip -d link show tune0": "mcast_igmp_version 3 mcast_mld_version 2",
				"cat /sys/class/net/tune0/bridge/multicast_snooping /sys/class/net/tune0/bridge/multicast_querier /sys/class/net/tune0/bridge/hash_max": "0 1 8192"}},
		"multicast of a bridge's port": {"link add tune0 master tunebr type veth peer name tune1", "bridge-port: {mcast-fast-leave: on, mcast-router: 2, mcast-flood: off, mcast-to-unicast: on, mcast-max-groups: 7}",
			tuning.Seamless, map[string]string{"bridge -d link show dev tune0": "fastleave on", "cat /sys/class/net/tune0/brport/multicast_router /sys/class/net/tune0/brport/multicast_flood /sys/class/net/tune0/brport/multicast_to_unicast": "2 0 1"}},
		"a veth": {"link add tune0 type veth peer name tune1", "netdev: {mtu: max, gso-max-size: 30000, gso-max-segs: 64, gro-max-size: 40000, gso-ipv4-max-size: 50000}",
			tuning.Seamless, map[string]string{"ip -d link show tune0": "mtu 65535", "ip -d -j link show tune0": `"gso_max_size":30000,"gso_max_segs":64`}},
		"a bridge": {"link add tune0 type bridge", "netdev: {mtu: 9000, txqueuelen: 500}", tuning.LinkFlap,
			map[string]string{"ip link show tune0": "mtu 9000", "ip -j link show tune0": `"txqlen":500`}},
		"an ifb": {"link add tune0 type ifb", "netdev: {txqueuelen: 64, gso-max-size: max}", tuning.LinkFlap,
			map[string]string{"ip -d link show tune0": "qlen 64"}},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.IP(t, test.make)
			defer nstest.IP(t, "link del tune0")
			w := live(t)
			all := nics(t, w)
			before := state(t, w, all, "tune0")
			policy := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nmatch: {name: tune0}\nsettings:\n  " + test.settings + "\n"
			e := engine(t, w, t.TempDir())
			p := plan(t, w, all, policy)
			if p.Impact() != test.impact {
				t.Errorf("the impact is %s, want %s", p.Impact(), test.impact)
			}
			done, err := e.Apply(t.Context(), p, all, allow)
			if files := strings.Count(test.settings, "force-"); err != nil || done == nil || w.writes != max(files, 1) {
				t.Fatalf("%v, %d writes", err, w.writes)
			}
			for command, want := range test.sees {
				words := strings.Fields(command)
				out := strings.Join(strings.Fields(string(nstest.Run(t, words[0], words[1:]...))), " ")
				if !strings.Contains(out, want) {
					t.Errorf("%s shows no %q: %s", command, want, out)
				}
			}
			if again := plan(t, w, all, policy); len(again.Changes) != 0 {
				t.Errorf("a second plan: %+v", again.Changes)
			}
			if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
				t.Error(err)
			}
			if after := state(t, w, all, "tune0"); after != before {
				t.Errorf("after the rollback:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// What a device can't have is said with its maximum before anything is written,
// and what only the kernel knows to refuse is undone with its words.
func TestNetdevRefuses(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "tune0", "type veth peer name tune1")
	w := live(t)
	all := nics(t, w)
	before := state(t, w, all, "tune0")
	policy := func(fields string) string {
		return "apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nmatch: {name: tune0}\nsettings:\n  netdev: " + fields + "\n"
	}
	_, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, policy("{mtu: 70000, gso-max-size: 600000, alias: "+strings.Repeat("a", 256)+"}")), nil)
	for _, part := range []string{"tune0: netdev.mtu: 70000: the device takes 65535 at most", "tune0: netdev.gso-max-size: 600000: the device takes 524280 at most", "alias: the kernel keeps 255 bytes, not 256"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q: %v", part, err)
		}
	}
	if _, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, policy("{alias: 7}")), nil); err == nil ||
		!strings.Contains(err.Error(), "tune0: netdev.alias: 7: it takes text: put a number in quotes") {
		t.Errorf("error %v", err)
	}
	if w.writes != 0 {
		t.Errorf("%d writes", w.writes)
	}
	_, err = engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, policy("{mtu: 60, txqueuelen: 5}")), all, allow)
	var failure *tuning.ApplyError
	if !errors.As(err, &failure) || len(failure.Left) > 0 || !strings.Contains(err.Error(), "route LINK_SET: invalid argument (kernel: mtu less than device minimum)") {
		t.Errorf("error %v", err)
	}
	if after := state(t, w, all, "tune0"); after != before {
		t.Errorf("after the undo:\n%s\nbefore:\n%s", after, before)
	}
}
