//go:build lab

package settings

import (
	"os"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// sysctlValues are what files below /proc/sys/net hold.
func sysctlValues(t *testing.T) (values []string) {
	t.Helper()
	for _, s := range (&Sysctls{}).files() {
		b, err := os.ReadFile("/proc/sys/net/" + s.file)
		if err != nil {
			t.Fatalf("this kernel lacks one: %v", err)
		}
		values = append(values, s.file+"="+strings.TrimSpace(string(b)))
	}
	return values
}

// TestSysctls sets every sysctl of the host, and RFS with them in one plan, and
// takes it back.
func TestSysctls(t *testing.T) {
	labtest.Require(t, "nics")
	w := live(t)
	nic, all := up(t, w, "igb")
	before := strings.Join(sysctlValues(t), " ")
	flows := func() string { return sysfs(t, nic.Name, "queues/rx-0/rps_flow_cnt", "queues/rx-3/rps_flow_cnt") }
	if _, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, policyFor(nic.Name, "rps: {flow-cnt: 256}")), nil); err == nil ||
		!strings.Contains(err.Error(), "RFS is off") {
		t.Errorf("RFS without the host's table: %v", err)
	}
	document := policyFor(nic.Name, "rps: {flow-cnt: 256}\n  sysctl: {netdev-budget: 600, netdev-budget-usecs: 12000, netdev-max-backlog: 4000, dev-weight: 128, "+
		"dev-weight-rx-bias: 2, dev-weight-tx-bias: 3, netdev-tstamp-prequeue: 0, gro-normal-batch: 4, busy-poll: 50, busy-read: 60, "+
		"rps-sock-flow-entries: 1000, igmp-max-memberships: 100, igmp-max-msf: 50, mld-max-msf: 70}")
	e := engine(t, w, t.TempDir())
	p := plan(t, w, all, document)
	if p.Impact() != tuning.Seamless || len(p.Changes) != 2 || p.Changes[0].NIC.Name != "host" {
		t.Errorf("plan %+v", p)
	}
	done, err := e.Apply(t.Context(), p, all, tuning.Request{User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	const want = "core/netdev_budget=600 core/netdev_budget_usecs=12000 core/netdev_max_backlog=4000 core/dev_weight=128 core/dev_weight_rx_bias=2 " +
		"core/dev_weight_tx_bias=3 core/netdev_tstamp_prequeue=0 core/gro_normal_batch=4 core/busy_poll=50 core/busy_read=60 " +
		"core/rps_sock_flow_entries=1024 ipv4/igmp_max_memberships=100 ipv4/igmp_max_msf=50 ipv6/mld_max_msf=70"
	if got := strings.Join(sysctlValues(t), " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := flows(); got != "256;256;" {
		t.Errorf("flows %s", got)
	}
	if again := plan(t, w, all, document); len(again.Changes) != 0 {
		t.Errorf("a second plan: %+v", again.Changes)
	}
	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Error(err)
	}
	if after := strings.Join(sysctlValues(t), " "); after != before || flows() != ";;" {
		t.Errorf("after the rollback %s, flows %s, before %s", after, flows(), before)
	}
}
