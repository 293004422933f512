package xdpcheck

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// hostOf is a host of x86 with these NICs, in their JSON form; the first is judged.
func hostOf(t testing.TB, release string, nics ...string) (*Facts, NIC) {
	t.Helper()
	var list []inventory.NIC
	for i, text := range nics {
		var n inventory.NIC
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		n.Index = i + 1
		list = append(list, n)
	}
	host := &inventory.Host{Hostname: "h", Kernel: release, Architecture: "x86_64"}
	f := Of(host, list, nil, &Extra{PageSize: 4096, JIT: "1", Virtio: map[string]string{}})
	return f, f.NIC(0)
}

// nicText is a NIC of a driver, with what the kernel announces ("" where it has no
// words for it, "-" for nothing) and more fields of the offloads and of the NIC.
func nicText(driver, announced string, more ...string) string {
	offloads := `"features": {"rx-lro": {"active": false, "hardware": true}, "rx-gro-hw": {"active": false, "hardware": true}}`
	if announced == "-" {
		offloads += `, "xdpFeatures": []`
	} else if announced != "" {
		offloads += `, "xdpFeatures": ["` + strings.ReplaceAll(announced, " ", `","`) + `"]`
	}
	nic := `"name": "eth0", "mac": "52:54:00:00:00:01", "driver": {"name": "` + driver + `"}, "link": {"mtu": 1500}`
	for _, m := range more {
		if rest, ok := strings.CutPrefix(m, "offloads: "); ok {
			offloads += ", " + rest
		} else {
			nic += ", " + m
		}
	}
	return "{" + nic + `, "offloads": {` + offloads + "}}"
}

// Kernels that announce nothing are judged by what the table knows of redirecting.
func TestRedirectOnOldKernels(t *testing.T) {
	for _, test := range []struct {
		driver, kernel string
		redirect, xmit Answer
	}{
		{"mlx5_core", "5.10.0-30-amd64", Yes, Yes}, {"mlx5_core", "4.18.0-553.el8.x86_64", Unknown, Unknown}, {"i40e", "4.19.0", Yes, Unknown},
		{"ena", "5.10.223", Unknown, Unknown}, {"ena", "5.11.0", Yes, Yes}, {"qede", "5.4.0", Unknown, Unknown}, {"qede", "5.9.0", Yes, Yes}, {"virtio_net", "4.14.336", Unknown, Unknown},
		{"vif", "5.10.223", Yes, Yes}, {"ixgbevf", "5.10.223", Unsupported, Unsupported},
	} {
		_, n := hostOf(t, test.kernel, nicText(test.driver, ""))
		if c := n.Capabilities(); c.Redirect.Answer != test.redirect || c.Xmit.Answer != test.xmit {
			t.Errorf("%s on %s: redirect %v (%s), xmit %v (%s), want %v and %v", test.driver, test.kernel, c.Redirect.Answer, c.Redirect.Why, c.Xmit.Answer, c.Xmit.Why, test.redirect, test.xmit)
		}
	}
}

