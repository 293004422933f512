//go:build lab

package inventory

import (
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/labtest"
)

// labSurvey surveys the VM it runs in.
func labSurvey(t *testing.T) *Inventory {
	t.Helper()
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = live.Close() })
	inventory, err := Read(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	return inventory
}

// A comparison is one ethtool command with --json, and our answer in its form.
// A nil answer means that the facts are not there.
type comparison struct {
	option, fact string
	ours         func(n *NIC) map[string]any
	// left out: what ethtool shows that is not a fact of an inventory.
	leftOut []string
}

func comparisons() []comparison {
	return []comparison{
		{"", "link.supportedModes", ethtoolSettings, []string{"supports-wake-on", "wake-on", "sopass", "current-message-level"}},
		{"-g", "queues.rings", ethtoolRings, nil},
		{"-l", "queues.channels", ethtoolChannels, nil},
		{"-c", "queues.coalesce", ethtoolCoalesce, nil},
		{"-a", "link.pause", ethtoolPause, nil},
		{"-x", "queues.rss.table", func(n *NIC) map[string]any {
			if r := n.Queues.RSS; r != nil && unreadOf(n, "queues.rss.table") == "" {
				return ethtoolRSS(r.Hash, r.InputTransform, r.Table, r.Key)
			}
			return nil
		}, nil},
		{"--show-fec", "link.fec", ethtoolFEC, nil},
		{"--show-eee", "link.eee", ethtoolEEE, nil},
	}
}

// compareJSON puts all that ethtool --json shows of a device beside ours.
func compareJSON(t *testing.T, n *NIC) {
	for _, c := range comparisons() {
		t.Run("ethtool "+c.option, func(t *testing.T) {
			args := []string{"--json", c.option, n.Name}
			if c.option == "" {
				args = []string{"--json", n.Name}
			}
			out, _ := labtest.Try(t, "ethtool", args...)
			theirs := ethtoolObject(t, out)
			for _, name := range c.leftOut {
				delete(theirs, name)
			}
			ours, _ := plain(t, c.ours(n)).(map[string]any)
			for _, name := range slices.Sorted(maps.Keys(ours)) {
				if _, ok := theirs[name]; !ok {
					t.Errorf("%s: we say %v, ethtool nothing", name, ours[name])
				}
			}
			for _, name := range slices.Sorted(maps.Keys(theirs)) {
				same(t, name, ours[name], theirs[name])
			}
			if theirs == nil && !strings.HasPrefix(unreadOf(n, c.fact), "unsupported") {
				t.Errorf("ethtool has nothing and we don't say that %s is unsupported: %q", c.fact, unreadOf(n, c.fact))
			}
			if theirs != nil && unreadOf(n, c.fact) != "" {
				t.Errorf("ethtool shows it, and we say of %s: %s", c.fact, unreadOf(n, c.fact))
			}
		})
	}
	t.Run("ethtool -k", func(t *testing.T) { sameFeatures(t, n, labtest.Ethtool(t, "--json", "-k", n.Name)) })
}

// compareText does so with what ethtool has no JSON for.
func compareText(t *testing.T, n *NIC) {
	t.Run("ethtool -T", func(t *testing.T) { sameTimestamping(t, n, labtest.Ethtool(t, "-T", n.Name)) })
	t.Run("ethtool -i", func(t *testing.T) { sameDriver(t, n, labtest.Ethtool(t, "-i", n.Name)) })
	t.Run("ethtool --show-priv-flags", func(t *testing.T) { samePrivateFlags(t, n) })
	t.Run("ethtool -n", func(t *testing.T) { sameRules(t, n) })
	t.Run("ethtool -n rx-flow-hash", func(t *testing.T) { sameHashFields(t, n) })
	t.Run("ethtool --get-tunable", func(t *testing.T) { sameTunables(t, n) })
}

