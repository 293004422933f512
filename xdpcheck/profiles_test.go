package xdpcheck

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

const (
	featuresReady = `offloads: "features": {"rx-lro": {}, "rx-gro-hw": {}, "rx-ntuple-filter": {"active": true, "hardware": true}}`
	queuesReady   = `"queues": {"channels": {"combined": {"current": 4, "maximum": 8}}, "rings": {"rx": {"current": 2048, "maximum": 4096}, "tcpDataSplit": "off"}, ` +
		`"rss": {"table": [0, 1, 2, 0, 1, 2]}, "ntuple": {"rules": [{"location": 1, "flowType": "udp4", "action": "queue", "queue": 3}]}}`
)

// Each profile says yes of a NIC that is ready, and no of the same NIC with one thing
// wrong, naming it.
func TestProfiles(t *testing.T) {
	ready := nicText("mlx5_core", "basic redirect xsk-zerocopy rx-sg", featuresReady, queuesReady)
	for _, test := range []struct {
		profile, from, to string // what of the ready NIC is wrong
		item              string
		setting           string
		value             any
	}{
		{"ddos-filter", `"rx-lro": {}`, `"rx-lro": {"active": true, "hardware": true}`, "rx-lro", "features", map[string]any{"rx-lro": false}},
		{"ddos-filter", `"current": 2048`, `"current": 256`, "rx-ring", "rings", map[string]any{"rx": uint32(1024)}},
		{"ddos-filter", `"combined": {"current": 4`, `"combined": {"current": 1`, "queues", "channels", map[string]any{"combined": uint32(2)}},
		{"l4lb", `"mtu": 1500`, `"mtu": 3600`, "mtu", "netdev", map[string]any{"mtu": 3498}},
		{"l4lb", `"tcpDataSplit": "off"`, `"tcpDataSplit": "on"`, "header-split", "rings", map[string]any{"tcp-data-split": false}},
		{"af-xdp", `,"xsk-zerocopy"`, ``, "zero-copy", "", nil},
		{"af-xdp", `"rx-ntuple-filter": {"active": true`, `"rx-ntuple-filter": {"active": false`, "ntuple", "features", map[string]any{"ntuple": true}},
		{"queue-share", `[0, 1, 2, 0, 1, 2]`, `[0, 1, 2, 3]`, "queue-outside-rss", "rss", map[string]any{"exclude-queues": []uint32{3}}},
		{"queue-share", `"queue": 3`, `"queue": 2`, "rule", "", nil},
	} {
		p, err := FindProfile(test.profile)
		if err != nil {
			t.Fatal(err)
		}
		_, n := hostOf(t, "6.12.1", ready)
		if r := p.Judge(n); r.Ready != "yes" {
			t.Errorf("%s: %+v", test.profile, r)
		}
		if !strings.Contains(ready, test.from) {
			t.Fatalf("%s: nothing to change for %s", test.profile, test.item)
		}
		_, n = hostOf(t, "6.12.1", strings.Replace(ready, test.from, test.to, 1))
		r := p.Judge(n)
		i := slices.IndexFunc(r.Items, func(i Item) bool { return i.Name == test.item })
		if r.Ready != "no" || i < 0 || r.Items[i].Status != findings.Fail || !strings.HasSuffix(r.Items[i].Do, ".") || r.Items[i].Source == "" {
			t.Errorf("%s with %s: %+v", test.profile, test.to, r)
			continue
		}
		if got := r.Settings()[test.setting]; test.setting != "" && !reflect.DeepEqual(any(got), test.value) {
			t.Errorf("%s with %s: %v", test.profile, test.to, r.Settings())
		}
	}
}

