//go:build lab

package settings

import (
	"errors"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// TestDrivers turns on each driver the knobs that it has, has ethtool judge,
// turns them back, and is refused those that it lacks. What only the driver
// knows to refuse is undone.
//
//lab:seconds 15
func TestDrivers(t *testing.T) {
	labtest.Require(t, "nics")
	key := strings.TrimSuffix(strings.Repeat("6d:5a:", 20), ":")
	for of, test := range map[string]struct {
		settings string
		sees     map[string]string // by option of ethtool, or by file in /sys/class/net
		lacks    string
		refuses  string
		says     string // in the error about what it refuses
	}{
		"igb": {"multicast: {allmulti: on}\n  link: {advertise: [100baseT/Full, 10baseT/Full]}\n  netdev: {mtu: max, txqueuelen: 2000}\n  private-flags: {legacy-rx: on}\n  coalesce: {rx-usecs: 30}\n  pause: {autoneg: off, rx: off, tx: on}",
			map[string]string{"": "Advertised link modes: 10baseT/Full 100baseT/Full Advertised pause", "mtu": "9216", "flags": "0x1202", "tx_queue_len": "2000", "--show-priv-flags": "legacy-rx: on", "-c": "rx-usecs: 30", "-a": "Autonegotiate: off RX: off TX: on"},
			"coalesce: {adaptive-rx: on}",
			"pause: {autoneg: off}\n  coalesce: {rx-usecs: 20000}", "coalesce: rx-usecs 3 -> 20000 (test.yaml:7): ethtool COALESCE_SET: invalid argument"},
		"netdevsim": {"fec: {encoding: rs}\n  pause: {rx: on, tx: on}\n  coalesce: {rx-usecs: 7, adaptive-tx: on, pkt-rate-high: 1000, tx-frames-irq: 3}\n  features: {hw-tc-offload: on, lro: off}",
			map[string]string{"-k": "hw-tc-offload: on", "-c": "Adaptive RX: off TX: on stats-block-usecs: 0 sample-interval: 0 pkt-rate-low: 0 pkt-rate-high: 1000 rx-usecs: 7", "-a": "RX: on TX: on", "--show-fec": "Configured FEC encodings: RS Active FEC encoding: RS"},
			"private-flags: {warp: on}",
			"coalesce: {tx-aggr-time-usecs: 9}", "tx-aggr-time-usecs reads back as 0 after 9 was written"}, // it keeps no such field
		"e1000e": {"rings: {rx: 512, tx: max}\n  features: {tso: off, gro: off}\n  coalesce: {rx-usecs: 50}\n  pause: {autoneg: off, rx: off, tx: off}",
			map[string]string{"-g": "RX: 512 RX Mini: n/a RX Jumbo: n/a TX: 4096", "-k": "generic-receive-offload: off",
				"-c": "rx-usecs: 50", "-a": "Autonegotiate: off RX: off TX: off"},
			"channels: {combined: 1}",
			"pause: {autoneg: off}\n  coalesce: {rx-usecs: 20000}", "ethtool COALESCE_SET: invalid argument"},
		// A plan of its own: without negotiation of the link, this driver has none of
		// pause either.
		"e1000e, its link": {"link: {autoneg: off, speed: 100, duplex: full}",
			map[string]string{"": "Speed: 100Mb/s Duplex: Full Auto-negotiation: off"},
			"eee: {eee: off}", "link: {autoneg: off, speed: 12345, duplex: full}", "ethtool LINKMODES_SET: invalid argument"},
		"virtio_net": {"link: {speed: 10000, duplex: full}\n  netdev: {mtu: 9000, gso-max-size: 32768}\n  channels: {combined: 2}\n  rings: {tx: 128}\n  features: {rx-gro-hw: off}",
			map[string]string{"-k": "rx-gro-hw: off", "": "Speed: 10000Mb/s Duplex: Full", "mtu": "9000", "-l": "Combined: 2", "-g": "TX: 128"},
			"channels: {rx: 1}", "", ""},
		"virtio_net, its RSS": {"rss: {key: \"" + key + "\"}\n  rx-flow-hash: {udp4: sd}",
			map[string]string{"-x": key, "-n rx-flow-hash udp4": "fields for computing Hash flow key: IP SA IP DA"},
			"rss-contexts: [{weight: [1]}]", "", ""},
		"vmxnet3, its RSS": {"rss: {weight: [2, 0, 1]}",
			map[string]string{"-x": "80: 0 0 0 0 0 2 2 2 88: 2 2"},
			"rx-flow-hash: {udp4: sd}", "", ""},
		"igbvf": {"netdev: {mtu: 1400}\n  rings: {rx: 512, tx: 1024}\n  coalesce: {rx-usecs: 20}\n  features: {rx-gro: off}\n  napi: {gro-flush-timeout: 20000, defer-hard-irqs: 2}",
			map[string]string{"mtu": "1400", "-g": "RX: 512 RX Mini: n/a RX Jumbo: n/a TX: 1024", "-c": "rx-usecs: 20", "-k": "generic-receive-offload: off", "gro_flush_timeout": "20000", "napi_defer_hard_irqs": "2"},
			"channels: {combined: 1}", "", ""},
		"vmxnet3": {"netdev: {mtu: 9000}\n  rings: {rx: 512, tx: 1024}\n  features: {large-receive-offload: on}",
			map[string]string{"mtu": "9000", "-g": "RX: 512", "-k": "large-receive-offload: on"},
			"features: {ntuple: on}", "", ""},
	} {
		driver, _, _ := strings.Cut(of, ",")
		t.Run(of, func(t *testing.T) {
			if driver == "netdevsim" {
				port := labtest.Netdevsim(t, 21, 1)[0]
				labtest.Ethtool(t, "--set-fec", port, "encoding", "off") // at first it has none
			}
			if driver == "igbvf" {
				pf := labtest.NICs(t, "igb", 2)[1]
				labtest.Run(t, "sh", "-c", "modprobe igbvf; echo 1 >/sys/class/net/"+pf+"/device/sriov_numvfs")
				t.Cleanup(func() { labtest.Run(t, "sh", "-c", "echo 0 >/sys/class/net/"+pf+"/device/sriov_numvfs") })
			}
			name := labtest.NIC(t, driver)
			link := "down" // a link that comes settles flow control anew, and vmxnet3 rounds other sizes while it is up
			if of == "vmxnet3, its RSS" {
				link = "up" // it has a table then
				t.Cleanup(func() { labtest.Run(t, "ip", "link", "set", name, "down") })
			}
			for _, name := range labtest.NICs(t, driver, 1) {
				labtest.Run(t, "ip", "link", "set", name, link)
			}
			w := live(t)
			all := nics(t, w)
			policy := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nmatch: {driver: [" + driver + "]}\nsettings:\n  "
			before := state(t, w, all, name)
			e := engine(t, w, t.TempDir())
			p := plan(t, w, all, policy+test.settings)
			done, err := e.Apply(t.Context(), p, all, allow)
			if err != nil || done == nil {
				t.Fatalf("%v, plan %+v", err, p)
			}
			// What is kept is written only where another change wiped it.
			if again := plan(t, w, all, policy+test.settings).Changes; w.writes == 0 || len(again) != 0 {
				t.Errorf("%d writes, more to change: %+v", w.writes, again)
			}
			for option, want := range test.sees {
				var out string
				switch {
				case option == "":
					out = string(labtest.Ethtool(t, name))
				case strings.HasPrefix(option, "-"):
					first, rest, _ := strings.Cut(option, " ")
					out = string(labtest.Ethtool(t, append([]string{first, name}, strings.Fields(rest)...)...))
				default:
					out = string(labtest.Run(t, "cat", "/sys/class/net/"+name+"/"+option))
				}
				if _, current, ok := strings.Cut(out, "Current hardware settings:"); ok {
					out = current
				}
				if out = strings.Join(strings.Fields(out), " "); !strings.Contains(out, want) {
					t.Errorf("ethtool %s shows no %q: %s", option, want, out)
				}
			}
			if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
				t.Error(err)
			}
			if after := state(t, w, all, name); after != before {
				t.Errorf("after the rollback:\n%s\nbefore:\n%s", after, before)
			}
			_, err = tuning.MakePlan(t.Context(), w, All(), wants(t, all, policy+test.lacks), nil)
			if kernel.ReasonOf(err) != kernel.Unsupported {
				t.Errorf("%s: %v", test.lacks, err)
			}
			if test.refuses == "" {
				return
			}
			_, err = e.Apply(t.Context(), plan(t, w, all, policy+test.refuses), all, allow)
			var failure *tuning.ApplyError
			if !errors.As(err, &failure) || len(failure.Left) > 0 || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %v, want %q", test.refuses, err, test.says)
			}
			if after := state(t, w, all, name); after != before {
				t.Errorf("after the undo:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// TestGone pulls a card in the middle: its transaction waits for it, and the
// other card is put back.
//
//lab:seconds 15
func TestGone(t *testing.T) {
	labtest.Require(t, "hub")
	names := igb(t)
	w := live(t)
	all := nics(t, w)
	before := state(t, w, all, names[0])
	dir := t.TempDir()
	e := engine(t, w, dir)
	p := plan(t, w, all, igbPolicy)
	begun := 0
	e.Progress = func(c tuning.Change, s tuning.State) {
		if c.NIC.Name != names[1] || s != tuning.Writing {
			return
		}
		if begun++; begun == 2 { // the first is made, and the second noted
			labtest.Unplug(t, "igb1")
		}
	}
	_, err := e.Apply(t.Context(), p, all, allow)
	if kernel.ReasonOf(err) != kernel.Gone || !strings.Contains(err.Error(), "could not be undone completely") {
		t.Errorf("error %v", err)
	}
	if after := state(t, w, all, names[0]); after != before {
		t.Errorf("the other card:\n%s\nbefore:\n%s", after, before)
	}
	e.Progress = nil
	all = nics(t, w)
	if _, err := e.Recover(t.Context(), all); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("recovery without the card: %v", err)
	}
	// The host can be tuned meanwhile.
	done, err := e.Apply(t.Context(), plan(t, w, all, igbPolicy), all, allow)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Error(err)
	}

	// The card that comes back is at its driver's defaults: nothing to write.
	labtest.QMP(t, `{"execute": "device_add", "arguments": {"driver": "igb", "id": "igb1", "bus": "rp1", "netdev": "net-igb1", "romfile": "", "mac": "52:54:00:00:02:00"}}`)
	labtest.NICs(t, "igb", 2)
	w.writes = 0
	ended, err := e.Recover(t.Context(), nics(t, w))
	if err != nil || len(ended) != 1 || ended[0].Outcome != tuning.Undone || w.writes != 0 {
		t.Errorf("recovery with the card back: %+v, %v, %d writes", ended, err, w.writes)
	}
}

// TestPortsOfOneDevice tunes two ports that have one identity.
func TestPortsOfOneDevice(t *testing.T) {
	labtest.Require(t, "nics")
	ports := labtest.Netdevsim(t, 20, 2)
	w := live(t)
	all := nics(t, w)
	policy := func(name, rx string) string {
		return "apiVersion: nictune/v1\nkind: TuningPolicy\nname: p" + name + "\nmatch: {name: " + name + "}\nsettings:\n  rings: {rx: " + rx + "}\n"
	}
	e := engine(t, w, t.TempDir())
	for i, rx := range []string{"128", "256"} {
		if _, err := e.Apply(t.Context(), plan(t, w, all, policy(ports[i], rx)), all, allow); err != nil {
			t.Fatal(err)
		}
	}
	both := plan(t, w, all, policy(ports[0], "64")+"---\n"+policy(ports[1], "32"))
	if _, err := e.Apply(t.Context(), both, all, allow); err != nil {
		t.Fatal(err)
	}
	for i, rx := range []string{"64", "32"} {
		_, current, _ := strings.Cut(string(labtest.Ethtool(t, "-g", ports[i])), "Current hardware settings:")
		if got := strings.Join(strings.Fields(current)[:2], " "); got != "RX: "+rx {
			t.Errorf("%s: %s, want RX: %s", ports[i], got, rx)
		}
	}
}