func ethtoolSettings(n *NIC) map[string]any {
	l := n.Link
	if l.Abilities == nil {
		return nil
	}
	m := map[string]any{
		"port": l.Port, "phyad": l.PHYAddress, "transceiver": l.Transceiver, "link-detected": l.Detected,
		"auto-negotiation": l.Autoneg, "supported-ports": orEmpty(l.Abilities.Supported.Ports),
		"supports-auto-negotiation": l.Abilities.Supported.Autoneg,
	}
	side := func(prefix string, modes []string, a LinkAbility) {
		m[prefix+"-link-modes"] = orEmpty(modes)
		m[prefix+"-pause-frame-use"] = a.Pause
		m[prefix+"-fec-modes"] = orEmpty(a.FEC)
		if prefix != "supported" {
			m[prefix+"-auto-negotiation"] = a.Autoneg
		}
	}
	side("supported", l.Supported, l.Abilities.Supported)
	side("advertised", l.Advertised, l.Abilities.Advertised)
	if p := l.Abilities.Peer; p != nil {
		side("link-partner-advertised", l.Peer, *p)
	}
	if l.SpeedMbps != nil {
		m["speed"] = *l.SpeedMbps
	}
	if l.Duplex != "" {
		m["duplex"] = strings.ToUpper(l.Duplex[:1]) + l.Duplex[1:]
	}
	if l.Lanes != nil {
		m["lanes"] = *l.Lanes
	}
	if l.MDIX != "" {
		m["mdi-x"] = strings.HasPrefix(l.MDIX, "on")
		m["mdi-x-forced"] = strings.HasSuffix(l.MDIX, "(forced)")
		m["mdi-x-auto"] = strings.HasSuffix(l.MDIX, "(auto)")
	}
	if l.MasterSlave != "" {
		m["master-slave-cfg"] = l.MasterSlave
	}
	if l.MasterSlaveState != "" {
		m["master-slave-status"] = l.MasterSlaveState
	}
	if l.ExtendedState != "" {
		m["link-state"] = l.ExtendedState
	}
	if l.DownEvents != nil {
		m["link-down-events"] = *l.DownEvents
	}
	return m
}

func orEmpty(list []string) []string { return append([]string{}, list...) }

func sizes(m map[string]any, name string, r *RingSize) {
	if r != nil {
		m[name], m[name+"-max"] = r.Current, r.Maximum
	}
}

func ethtoolRings(n *NIC) map[string]any {
	r := n.Queues.Rings
	if r == nil {
		return nil
	}
	m := map[string]any{"tx-push": r.TXPush, "rx-push": r.RXPush}
	sizes(m, "rx", r.RX)
	sizes(m, "rx-mini", r.RXMini)
	sizes(m, "rx-jumbo", r.RXJumbo)
	sizes(m, "tx", r.TX)
	if r.RXBufLen != nil {
		m["rx-buf-len"] = *r.RXBufLen
	}
	if r.CQESize != nil {
		m["cqe-size"] = *r.CQESize
	}
	if r.TCPDataSplit != "" {
		m["tcp-data-split"] = r.TCPDataSplit == "on"
	}
	if r.TXPushBufLen != nil {
		m["tx-push-buf-len"], m["tx-push-buf-len-max"] = r.TXPushBufLen.Current, r.TXPushBufLen.Maximum
	}
	if r.HDSThreshold != nil {
		m["hds-thresh"], m["hds-thresh-max"] = r.HDSThreshold.Current, r.HDSThreshold.Maximum
	}
	return m
}

func ethtoolChannels(n *NIC) map[string]any {
	c := n.Queues.Channels
	if c == nil {
		return nil
	}
	m := map[string]any{}
	for name, count := range map[string]*ChannelCount{"rx": c.RX, "tx": c.TX, "other": c.Other, "combined": c.Combined} {
		if count != nil {
			m[name], m[name+"-max"] = count.Current, count.Maximum
		}
	}
	return m
}

