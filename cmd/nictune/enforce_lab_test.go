//go:build lab

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// A card that is plugged in, one whose driver is loaded anew, and one that is
// brought up later get their policy.
func TestAgentTunesCards(t *testing.T) {
	labtest.Require(t, "nics")
	labtest.NICs(t, "igb", 2)
	policy := `match: {pci: "8086:10c9"}
settings:
  rings: {rx: 2048}
  irq: {cpus: 0}
`
	for _, name := range labtest.NICs(t, "igb", 2) {
		labtest.Run(t, "ip", "link", "set", name, "down")
	}
	s, base, state := enforced(t, policy, "--interval=1h", "--allow=nic-reset")
	// at is the name of the card at an address, "" if there is none.
	at := func(address string) string {
		found, err := filepath.Glob("/sys/bus/pci/devices/" + address + "/net/*")
		if err != nil || len(found) != 1 {
			return ""
		}
		return filepath.Base(found[0])
	}
	rings := func(address string) func() bool {
		return func() bool {
			name := at(address)
			if name == "" {
				return false
			}
			out, err := labtest.Try(t, "ethtool", "-g", name)
			_, current, _ := strings.Cut(string(out), "Current hardware settings:")
			return err == nil && strings.HasPrefix(strings.Join(strings.Fields(current), " "), "RX: 2048")
		}
	}
	address := func(name string) string {
		target, err := os.Readlink("/sys/class/net/" + name + "/device")
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Base(target)
	}
	var cards []string
	for _, name := range labtest.NICs(t, "igb", 2) {
		cards = append(cards, address(name))
	}
	// done waits until so many transactions have ended: one goes on, with what a new
	// ring has built anew, when the rings are as wanted.
	done := func(what string, n int) {
		s.until(t, what, func() bool {
			all := transactions(t, state)
			return len(all) >= n && all[len(all)-1].Outcome != tuning.Pending
		})
	}
	done("the policy at the start", len(cards))

	// Interrupts of the queues are there only while a card is up.
	name := at(cards[0])
	affinity := func() bool {
		b, err := os.ReadFile("/proc/interrupts")
		if err != nil {
			t.Fatal(err)
		}
		queues := 0
		for line := range strings.Lines(string(b)) {
			number, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
			if !strings.Contains(strings.ToLower(rest), name+"-rx-") && !strings.Contains(strings.ToLower(rest), name+"-tx") {
				continue
			}
			queues++
			cpus, err := os.ReadFile("/proc/irq/" + number + "/smp_affinity_list")
			if err != nil || string(cpus) != "0\n" {
				return false
			}
		}
		return queues > 0
	}
	if affinity() {
		t.Error("a card that is down has interrupts")
	}
	_, page := get(t, base+"/metrics")
	if want := `nictune_policy_setting_impossible{device="` + name + `",origin="given",policy="enforced",reason="unsupported",setting="irq"} 1`; !strings.Contains(page, want) {
		t.Errorf("no %s", want)
	}
	labtest.Run(t, "ip", "link", "set", name, "up")
	t.Cleanup(func() { _, _ = labtest.Try(t, "ip", "link", "set", name, "down") })
	s.until(t, "the interrupts of a card that came up", affinity)

	done("the interrupts' transaction", len(cards)+1)

	for _, step := range []struct {
		what string
		do   func()
	}{
		{"changed behind its back", func() { labtest.Run(t, "ethtool", "-G", at(cards[1]), "rx", "256") }},
		{"whose driver was unbound and bound", func() {
			for _, file := range []string{"unbind", "bind"} {
				if err := os.WriteFile("/sys/bus/pci/drivers/igb/"+file, []byte(cards[1]), 0); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"unplugged and plugged in again", func() {
			labtest.Unplug(t, "igb1")
			labtest.QMP(t, `{"execute": "device_add", "arguments": {"driver": "igb", "id": "igb1", "bus": "rp1", "netdev": "net-igb1", "romfile": "", "mac": "52:54:00:00:02:00"}}`)
		}},
		{"renamed", func() {
			old := at(cards[1])
			labtest.Run(t, "ip", "link", "set", old, "name", "lan0")
			labtest.Run(t, "ethtool", "-G", "lan0", "rx", "512")
			t.Cleanup(func() { _, _ = labtest.Try(t, "ip", "link", "set", "lan0", "name", old) })
		}},
	} {
		before := len(transactions(t, state))
		step.do()
		done("the policy of a card "+step.what, before+1)
		if x := transactions(t, state)[before]; !slices.ContainsFunc(x.Plan.Changes, func(c tuning.Change) bool {
			return c.Setting == "rings" && strings.HasPrefix(c.NIC.ID, cards[1])
		}) {
			t.Errorf("a card %s had its rings still: %+v", step.what, x.Plan.Changes)
		}
		if !rings(cards[1])() {
			t.Errorf("a card %s has other rings; the agent logged:\n%s", step.what, s.log)
		}
	}
	s.end(t)
	t.Logf("the agent logged:\n%s", s.log)
	if !rings(cards[1])() || !affinity() {
		t.Error("stopping the agent undid what it had done")
	}
	for _, x := range transactions(t, state) {
		if x.Outcome != tuning.Applied {
			t.Errorf("transaction %d: %s: %s", x.ID, x.Outcome, x.UndoReason)
		}
		t.Logf("%d on %s: %s", x.ID, x.Plan.Changes[0].NIC, x.Request.Reason)
	}
}