// What is not known is neither ready nor a failure.
func TestProfilesOfAnUnknownHost(t *testing.T) {
	_, n := hostOf(t, "", `{"name": "eth0", "driver": {"name": "acme"}, "offloads": {}}`)
	n.facts.extra = Extra{}
	n.facts.memory = memory{}
	for _, name := range []string{"ddos-filter", "l4lb", "af-xdp"} {
		p, _ := FindProfile(name)
		r := p.Judge(n)
		if r.Ready != "unknown" || len(r.Settings()) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A driver that migrates VFs is there where it was seen, not where it may have been
// built.
func TestMigration(t *testing.T) {
	f, n := hostOf(t, "6.12.1", nicText("mlx5_core", "basic"))
	if got := n.migrationItem(); got.Status != findings.Unknown || !strings.Contains(got.Seen, "modprobe mlx5_vfio_pci") {
		t.Errorf("not seen: %+v", got)
	}
	f.extra.Modules = []string{"mlx5_vfio_pci"}
	if got := n.migrationItem(); got.Status != findings.Pass {
		t.Errorf("loaded: %+v", got)
	}
	// RHEL 9 has it in its 5.14.
	if _, n := hostOf(t, "5.14.0-503.el9.x86_64", nicText("mlx5_core", "basic")); n.migrationItem().Status != findings.Unknown {
		t.Error("of an older kernel of a distribution it is known")
	}
}

// An old release is no proof: distributions bring much back.
func TestOldReleaseIsNoProof(t *testing.T) {
	for release, want := range map[string]findings.Status{
		"4.18.0-553.el8_10.x86_64": findings.Unknown, "5.4.0": findings.Unknown, "5.6.0": findings.Pass, "": findings.Unknown,
	} {
		_, n := hostOf(t, release, nicText("mlx5_core", "basic"))
		if got := n.kernelItem(Release{5, 6}, "a source"); got.Status != want {
			t.Errorf("%s: %+v", release, got)
		}
	}
}

// IOMMUs that could not be listed are not none.
func TestUnreadIOMMUs(t *testing.T) {
	f, n := hostOf(t, "6.12.1", nicText("igb", "basic"))
	f.unread = []inventory.Unread{{Fact: "iommu.units", Reason: inventory.Denied}}
	if got := n.iommuItem(); got.Status != findings.Unknown {
		t.Errorf("%+v", got)
	}
	f.host.IOMMU.Units = []string{"ivhd0"}
	if got := n.iommuItem(); got.Status != findings.Pass {
		t.Errorf("%+v", got)
	}
}

func TestOtherProfiles(t *testing.T) {
	item := func(profile, name string, nics ...string) Item {
		p, err := FindProfile(profile)
		if err != nil {
			t.Fatal(err)
		}
		f, n := hostOf(t, "6.12.1", nics...)
		f.extra.ESwitch = map[string]string{"pci/new": "switchdev", "pci/old": "legacy", "pci/none": "none"}
		f.extra.Recycled = map[string]Recycling{"eth0": {Allocated: 2000, Reused: 98000}}
		items := p.Judge(n).Items
		return items[slices.IndexFunc(items, func(i Item) bool { return i.Name == name })]
	}
	for _, test := range []struct {
		profile, item string
		nics          []string
		want          findings.Status
	}{
		{"tc-offload", "hw-tc-offload", []string{nicText("ice", "basic", `offloads: "features": {"hw-tc-offload": {"active": true}}`)}, findings.Pass},
		{"tc-offload", "hw-tc-offload", []string{nicText("ice", "basic", `offloads: "features": {"hw-tc-offload": {"hardware": true}}`)}, findings.Fail},
		{"tc-offload", "hw-tc-offload", []string{nicText("ice", "basic")}, findings.Unknown},
		{"tc-offload", "switchdev", []string{nicText("ice", "basic", `"port": {"switchId": "aa"}, "devlink": {"handle": "pci/new"}`)}, findings.Pass},
		// ice and i40e tell of a switch in legacy mode, too.
		{"tc-offload", "switchdev", []string{nicText("ice", "basic", `"port": {"switchId": "aa"}, "devlink": {"handle": "pci/old"}`)}, findings.Fail},
		{"tc-offload", "switchdev", []string{nicText("i40e", "basic", `"port": {"switchId": "aa"}, "devlink": {"handle": "pci/none"}`)}, findings.Fail},
		{"tc-offload", "switchdev", []string{nicText("ice", "basic", `"port": {"switchId": "aa"}, "devlink": {"handle": "pci/denied"}`)}, findings.Unknown},
		{"tc-offload", "representors", []string{nicText("ice", "basic", `"port": {"switchId": "aa"}, "devlink": {"handle": "pci/old"}`), `{"name": "r0", "function": "representor", "port": {"switchId": "aa"}, "offloads": {}}`}, findings.Unknown},
		{"tc-offload", "switchdev", []string{nicText("ice", "basic")}, findings.Fail},
		{"tc-offload", "representors", []string{nicText("ice", "basic", `"port": {"switchId": "aa"}, "devlink": {"handle": "pci/new"}`), `{"name": "r0", "function": "representor", "port": {"switchId": "aa"}, "offloads": {}}`}, findings.Pass},
		{"tc-offload", "representors", []string{nicText("ice", "basic", `"port": {"switchId": "aa"}, "devlink": {"handle": "pci/new"}`), `{"name": "r0", "function": "representor", "port": {"switchId": "bb"}, "offloads": {}}`}, findings.Fail},
		{"sriov-host", "pf", []string{nicText("igb", "basic", `"pci": {"sriov": {"totalVfs": 7, "numVfs": 0}}`)}, findings.Pass},
		{"sriov-host", "vfs", []string{nicText("igb", "basic", `"pci": {"sriov": {"totalVfs": 7, "numVfs": 0}}`)}, findings.Fail},
		{"sriov-host", "iommu-group", []string{nicText("igb", "basic", `"iommu": {"group": 4, "members": ["0000:01:00.1"]}`)}, findings.Fail},
		{"sriov-host", "iommu-group", []string{nicText("igb", "basic", `"iommu": {"group": 4}`)}, findings.Pass},
		{"sriov-host", "live-migration", []string{nicText("mlx5_core", "basic")}, findings.Unknown},
		{"sriov-host", "live-migration", []string{nicText("ionic", "basic")}, findings.Unknown},
		{"sriov-host", "iommu", []string{nicText("igb", "basic")}, findings.Fail},
		{"tc-offload", "switchdev", []string{nicText("ice", "basic", `"unread": [{"fact": "devlink", "reason": "failed"}]`)}, findings.Unknown},
		{"tc-offload", "switchdev", []string{nicText("ice", "basic", `"unread": [{"fact": "devlink", "reason": "unsupported"}]`)}, findings.Fail},
		{"ddos-filter", "header-split", []string{nicText("igb", "basic")}, findings.Pass},
		{"ddos-filter", "header-split", []string{nicText("igb", "basic", `"unread": [{"fact": "queues.rings", "reason": "denied"}]`)}, findings.Unknown},
		{"queue-share", "rule", []string{nicText("igb", "basic", `"queues": {"channels": {"combined": {"current": 4, "maximum": 8}}, "ntuple": {"rules": []}}`)}, findings.Unknown},
		{"sriov-host", "live-migration", []string{nicText("igb", "basic")}, findings.Unknown},
		{"memory", "page", []string{nicText("igb", "basic")}, findings.Pass},
		{"memory", "recycling", []string{nicText("igb", "basic", `"queues": {"pagePools": [{"id": 1}]}`)}, findings.Pass},
		{"memory", "recycling", []string{nicText("igb", "basic")}, findings.Unknown},
		{"memory", "header-split", []string{nicText("igb", "basic", `"queues": {"rings": {"tcpDataSplit": "off"}}`)}, findings.Fail},
		{"memory", "big-tcp", []string{nicText("igb", "basic", `offloads: "limits": {"tsoMaxSize": 524280, "gsoMaxSize": 65536, "groMaxSize": 65536}`)}, findings.Fail},
		{"memory", "big-tcp", []string{nicText("igb", "basic", `offloads: "limits": {"tsoMaxSize": 524280, "gsoMaxSize": 185000, "groMaxSize": 185000}`)}, findings.Pass},
		{"memory", "big-tcp", []string{nicText("igb", "basic")}, findings.Unknown},
	} {
		if got := item(test.profile, test.item, test.nics...); got.Status != test.want {
			t.Errorf("%s: %s: %+v, want %s", test.profile, test.nics[0], got, test.want)
		}
	}
}