func ethtoolCoalesce(n *NIC) map[string]any {
	c := n.Queues.Coalesce
	if c == nil || len(c.Values)+len(c.Flags) == 0 {
		return nil
	}
	m := map[string]any{}
	for name, v := range c.Values {
		// ethtool prints these four otherwise than -C takes them.
		for _, load := range []string{"low", "high"} {
			for _, direction := range []string{"rx", "tx"} {
				if name == direction+"-frames-"+load {
					name = direction + "-frame-" + load
				}
			}
		}
		m[name] = v
	}
	for name, on := range c.Flags {
		m[name] = on
	}
	return m
}

func ethtoolPause(n *NIC) map[string]any {
	p := n.Link.Pause
	if p == nil {
		return nil
	}
	m := map[string]any{"autonegotiate": p.Autoneg, "rx": p.RX, "tx": p.TX}
	if p.Negotiated != nil {
		m["negotiated"] = p.Negotiated
	}
	return m
}

func ethtoolRSS(hash, transform string, table []uint32, key string) map[string]any {
	m := map[string]any{"rss-input-transformation": map[string]bool{
		"symmetric-xor": transform == "symmetric-xor", "symmetric-or-xor": transform == "symmetric-or-xor",
	}}
	if hash != "" {
		m["rss-hash-function"] = hash
	}
	if len(table) > 0 {
		m["rss-indirection-table"] = table
	}
	if b, _ := hex.DecodeString(strings.ReplaceAll(key, ":", "")); len(b) > 0 {
		var numbers []int
		for _, v := range b {
			numbers = append(numbers, int(v))
		}
		m["rss-hash-key"] = numbers
	}
	return m
}

func ethtoolFEC(n *NIC) map[string]any {
	f := n.Link.FEC
	if f == nil {
		return nil
	}
	var config []string
	if *f.Auto {
		config = append(config, "Auto")
	}
	if config = append(config, f.Configured...); len(config) == 0 {
		config = []string{"None"}
	}
	active := f.Active
	if active == "" {
		active = "None"
	}
	return map[string]any{"config": config, "active": []string{active}}
}

func ethtoolEEE(n *NIC) map[string]any {
	if n.Link.EEE == nil {
		return nil
	}
	return map[string]any{"a driver of the lab": "that has EEE: compare its fields"}
}

func samePrivateFlags(t *testing.T, n *NIC) {
	out, err := labtest.Try(t, "ethtool", "--show-priv-flags", n.Name)
	if err != nil {
		if n.Offloads.PrivateFlags != nil || !strings.HasPrefix(unreadOf(n, "offloads.privateFlags"), "unsupported") {
			t.Errorf("ethtool has none, we have %v, unread %q", n.Offloads.PrivateFlags, unreadOf(n, "offloads.privateFlags"))
		}
		return
	}
	want := map[string]bool{}
	for name, value := range colonLines(out) {
		if value != "" {
			want[name] = value == "on"
		}
	}
	same(t, "private flags", n.Offloads.PrivateFlags, want)
}

func sameTunables(t *testing.T, n *NIC) {
	for _, tunable := range tunables() {
		out, err := labtest.Try(t, "ethtool", "--get-tunable", n.Name, tunable.name)
		v, ok := n.Offloads.Tunables[tunable.name]
		if ok != (err == nil) {
			t.Errorf("%s: ours %v (%v), ethtool %s (%v)", tunable.name, v, ok, out, err)
		}
		if ok && colonLines(out)[tunable.name] != fmt.Sprint(v) {
			t.Errorf("%s: ours %d, ethtool %s", tunable.name, v, out)
		}
	}
}