func TestCapabilities(t *testing.T) {
	const lroOn = `offloads: "features": {"rx-lro": {"active": true, "hardware": true, "wanted": true}}`
	for _, test := range []struct {
		name, kernel, nic              string
		native, zeroCopy, xmit, frames Answer
		why                            string // part of native's
	}{
		{"igb on 6.12", "6.12.107+deb13-amd64", nicText("igb", "basic redirect"), Yes, Unsupported, Yes, Unsupported, "announces"},
		{"igb on 7.2", "7.2.13", nicText("igb", "basic redirect xsk-zerocopy"), Yes, Yes, Yes, Unsupported, "announces"},
		{"igb on 5.9, which announces nothing", "5.9.1", nicText("igb", ""), Unknown, Unknown, Unknown, Unsupported, "since Linux 5.10; this is 5.9; a distribution"},
		{"igb on 5.15", "5.15.0", nicText("igb", ""), Yes, Unknown, Yes, Unsupported, "by the table"},
		{"e1000e", "6.12.1", nicText("e1000e", "-"), Unsupported, Unsupported, Unsupported, Unsupported, "in no Linux up to 7.2"},
		{"e1000e on a kernel that nobody read", "8.0.1", nicText("e1000e", "-"), Unknown, Unknown, Unknown, Unknown, "isn't in the table"},
		{"an unknown driver", "6.12.1", nicText("acme", "-"), Unknown, Unknown, Unknown, Unknown, "isn't in the table"},
		{"an unknown driver that has it", "6.12.1", nicText("acme", "basic"), Yes, Unknown, Unknown, Unknown, "announces"},
		{"an unknown driver, 4.18", "4.18.0-553.el8.x86_64", nicText("acme", ""), Unknown, Unknown, Unknown, Unknown, "doesn't announce"},
		{"mlx5 on 4.18", "4.18.0-553.el8.x86_64", nicText("mlx5_core", ""), Yes, Unknown, Unknown, Unknown, "by the table"},
		{"ixgbe on 5.4, of which LRO could not be read", "5.4.0", `{"name": "eth0", "driver": {"name": "ixgbe"}, "link": {"mtu": 1500}, "offloads": {}, "unread": [{"fact": "offloads.features", "reason": "denied"}]}`, Unknown, Unknown, Unknown, Unsupported, "offloads.features could not be read"},
		{"ixgbe on 5.4, of which VFs could not be read", "5.4.0", nicText("ixgbe", "", `"unread": [{"fact": "pci", "reason": "failed"}]`), Unknown, Unknown, Unknown, Unsupported, "pci.sriov could not be read"},
		{"ixgbe on 5.4", "5.4.0", nicText("ixgbe", "", `"unread": [{"fact": "queues.rss.fields", "reason": "failed"}, {"fact": "queues.channels", "reason": "unsupported"}]`), Yes, Yes, Unknown, Unsupported, "by the table"},
		{"mlx5", "6.12.1", nicText("mlx5_core", "basic redirect xsk-zerocopy rx-sg"), Yes, Yes, Yes, Yes, "announces"},
		{"mlx5 with LRO", "6.12.1", nicText("mlx5_core", "-", lroOn), Blocked, Blocked, Blocked, Blocked, "rx-lro is on"},
		{"mlx5 with something else", "6.12.1", nicText("mlx5_core", "-"), Blocked, Blocked, Blocked, Blocked, "can't be seen from here"},
		{"ena with all channels", "6.12.1", nicText("ena", "-", `"queues": {"channels": {"combined": {"current": 8, "maximum": 8}}}`), Blocked, Unsupported, Blocked, Unsupported, "8 of 8 combined"},
		{"ena with half of them", "6.12.1", nicText("ena", "basic redirect", `"queues": {"channels": {"combined": {"current": 4, "maximum": 8}}}`), Yes, Unsupported, Yes, Unsupported, "announces"},
		{"ice with jumbo frames", "6.12.1", nicText("ice", "basic redirect xsk-zerocopy rx-sg", `"link": {"mtu": 9000}`), Blocked, Blocked, Blocked, Yes, "9000, and one buffer holds 3046"},
		{"igb with jumbo frames", "6.12.1", nicText("igb", "basic redirect", `"link": {"mtu": 9000}`), Blocked, Unsupported, Blocked, Unsupported, "9000"},
		{"bnxt with header split", "7.2.1", nicText("bnxt_en", "basic redirect rx-sg", `"queues": {"rings": {"tcpDataSplit": "on"}}`), Blocked, Unsupported, Blocked, Blocked, "header split"},
		{"bnxt with header split, before it was refused", "6.12.1", nicText("bnxt_en", "basic redirect rx-sg", `"queues": {"rings": {"tcpDataSplit": "on"}}`), Yes, Unsupported, Yes, Yes, "announces"},
		{"ixgbe with VFs", "6.12.1", nicText("ixgbe", "basic redirect xsk-zerocopy", `"pci": {"sriov": {"totalVfs": 63, "numVfs": 4}}`), Blocked, Blocked, Blocked, Unsupported, "4 virtual functions"},
		{"vmxnet3 turns LRO off by itself", "6.12.1", nicText("vmxnet3", "basic redirect ndo-xmit", lroOn), Yes, Unsupported, Yes, Unsupported, "announces"},
		{"netdevsim 6.12 says less than it has", "6.12.1", nicText("netdevsim", "hw-offload"), Yes, Unsupported, Unsupported, Unsupported, "announces it from Linux 7.2"},
		{"a tun device", "6.12.1", `{"name": "eth0", "driver": {"name": "tun"}, "offloads": {"xdpFeatures": []}}`, Blocked, Unsupported, Blocked, Unsupported, "no Ethernet header"},
		{"a tap device", "6.12.1", nicText("tun", "basic redirect ndo-xmit"), Yes, Unsupported, Yes, Unsupported, "announces"},
		{"fbnic that splits", "7.2.1", nicText("fbnic", "basic rx-sg", `"queues": {"rings": {"hdsThreshold": {"current": 1000, "maximum": 1536}}}`), Blocked, Unsupported, Unsupported, Blocked, "split from 1000"},
		{"a bond whose policy is in the way", "6.12.1", nicText("bonding", "-", `"stack": {"bond": {"mode": "802.3ad", "xmitHashPolicy": "vlan+srcmac"}}`), Blocked, Unsupported, Blocked, Unknown, "vlan+srcmac"},
		{"a bond whose mode uses no policy", "6.12.1", nicText("bonding", "basic redirect ndo-xmit", `"stack": {"bond": {"mode": "active-backup", "xmitHashPolicy": "vlan+srcmac"}}`), Yes, Unsupported, Yes, Unknown, "announces"},
		{"a bond that can't", "6.12.1", nicText("bonding", "-", `"stack": {"bond": {"mode": "balance-tlb"}}`), Blocked, Unsupported, Blocked, Unknown, "the bond's mode"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, n := hostOf(t, test.kernel, test.nic)
			c := n.Capabilities()
			if c.Native.Answer != test.native || !strings.Contains(c.Native.Why, test.why) {
				t.Errorf("native: %s, want %s; why %q, want %q", c.Native.Answer, test.native, c.Native.Why, test.why)
			}
			for what, pair := range map[string][2]Answer{"zero copy": {c.ZeroCopy.Answer, test.zeroCopy}, "xmit": {c.Xmit.Answer, test.xmit}, "multi-buffer": {c.MultiBuffer.Answer, test.frames}} {
				if pair[0] != pair[1] {
					t.Errorf("%s: %s, want %s", what, pair[0], pair[1])
				}
			}
		})
	}
}

