package inventory

import (
	"context"
	"errors"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
)

// Traffic is what a host's queues, interrupts and CPUs have counted, and how the
// kernel spreads the work: what tells where packets are lost, or will be.
type Traffic struct {
	Softnet    []Softnet  `json:"softnet,omitempty"`
	CPUs       []CPUTime  `json:"cpus,omitempty"`
	Interrupts Interrupts `json:"interrupts,omitzero"`
	// NICs are by the NIC's ID.
	NICs map[string]NICTraffic `json:"nics,omitempty"`
	// Sysctls are those of [trafficSysctls] that the kernel has here, by their names
	// below net ("core.netdev_max_backlog").
	Sysctls map[string]uint64 `json:"sysctls,omitempty"`
	// UDPSockets are those that can hear groups; nil where they could not be read.
	UDPSockets []UDPSocket `json:"udpSockets,omitzero"`
	// Unread lists what of the host could not be read.
	Unread []Unread `json:"unread,omitempty"`
}

// NICTraffic is what the queues of one NIC have counted.
type NICTraffic struct {
	// Driver are the driver's own counters whose meaning is known.
	Driver []Meant `json:"driver,omitempty"`
	// Queues are from the netdev family, where the driver takes part.
	Queues   []QueueStats `json:"queues,omitempty"`
	Steering *Steering    `json:"steering,omitempty"`
	// ForcedIGMP and ForcedMLD are the versions that the device was told to speak,
	// 0 where the querier decides.
	ForcedIGMP *uint64 `json:"forcedIgmp,omitempty"`
	ForcedMLD  *uint64 `json:"forcedMld,omitempty"`
}

// trafficSysctls decide how much waits, for whom and how long.
var trafficSysctls = [...]string{
	"core.netdev_max_backlog", "core.netdev_budget", "core.netdev_budget_usecs", "core.rps_sock_flow_entries",
	"ipv4.igmp_max_memberships", "ipv4.conf.all.force_igmp_version", "ipv6.conf.all.force_mld_version",
}

// ReadTraffic reads it for the NICs of an inventory. What of a NIC could not be read
// is in its notes, as "counters/driver", "counters/queues" or "steering".
func ReadTraffic(ctx context.Context, r kernel.Reader, inv *Inventory) *Traffic {
	t := &Traffic{NICs: map[string]NICTraffic{}, Sysctls: map[string]uint64{}}
	missed := func(fact string, err error) {
		if asked(err) {
			t.Unread = append(t.Unread, unread(fact, err))
		}
	}
	var err error
	t.CPUs, err = readCPUTimes(ctx, r)
	missed("cpuTimes", err)
	t.Interrupts, err = readInterrupts(ctx, r)
	missed("interrupts", err)
	s := &survey{Reader: r, host: inv.Host}
	s.readSoftnet(ctx)
	t.Softnet = s.host.Softnet
	if inv.Host.Softnet != nil { // else it is among the host's notes
		t.Unread = append(t.Unread, s.unread...)
	}
	for _, name := range trafficSysctls {
		v, err := readSysctl(ctx, r, sysctlPath(name))
		if err == nil {
			t.Sysctls[name] = v
		}
		missed("sysctls."+name, err)
	}
	t.UDPSockets, err = readUDPSockets(ctx, r)
	missed("udpSockets", err)
	queues, noQueues := readQueueStats(ctx, r)
	for i := range inv.NICs {
		n := &inv.NICs[i]
		one := NICTraffic{Queues: queues[n.Index]}
		if asked(noQueues) && one.Queues == nil {
			n.missed("counters/queues", noQueues)
		}
		counters, err := r.Counters(ctx, n.Name)
		if asked(err) {
			n.missed("counters/driver", err)
		}
		if n.Driver != nil {
			one.Driver = MeaningsOf(n.Driver.Name, counters)
		}
		steering, err := readSteering(ctx, r, *n)
		if err == nil {
			one.Steering = &steering
		} else if asked(err) {
			n.missed("steering", err)
		}
		one.ForcedIGMP = n.sysctl(ctx, r, "ipv4", "force_igmp_version")
		one.ForcedMLD = n.sysctl(ctx, r, "ipv6", "force_mld_version")
		t.NICs[n.ID()] = one
	}
	return t
}

// asked tells an error of the host's from a recording that an older nictune made,
// which did not ask.
func asked(err error) bool { return err != nil && !errors.Is(err, kernel.ErrNotRecorded) }

// sysctl reads a sysctl that each device has, nil where it can't be read.
func (n *NIC) sysctl(ctx context.Context, r kernel.Reader, family, name string) *uint64 {
	v, err := readSysctl(ctx, r, "/proc/sys/net/"+family+"/conf/"+n.Name+"/"+name)
	if err == nil {
		return &v
	}
	if asked(err) {
		n.missed("sysctls."+family+"."+name, err)
	}
	return nil
}

// sysctlPath is where a sysctl below net is.
func sysctlPath(name string) string {
	path := []byte("/proc/sys/net/" + name)
	for i, c := range path {
		if c == '.' {
			path[i] = '/'
		}
	}
	return string(path)
}

func readSysctl(ctx context.Context, r kernel.Reader, path string) (uint64, error) {
	b, err := r.ReadFile(ctx, path)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(trimmed(b), 10, 64)
	if err != nil {
		return 0, &kernel.Error{Op: "read", Object: path, Err: kernel.ErrMalformed}
	}
	return v, nil
}