// sameHashFields asks ethtool for each kind of packet that it has a word for.
func sameHashFields(t *testing.T, n *NIC) {
	var fields map[string]string
	if n.Queues.RSS != nil {
		fields = n.Queues.RSS.Fields
	}
	letters := map[string]string{
		"L2DA": "m", "VLAN tag": "v", "L3 proto": "t", "IP SA": "s", "IP DA": "d",
		"L4 bytes 0 & 1 [TCP/UDP src port]": "f", "L4 bytes 2 & 3 [TCP/UDP dst port]": "n",
		"GTP TEID": "e", "IPv6 Flow Label": "l",
	}
	for _, f := range flows() {
		ours, ok := fields[f.name]
		switch f.name {
		case "ah4", "esp4", "ah6", "esp6":
			// What ethtool asks for here is AH or ESP (AH_ESP_V4_FLOW).
			ours, ok = fields["ah-esp"+f.name[len(f.name)-1:]]
		case "ah-esp4", "ah-esp6":
			continue
		}
		out, err := labtest.Try(t, "ethtool", "-n", n.Name, "rx-flow-hash", f.name)
		if strings.Contains(string(out), "bad command line") || err != nil && strings.Contains(err.Error(), "bad command line") {
			t.Logf("ethtool doesn't know %s", f.name)
			continue
		}
		if ok != (err == nil) {
			t.Errorf("%s: ours %q (%v), ethtool %v", f.name, ours, ok, err)
			continue
		}
		if err != nil {
			continue
		}
		theirs := ""
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimSpace(line); line == "" || strings.HasSuffix(line, ":") || line == "None" {
				continue
			}
			letter, ok := letters[line]
			if !ok {
				t.Errorf("%s: ethtool says %q", f.name, line)
			}
			theirs += letter
		}
		same(t, "hash fields of "+f.name, ours, theirs)
	}
	if len(fields) == 0 && unreadOf(n, "queues.rss.fields") == "" {
		t.Error("no hash fields, and no reason")
	}
}

// sameRules compares with `ethtool -n`.
func sameRules(t *testing.T, n *NIC) {
	out, err := labtest.Try(t, "ethtool", "-n", n.Name)
	if err != nil {
		if n.Queues.Ntuple != nil || !strings.HasPrefix(unreadOf(n, "queues.ntuple"), "unsupported") {
			t.Errorf("ethtool has no rules, ours %+v, unread %q", n.Queues.Ntuple, unreadOf(n, "queues.ntuple"))
		}
		return
	}
	if n.Queues.Ntuple == nil {
		t.Fatalf("no rules (%s); ethtool:\n%s", unreadOf(n, "queues.ntuple"), out)
	}
	_, text, _ := strings.Cut(string(out), "rules\n\n")
	var ours strings.Builder
	for _, r := range n.Queues.Ntuple.Rules {
		ours.WriteString(ethtoolRule(r))
	}
	if !strings.EqualFold(strings.TrimSpace(ours.String()), strings.TrimSpace(text)) {
		t.Errorf("rules: ours, as ethtool would print them:\n%s\nethtool:\n%s", ours.String(), text)
	}
}