// Each blocker names the setting that removes it.
func TestBlockersNameSettings(t *testing.T) {
	for _, test := range []struct {
		nic, kernel, setting string
		value                map[string]any
	}{
		{nicText("mlx5_core", "-", `offloads: "features": {"rx-gro-hw": {"active": true}}`), "6.12", "features", map[string]any{"rx-gro-hw": false}},
		{nicText("ena", "-", `"queues": {"channels": {"combined": {"current": 8, "maximum": 9}}}`), "6.12", "channels", map[string]any{"combined": uint32(4)}},
		{nicText("gve", "basic", `"queues": {"channels": {"rx": {"current": 4, "maximum": 16}, "tx": {"current": 8, "maximum": 16}}}`), "6.12", "channels", map[string]any{"rx": uint32(4), "tx": uint32(4)}},
		{nicText("bnxt_en", "basic", `"queues": {"channels": {"rx": {"current": 4, "maximum": 16}, "tx": {"current": 8, "maximum": 16}, "combined": {"current": 0, "maximum": 8}}}`), "6.12", "channels", map[string]any{"rx": 0, "tx": 0, "combined": uint32(4)}},
		{nicText("igb", "basic", `"link": {"mtu": 4000}`), "6.12", "netdev", map[string]any{"mtu": 3046}},
		{nicText("gve", "basic", `"queues": {"rings": {"rxBufLen": 4096}}`), "7.2", "rings", map[string]any{"rx-buf-len": uint32(2048)}},
	} {
		_, n := hostOf(t, test.kernel, test.nic)
		native := n.Capabilities().Native
		if native.Answer != Blocked || len(native.Blockers) != 1 {
			t.Errorf("%s: %+v", test.nic, native)
			continue
		}
		b := native.Blockers[0]
		if b.Setting != test.setting || !reflect.DeepEqual(b.Value, test.value) || !strings.HasSuffix(b.Do, ".") || b.Source == "" {
			t.Errorf("%s: %+v", test.nic, b)
		}
	}
}

// A virtio device that merges packets and can't be told to stop refuses programs,
// though the kernel announces that it takes them.
func TestVirtioGuestOffloads(t *testing.T) {
	f, n := hostOf(t, "6.12.1", nicText("virtio_net", "basic redirect rx-sg"))
	for bits, want := range map[string]Answer{
		"":          Yes, // not read
		"110000011": Blocked, "111000011": Yes, "100000000": Yes, "100000010": Blocked,
	} {
		f.extra.Virtio[n.Name] = bits
		if got := n.Capabilities().Native; got.Answer != want {
			t.Errorf("%q: %+v", bits, got)
		}
	}
}

