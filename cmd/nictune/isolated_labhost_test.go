//go:build labhost

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/policies"
)

// TestIsolatedCPUs boots a machine that isolates two of its four CPUs, one by
// isolcpus= and one by nohz_full=, applies the shipped profile, and has traffic: no
// interrupt of the card fires on these. A policy may say housekeeping-cpus by itself.
//
//lab:seconds 25
func TestIsolatedCPUs(t *testing.T) {
	program, _ := forTheLab(t)
	text, err := policies.ShippedDocument("isolated-cpus")
	if err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(t.TempDir(), "isolated.yaml")
	if err := os.WriteFile(policy, []byte(strings.Replace(string(text), "match: {}", "match: {driver: igb}", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	vm := labtest.VM{Profile: "hub", Files: []string{program, policy}, Append: "isolcpus=2 nohz_full=3"}
	out, code := vm.Run(t, `
		set -e
		near= far=
		for path in /sys/bus/pci/drivers/igb/*/net/*; do far=$near near=${path##*/}; done
		ip netns add peer
		ip link set $far netns peer
		ip -n peer addr add 192.0.2.2/24 dev $far
		ip -n peer link set $far up
		ip addr add 192.0.2.1/24 dev $near
		ip link set $near up
		n=0; until ping -c 1 -W 1 192.0.2.2 >/dev/null || [ $n = 60 ]; do n=$((n + 1)); done
		# Interrupts of the queues by CPU.
		fired() { awk -v nic=$near 'index($NF, nic "-") { for (c = 0; c < 4; c++) sum[c] += $(2 + c) } END { print sum[0], sum[1], sum[2], sum[3] }' /proc/interrupts; }
		# By hand two queues' interrupts are where the application shall be alone.
		for irq in $(awk -v nic=$near 'index($NF, nic "-") { sub(":", "", $1); print $1 }' /proc/interrupts); do echo 2-3 >/proc/irq/$irq/smp_affinity_list; done
		a=$(fired); ping -q -i 0.01 -c 100 192.0.2.2 >/dev/null; echo "before: $a to $(fired)"
		cat /sys/devices/system/cpu/isolated /sys/devices/system/cpu/nohz_full
		/lab/nictune apply -f /lab/isolated.yaml --allow nic-reset --state-dir /run/state 2>&1
		n=0; until ping -c 1 -W 1 192.0.2.2 >/dev/null || [ $n = 60 ]; do n=$((n + 1)); done
		a=$(fired); ping -q -i 0.01 -c 100 192.0.2.2 >/dev/null; b=$(fired)
		echo "with the profile: $a to $b"
		set -- $a $b
		[ $3 = $7 ] && [ $4 = $8 ] && [ $(($5 + $6 - $1 - $2)) -ge 50 ] && echo housekeeping CPUs only
		ls /sys/class/net/$near/queues
		for file in /sys/class/net/$near/queues/tx-*/xps_cpus; do cat $file; done
		/lab/nictune rollback --state-dir /run/state 2>&1
		cat >/tmp/rps.yaml <<-P
			apiVersion: nictune/v1
			kind: TuningPolicy
			name: rps
			match: {name: $near}
			settings:
			  rps: {cpus: housekeeping-cpus}
		P
		/lab/nictune apply -f /tmp/rps.yaml --state-dir /run/state 2>&1
		echo "rps $(cat /sys/class/net/$near/queues/rx-0/rps_cpus)"`)
	for _, want := range []string{"combined  4  ->  2", "2\n3\n", "housekeeping CPUs only\n", "tx-1\n", "\n1\n2\n", "rps 3\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in (exit code %d):\n%s", want, code, out)
		}
	}
	if code != 0 || strings.Contains(out, "tx-2\n") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	t.Log(out)
}