// ethtoolRule prints a rule as ethtool -n does: every field of the flow type,
// with a mask whose ones are what is not compared.
func ethtoolRule(r FlowRule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Filter: %d\n", r.Location)
	line := func(label, name, zero, full string) {
		value, mask, partial := strings.Cut(r.Match[name], "/")
		switch {
		case value == "":
			value, mask = zero, full
		case !partial:
			mask = strings.Map(func(c rune) rune { // nothing is left out
				if strings.ContainsRune("123456789ABCDEFabcdef", c) {
					return '0'
				}
				return c
			}, full)
			mask = map[string]string{"000.000.000.000": "0.0.0.0", "0000:0000:0000:0000:0000:0000:0000:0000": "::", "0x00": "0x0", "0x0000": "0x0", "0x00000000": "0x0", "0x0000000000000000": "0x0"}[mask]
			if mask == "" {
				mask = "00:00:00:00:00:00"
			}
		default:
			mask = "(ours: " + mask + ")"
		}
		fmt.Fprintf(&b, "\t%s: %s mask: %s\n", label, value, mask)
	}
	const v4, v6 = "255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	switch r.FlowType {
	case "tcp4", "udp4", "sctp4":
		fmt.Fprintf(&b, "\tRule Type: %s over IPv4\n", strings.ToUpper(strings.TrimSuffix(r.FlowType, "4")))
		line("Src IP addr", "src-ip", "0.0.0.0", v4)
		line("Dest IP addr", "dst-ip", "0.0.0.0", v4)
		line("TOS", "tos", "0x0", "0xff")
		line("Src port", "src-port", "0", "0xffff")
		line("Dest port", "dst-port", "0", "0xffff")
	case "tcp6", "udp6", "sctp6":
		fmt.Fprintf(&b, "\tRule Type: %s over IPv6\n", strings.ToUpper(strings.TrimSuffix(r.FlowType, "6")))
		line("Src IP addr", "src-ip", "::", v6)
		line("Dest IP addr", "dst-ip", "::", v6)
		line("Traffic Class", "tclass", "0x0", "0xff")
		line("Src port", "src-port", "0", "0xffff")
		line("Dest port", "dst-port", "0", "0xffff")
	case "ip4":
		fmt.Fprint(&b, "\tRule Type: Raw IPv4\n")
		line("Src IP addr", "src-ip", "0.0.0.0", v4)
		line("Dest IP addr", "dst-ip", "0.0.0.0", v4)
		line("TOS", "tos", "0x0", "0xff")
		line("Protocol", "l4proto", "0", "0xff")
		line("L4 bytes", "l4data", "0x0", "0xffffffff")
	case "ether":
		fmt.Fprint(&b, "\tFlow Type: Raw Ethernet\n")
		line("Src MAC addr", "src", "00:00:00:00:00:00", "FF:FF:FF:FF:FF:FF")
		line("Dest MAC addr", "dst", "00:00:00:00:00:00", "FF:FF:FF:FF:FF:FF")
		line("Ethertype", "proto", "0x0", "0xFFFF")
	}
	if r.Match["vlan-etype"]+r.Match["vlan"]+r.Match["user-def"] != "" {
		line("VLAN EtherType", "vlan-etype", "0x0", "0xffff")
		vlan := r.Match["vlan"]
		if vlan != "" { // ethtool prints it in hex
			var id int
			fmt.Sscan(vlan, &id)
			r.Match["vlan"] = fmt.Sprintf("%#x", id)
		}
		line("VLAN", "vlan", "0x0", "0xffff")
		line("User-defined", "user-def", "0x0", "0xffffffffffffffff")
	}
	if r.Match["dst-mac"] != "" {
		// Here ethtool prints the mask as it is: ones are compared.
		fmt.Fprintf(&b, "\tDest MAC addr: %s mask: FF:FF:FF:FF:FF:FF\n", r.Match["dst-mac"])
	}
	if r.Context != nil {
		fmt.Fprintf(&b, "\tRSS Context ID: %d\n", *r.Context)
	}
	switch {
	case r.Action == "drop":
		fmt.Fprint(&b, "\tAction: Drop\n\n")
	case r.VF != nil:
		fmt.Fprintf(&b, "\tAction: Direct to VF %d queue %d\n\n", *r.VF, *r.Queue)
	default:
		fmt.Fprintf(&b, "\tAction: Direct to queue %d\n\n", *r.Queue)
	}
	return b.String()
}