// Zero copy needs memory that is mapped for the device; programs don't.
func TestVirtioAccessPlatform(t *testing.T) {
	f, n := hostOf(t, "7.2.13", nicText("virtio_net", "basic redirect rx-sg xsk-zerocopy"))
	const control = "001000000" // ctrl_guest_offloads
	for bits, want := range map[string]Answer{"": Yes, control: Blocked, control + strings.Repeat("0", 24) + "1": Yes, control + strings.Repeat("0", 25): Blocked} {
		f.extra.Virtio[n.Name] = bits
		if c := n.Capabilities(); c.ZeroCopy.Answer != want || c.Native.Answer != Yes {
			t.Errorf("%q: %+v, native %+v", bits, c.ZeroCopy, c.Native)
		}
	}
}

func TestVethAndItsPeer(t *testing.T) {
	const veth = `{"name": "v0", "driver": {"name": "veth"}, "link": {"mtu": 9000}, "stack": {"peer": "v1"}, "queues": {"channels": {"rx": {"current": 2}}}, "offloads": {"xdpFeatures": ["basic"]}}`
	for peer, want := range map[string]Answer{
		`{"name": "v1", "link": {"mtu": 3506}, "queues": {"channels": {"tx": {"current": 2}}}, "offloads": {}}`: Yes,
		`{"name": "v1", "link": {"mtu": 3507}, "queues": {"channels": {"tx": {"current": 2}}}, "offloads": {}}`: Blocked,
		`{"name": "v1", "link": {"mtu": 1500}, "queues": {"channels": {"tx": {"current": 3}}}, "offloads": {}}`: Blocked,
		`{"name": "other", "link": {"mtu": 9000}, "offloads": {}}`:                                              Yes,
	} {
		_, n := hostOf(t, "6.12.1", veth, peer)
		if got := n.Capabilities().Native; got.Answer != want {
			t.Errorf("with %s: %+v", peer, got)
		}
	}
}

func TestPageSize(t *testing.T) {
	for _, test := range []struct {
		vmstat, meminfo string
		want            int
	}{
		{"nr_free_pages 1000\n", "MemTotal: 1\nMemFree:   4000 kB\n", 4096}, {"nr_free_pages 1000\n", "MemFree: 63000 kB\n", 65536},
		{"x 1\nnr_free_pages 1000\n", "MemFree: 16100 kB\n", 16384}, {"nr_free_pages 1000\n", "MemFree: 1 kB\n", 0},
		{"", "MemFree: 4000 kB\n", 0}, {"nr_free_pages 1000\n", "", 0}, {"nr_free_pages -5\n", "MemFree: 4000 kB\n", 0},
	} {
		if got := pageSize([]byte(test.vmstat), []byte(test.meminfo)); got != test.want {
			t.Errorf("%q, %q: %d, want %d", test.vmstat, test.meminfo, got, test.want)
		}
	}
}

