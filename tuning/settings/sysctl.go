package settings

import (
	"context"
	"math/bits"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// Sysctls are those of the host that receiving packets depends on, under their own
// names with "-" for "_".
type Sysctls struct {
	NetdevBudget         *uint32 `json:"netdev-budget,omitempty" doc:"packets that one round of receiving takes from all queues of a CPU at most (net.core.netdev_budget); a time_squeeze in softnet_stat says that it, or the time, ran out"`
	NetdevBudgetUsecs    *uint32 `json:"netdev-budget-usecs,omitempty" doc:"microseconds that such a round takes at most (net.core.netdev_budget_usecs)"`
	NetdevMaxBacklog     *uint32 `json:"netdev-max-backlog,omitempty" doc:"packets that wait for a CPU which RPS, a veth or a tunnel hands them to; more are dropped (net.core.netdev_max_backlog)"`
	DevWeight            *uint32 `json:"dev-weight,omitempty" doc:"packets of its backlog (RPS, veth, tunnels) that a CPU takes before another queue's turn; the driver's own queues have 64 each, which nothing sets (net.core.dev_weight)"`
	DevWeightRXBias      *uint32 `json:"dev-weight-rx-bias,omitempty" doc:"by what dev-weight is multiplied for that (net.core.dev_weight_rx_bias)"`
	DevWeightTXBias      *uint32 `json:"dev-weight-tx-bias,omitempty" doc:"and for what a queueing discipline sends in one turn (net.core.dev_weight_tx_bias)"`
	NetdevTstampPrequeue *uint32 `json:"netdev-tstamp-prequeue,omitempty" doc:"1: packets are timestamped before RPS hands them on; 0: after, on the CPU that they are handed to (net.core.netdev_tstamp_prequeue)"`
	GRONormalBatch       *uint32 `json:"gro-normal-batch,omitempty" doc:"packets that GRO passes up together (net.core.gro_normal_batch)"`
	BusyPoll             *uint32 `json:"busy-poll,omitempty" doc:"microseconds that poll and select look at the queues themselves; 0 is never (net.core.busy_poll)"`
	BusyRead             *uint32 `json:"busy-read,omitempty" doc:"microseconds that a socket's read does so where the socket does not say (net.core.busy_read)"`
	RPSSockFlowEntries   *uint32 `json:"rps-sock-flow-entries,omitempty" doc:"flows of which RFS knows the CPU that reads them, a power of two; 0 is no RFS, whatever rps says (net.core.rps_sock_flow_entries)"`
	IGMPMaxMemberships   *uint32 `json:"igmp-max-memberships,omitempty" doc:"groups that one socket may be in (net.ipv4.igmp_max_memberships)"`
	IGMPMaxMSF           *uint32 `json:"igmp-max-msf,omitempty" doc:"sources that a socket may name for one group (net.ipv4.igmp_max_msf)"`
	MLDMaxMSF            *uint32 `json:"mld-max-msf,omitempty" doc:"the same of IPv6 (net.ipv6.mld_max_msf)"`
}

// sysctl is a field and its file below /proc/sys/net.
type sysctl struct {
	file  string
	value **uint32
}

func (s *Sysctls) files() []sysctl {
	return []sysctl{
		{"core/netdev_budget", &s.NetdevBudget},
		{"core/netdev_budget_usecs", &s.NetdevBudgetUsecs},
		{"core/netdev_max_backlog", &s.NetdevMaxBacklog},
		{"core/dev_weight", &s.DevWeight},
		{"core/dev_weight_rx_bias", &s.DevWeightRXBias},
		{"core/dev_weight_tx_bias", &s.DevWeightTXBias},
		{"core/netdev_tstamp_prequeue", &s.NetdevTstampPrequeue},
		{"core/gro_normal_batch", &s.GRONormalBatch},
		{"core/busy_poll", &s.BusyPoll},
		{"core/busy_read", &s.BusyRead},
		{"core/rps_sock_flow_entries", &s.RPSSockFlowEntries},
		{"ipv4/igmp_max_memberships", &s.IGMPMaxMemberships},
		{"ipv4/igmp_max_msf", &s.IGMPMaxMSF},
		{"ipv6/mld_max_msf", &s.MLDMaxMSF},
	}
}

// Sysctl is sysctl -w of what receiving packets depends on.
func Sysctl() tuning.Knob[Sysctls] {
	return tuning.Knob[Sysctls]{
		Name: "sysctl",
		Doc: "The sysctls that receiving packets depends on. They are the host's, and wanted where a policy matches one of its NICs. " +
			"Those of net.core are there only in the host's first network namespace; the limits of IGMP and MLD are each namespace's own.",
		Scope:  tuning.PerHost,
		Impact: func(inventory.NIC, Sysctls, Sysctls) tuning.Impact { return tuning.Seamless },
		Round:  func(_ inventory.NIC, next Sysctls) Sysctls { return next.rounded() },
		Read:   readSysctls,
		Check:  checkSysctls,
		Write: func(ctx context.Context, w kernel.Writer, _ inventory.NIC, current, next Sysctls) error {
			was := current.files()
			for i, s := range next.files() {
				if err := writeNumber(ctx, w, "/proc/sys/net/"+s.file, *was[i].value, *s.value); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func readSysctls(ctx context.Context, r kernel.Reader, _ inventory.NIC) (current, limit Sysctls, err error) {
	for _, s := range current.files() {
		if *s.value, err = readNumber(ctx, r, "/proc/sys/net/"+s.file); err != nil {
			return current, limit, err
		}
	}
	return current, limit, nil
}

// mostFlows is what the kernel allows of rps_sock_flow_entries.
const mostFlows = 1 << 29

// rounded is what the kernel makes of it: the next power of two.
func (s Sysctls) rounded() Sysctls {
	if n := s.RPSSockFlowEntries; n != nil && *n > 0 && *n <= mostFlows {
		s.RPSSockFlowEntries = new(uint32(1) << bits.Len32(*n-1))
	}
	return s
}

func checkSysctls(current, next Sysctls) error {
	const most = 1<<31 - 1 // they are ints of C
	return firstFault(
		between("netdev-budget", current.NetdevBudget, next.NetdevBudget, 1, most),
		between("netdev-budget-usecs", current.NetdevBudgetUsecs, next.NetdevBudgetUsecs, 1, most),
		between("netdev-max-backlog", current.NetdevMaxBacklog, next.NetdevMaxBacklog, 1, most),
		between("dev-weight", current.DevWeight, next.DevWeight, 1, most),
		between("dev-weight-rx-bias", current.DevWeightRXBias, next.DevWeightRXBias, 1, most),
		between("dev-weight-tx-bias", current.DevWeightTXBias, next.DevWeightTXBias, 1, most),
		between("netdev-tstamp-prequeue", current.NetdevTstampPrequeue, next.NetdevTstampPrequeue, 0, 1),
		between("gro-normal-batch", current.GRONormalBatch, next.GRONormalBatch, 1, most),
		between("rps-sock-flow-entries", current.RPSSockFlowEntries, next.RPSSockFlowEntries, 0, mostFlows),
	)
}