// Every fact that ethtool shows of real drivers, ours beside it.
func TestSameAsEthtool(t *testing.T) {
	labtest.Require(t, "nics")
	names := []string{labtest.NIC(t, "e1000e"), labtest.NIC(t, "virtio_net"), labtest.NIC(t, "vmxnet3")}
	names = append(names, labtest.NICs(t, "igb", 2)...)
	up := func(name string) {
		labtest.Run(t, "ip", "link", "set", name, "up")
		labtest.Eventually(t, name+" has a link", func() bool {
			return strings.Contains(string(labtest.Ethtool(t, name)), "Link detected: yes")
		})
	}
	for _, name := range names {
		up(name)
	}
	// Something other than defaults.
	igb := names[3]
	labtest.Ethtool(t, "-G", igb, "rx", "512", "tx", "1024")
	labtest.Ethtool(t, "-L", igb, "combined", "2")
	labtest.Ethtool(t, "-X", igb, "weight", "1", "3")
	// Other tests in this VM find igb as its driver sets it up.
	t.Cleanup(func() {
		labtest.Ethtool(t, "-X", igb, "default")
		labtest.Ethtool(t, "-G", igb, "rx", "256", "tx", "256")
		labtest.Ethtool(t, "-L", igb, "combined", "4")
		labtest.Ethtool(t, "-C", igb, "rx-usecs", "3")
		labtest.Ethtool(t, "-N", igb, "rx-flow-hash", "udp4", "sd")
		labtest.Ethtool(t, "-K", igb, "rx-gro", "on", "rx-all", "off")
		labtest.Ethtool(t, "--set-priv-flags", igb, "legacy-rx", "off")
	})
	labtest.Ethtool(t, "-C", igb, "rx-usecs", "50")
	labtest.Ethtool(t, "-N", igb, "rx-flow-hash", "udp4", "sdfn")
	labtest.Ethtool(t, "-K", igb, "rx-gro", "off", "rx-all", "on")
	labtest.Ethtool(t, "--set-priv-flags", igb, "legacy-rx", "on")

	vfs(t, names[4], 1)
	names = append(names, labtest.NIC(t, "igbvf"))
	up(names[5])

	for _, state := range []struct {
		name string
		make func()
		text bool
	}{
		{"up", func() {}, true},
		{"cut", func() {
			for _, device := range []string{"igb0", "igb1", "e1000e0", "virtio0", "vmxnet30"} {
				labtest.SetLink(t, device, false)
				t.Cleanup(func() { labtest.SetLink(t, device, true) })
			}
		}, false},
		{"down", func() {
			for _, name := range names {
				labtest.Run(t, "ip", "link", "set", name, "down")
			}
		}, false},
	} {
		state.make()
		driversSettle(t, names)
		inventory := labSurvey(t)
		for _, name := range names {
			n := nicNamed(t, inventory, name)
			t.Run(name+" "+state.name, func(t *testing.T) {
				compareJSON(t, n)
				if state.text {
					compareText(t, n)
				}
			})
		}
	}
}

// vfs makes so many virtual functions for as long as the test runs.
func vfs(t *testing.T, name string, n int) {
	t.Helper()
	write := func(n int) {
		labtest.Run(t, "sh", "-c", fmt.Sprintf("echo %d >/sys/class/net/%s/device/sriov_numvfs", n, name))
	}
	write(n)
	t.Cleanup(func() { write(0) })
	labtest.Run(t, "modprobe", "igbvf")
	labtest.Eventually(t, "the VF has an interface", func() bool {
		found, _ := filepath.Glob("/sys/bus/pci/drivers/igbvf/*/net/*")
		return len(found) == n
	})
}

// driversSettle waits until drivers say for as long as their watchdogs sleep what they
// will go on saying.
func driversSettle(t *testing.T, names []string) {
	t.Helper()
	said, since := "", time.Now()
	labtest.Eventually(t, "links are settled", func() bool {
		now := ""
		for _, name := range names {
			now += string(labtest.Ethtool(t, name))
		}
		if now != said {
			said, since = now, time.Now()
		}
		return time.Since(since) > 4*time.Second
	})
}

func nicNamed(t *testing.T, inventory *Inventory, name string) *NIC {
	t.Helper()
	for i := range inventory.NICs {
		if inventory.NICs[i].Name == name {
			return &inventory.NICs[i]
		}
	}
	t.Fatalf("no %s in the inventory", name)
	return nil
}