// Every rule has a host on which it fails, one on which it passes, and one where it
// doesn't know or doesn't apply.
func TestRules(t *testing.T) {
	const generic = `offloads: "xdp": [{"mode": "generic", "id": 7}]`
	const native = `offloads: "xdp": [{"mode": "driver", "id": 7}]`
	feature := func(name string, active, hardware, wanted bool) string {
		b, _ := json.Marshal(map[string]inventory.Feature{name: {Active: active, Hardware: hardware, Wanted: wanted, Fixed: !hardware}})
		return `offloads: "features": ` + string(b)
	}
	plain := nicText("igb", "basic redirect", `"function": "plain"`)
	for rule, hosts := range map[string]map[findings.Status][]string{
		"xdp/generic-mode": {
			findings.Fail: {nicText("igb", "basic", generic)}, findings.Pass: {nicText("igb", "basic", native)},
			findings.NotApplicable: {nicText("e1000e", "-", generic)}, findings.Unknown: {nicText("acme", "-", generic)},
		},
		"xdp/merged-packets": {
			findings.Fail: {nicText("ice", "basic", native, feature("rx-lro", true, true, true))}, findings.Pass: {nicText("ice", "basic", native)},
			findings.NotApplicable: {plain},
		},
		"xdp/jit-off": {findings.Pass: {nicText("igb", "basic", native)}, findings.NotApplicable: {plain}},
		"xdp/program-above": {
			findings.Fail: {nicText("igb", "basic", native, `"stack": {"upper": ["br0"]}`), `{"name": "br0", "offloads": {"xdp": [{"mode": "generic", "id": 9}]}}`},
			findings.Pass: {nicText("igb", "basic", native, `"stack": {"upper": ["br0"]}`), `{"name": "br0", "offloads": {}}`}, findings.NotApplicable: {plain},
		},
		"xdp/native-blocked": {
			findings.Fail: {nicText("mlx5_core", "-", feature("rx-lro", true, true, true))}, findings.Pass: {plain},
			findings.NotApplicable: {nicText("e1000e", "-")}, findings.Unknown: {nicText("acme", "-")},
		},
		"xdp/zero-copy-blocked": {
			findings.Pass: {nicText("mlx5_core", "basic redirect xsk-zerocopy")}, findings.Unknown: {nicText("acme", "-")},
			findings.NotApplicable: {nicText("mlx5_core", "-", feature("rx-lro", true, true, true))},
		},
		"offload/not-in-force": {
			findings.Fail: {nicText("igb", "basic", feature("tx-tcp-segmentation", false, true, true))}, findings.Pass: {plain}, findings.Unknown: {`{"name": "eth0", "offloads": {}}`},
			findings.NotApplicable: {nicText("bridge", "-", `"function": "virtual"`, feature("tx-tcp-segmentation", false, true, true))},
		},
		"offload/checksum-off": {
			findings.Fail: {nicText("igb", "basic", feature("rx-checksum", false, true, false))}, findings.Pass: {nicText("igb", "basic", feature("rx-checksum", true, true, true))},
			findings.NotApplicable: {plain, nicText("veth", "basic", `"function": "virtual"`)},
		},
		"offload/segmentation-off": {
			findings.Fail: {nicText("igb", "basic", feature("tx-tcp-segmentation", false, true, false))}, findings.Pass: {nicText("igb", "basic", feature("tx-tcp-segmentation", true, true, true))},
			findings.NotApplicable: {plain},
		},
		"offload/lro-on-bridge-port": {
			findings.Fail: {nicText("igb", "basic", feature("rx-lro", true, true, true), `"stack": {"upper": ["br0"]}`), `{"name": "br0", "stack": {"bridge": {}}, "offloads": {}}`},
			findings.Pass: {nicText("igb", "basic", `"stack": {"upper": ["br0"]}`), `{"name": "br0", "stack": {"bridge": {}}, "offloads": {}}`}, findings.NotApplicable: {plain},
		},
	} {
		for status, nics := range hosts {
			_, n := hostOf(t, "6.12.1", nics...)
			if got := judged(n, rule); got.Status != status {
				t.Errorf("%s: %+v, want %s", rule, got, status)
			}
		}
	}
	f, n := hostOf(t, "6.12.1", nicText("igb", "basic", native))
	f.extra.JIT = "0"
	if got := judged(n, "xdp/jit-off"); got.Status != findings.Fail {
		t.Errorf("jit-off: %+v", got)
	}
	if f.extra.JIT = ""; judged(n, "xdp/jit-off").Status != findings.Unknown {
		t.Error("what could not be read is known")
	}
	if got := len(Rules()) + len(OffloadRules()); got != 10 {
		t.Errorf("%d rules, 10 are tested", got)
	}
}

func judged(n NIC, rule string) findings.Finding {
	all := append(findings.Judge(Rules(), n), findings.Judge(OffloadRules(), n)...)
	return all[slices.IndexFunc(all, func(f findings.Finding) bool { return f.Rule == rule })]
}

// A wish that is not followed names what it depends on.
func TestMissing(t *testing.T) {
	for _, test := range []struct {
		name, features, want string
	}{
		{"tx-tcp-segmentation", `{"tx-tcp-segmentation": {"wanted": true, "hardware": true}, "tx-scatter-gather": {}}`, "tx-scatter-gather is off"},
		{"tx-tcp-segmentation", `{"tx-scatter-gather": {"active": true}, "tx-checksum-ip-generic": {}, "tx-checksum-ipv4": {"fixed": true}}`, "tx-checksum-ip-generic is off"},
		{"rx-gro-hw", `{"rx-checksum": {}}`, "rx-checksum is off"},
		{"rx-lro", `{"rx-gro-hw": {"active": true}}`, "rx-gro-hw is on"},
		{"tls-hw-rx-offload", `{"rx-checksum": {}}`, "rx-checksum is off"},
		{"tls-hw-rx-offload", `{"rx-checksum": {"active": true}}`, ""},
		{"hw-tc-offload", `{}`, ""},
	} {
		var features map[string]inventory.Feature
		if err := json.Unmarshal([]byte(test.features), &features); err != nil {
			t.Fatal(err)
		}
		if got := missing(features, test.name); got != test.want {
			t.Errorf("%s with %s: %q, want %q", test.name, test.features, got, test.want)
		}
	}
}