// What only netdevsim has here: FEC, RSS contexts, receive rules, all coalescing
// parameters, 100G modes.
func TestSimulatedSameAsEthtool(t *testing.T) {
	labtest.Require(t, "nics")
	ports := labtest.Netdevsim(t, 10, 2)
	name := ports[0]
	labtest.Run(t, "ip", "link", "set", name, "up")
	labtest.Ethtool(t, "--set-fec", name, "encoding", "auto", "rs", "baser")
	labtest.Ethtool(t, "-A", name, "rx", "on")
	labtest.Ethtool(t, "-K", name, "ntuple", "on")
	labtest.Ethtool(t, "-C", name, "adaptive-rx", "on", "rx-frames-low", "11", "tx-frames-high", "12", "cqe-mode-tx", "on", "tx-aggr-max-bytes", "4096")
	labtest.Ethtool(t, "-G", name, "rx", "256", "tx", "128")
	for _, rule := range []string{
		"flow-type udp4 dst-port 53 queue 0 loc 3",
		"flow-type tcp4 src-ip 10.1.2.3 dst-ip 10.4.5.6 src-port 80 dst-port 443 tos 16 action -1 loc 1",
		"flow-type tcp6 dst-ip fd00::7 dst-port 22 queue 0 loc 7",
		"flow-type ether dst 02:00:00:00:00:09 proto 0x88f7 queue 0 loc 9",
		"flow-type udp4 dst-port 4789 vlan 100 dst-mac 02:00:00:00:00:09 queue 0 loc 11",
		"flow-type sctp4 dst-port 9 vf 2 queue 0 loc 12",
	} {
		labtest.Ethtool(t, append([]string{"-N", name}, strings.Fields(rule)...)...)
	}
	labtest.Ethtool(t, "-X", name, "context", "new", "equal", "1")
	labtest.Ethtool(t, "-N", name, "rx-flow-hash", "udp4", "d", "context", "1")

	inventory := labSurvey(t)
	for _, port := range ports {
		n := nicNamed(t, inventory, port)
		t.Run(port, func(t *testing.T) {
			compareJSON(t, n)
			compareText(t, n)
		})
	}
	n := nicNamed(t, inventory, name)
	if n.Link.FEC == nil || len(n.Link.FEC.Configured) == 0 {
		t.Errorf("FEC: %+v", n.Link.FEC)
	}
	if n.Queues.RSS == nil || len(n.Queues.RSS.Contexts) != 1 {
		t.Fatalf("RSS contexts: %+v", n.Queues.RSS)
	}
	context := n.Queues.RSS.Contexts[0]
	theirs := ethtoolObject(t, labtest.Ethtool(t, "--json", "-x", name, "context", fmt.Sprint(context.ID)))
	if f := context.Fields; f["udp4"] != "d" || f["tcp4"] != "sd" || n.Queues.RSS.Fields["udp4"] != "sd" {
		t.Errorf("fields of the context %v, of the device %v", f, n.Queues.RSS.Fields)
	}
	delete(theirs, "rss-context")
	same(t, "context", plain(t, ethtoolRSS(context.Hash, context.InputTransform, context.Table, context.Key)), any(theirs))
	if n.Queues.Ntuple == nil || len(n.Queues.Ntuple.Rules) != 6 || *n.Queues.Ntuple.Capacity != 32 {
		t.Errorf("rules: %+v", n.Queues.Ntuple)
	}
}

// A driver that fails ends the kernel's dump. Only its own device must lack what
// it did not tell, and with the driver's error.
func TestSickDeviceSpoilsNoOther(t *testing.T) {
	labtest.Require(t, "nics")
	ports := labtest.Netdevsim(t, 11, 3)
	const eio = "5"
	labtest.Run(t, "sh", "-c", "mount -t debugfs none /sys/kernel/debug 2>/dev/null; echo "+eio+" >/sys/kernel/debug/netdevsim/netdevsim11/ports/1/ethtool/get_err")
	inventory := labSurvey(t)
	for i, port := range ports {
		n := nicNamed(t, inventory, port)
		want := ""
		if i == 1 {
			want = "failed ethtool FEC_GET: input/output error"
		}
		if got := unreadOf(n, "link.fec"); got != want {
			t.Errorf("%s: unread %q, want %q", port, got, want)
		}
		if (n.Link.FEC != nil) != (want == "") {
			t.Errorf("%s: FEC %+v", port, n.Link.FEC)
		}
		if n.Queues.Rings == nil {
			t.Errorf("%s: no rings: %v", port, n.Unread)
		}
	}
	// Real hardware without FEC, asked one by one.
	if got := unreadOf(nicNamed(t, inventory, labtest.NIC(t, "igb")), "link.fec"); !strings.HasPrefix(got, "unsupported") {
		t.Errorf("igb: %q", got)
	}
}
