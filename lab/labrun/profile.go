package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A profile is a machine: its CPUs, memory and devices as QEMU arguments.
type profile struct {
	about  string
	smp    string
	memory int // MiB
	args   []string
	tap    bool // it needs /dev/net/tun on the host
}

// port is a PCIe root port of its own, so that the device on it gets its own IOMMU group.
func port(id string, slot int, more string) []string {
	return []string{"-device", fmt.Sprintf("pcie-root-port,id=%s,slot=%d,chassis=%d%s", id, slot, slot, more)}
}

// nic is a device on a bus with a network of its own that leads nowhere.
func nic(model, id, bus, mac, more string) []string {
	return []string{
		"-netdev", "user,restrict=on,id=net-" + id,
		"-device", fmt.Sprintf("%s,id=%s,netdev=net-%s,bus=%s,mac=52:54:00:00:%s%s%s", model, id, id, bus, mac, noROM, more),
	}
}

// noROM: the guest never boots from the network, and reading a boot ROM costs time.
const noROM = ",romfile="

// profiles are the machines of the lab, by name. Device ids are part of what tests rely on
// (QMP's set_link and device_del take them).
func profiles() map[string]profile {
	all := map[string]profile{}

	// Each NIC behind its own root port and an IOMMU: two igb with SR-IOV, e1000e, virtio-net
	// with four queue pairs, vmxnet3.
	p := profile{about: "igb ×2, e1000e, virtio-net (4 queue pairs), vmxnet3, each on its own root port", smp: "4", memory: 1024, tap: true}
	p.args = slices.Concat(
		port("rp0", 1, ""), nic("igb", "igb0", "rp0", "01:00", ""),
		port("rp1", 2, ""), nic("igb", "igb1", "rp1", "02:00", ""),
		port("rp2", 3, ""), nic("e1000e", "e1000e0", "rp2", "03:00", ""),
		port("rp3", 4, ""), []string{
			// Only a tap has several queues without a helper; it is alone in QEMU's network namespace.
			"-netdev", "tap,id=net-virtio0,queues=4,script=no,downscript=no,vhost=off",
			"-device", "virtio-net-pci,id=virtio0,netdev=net-virtio0,bus=rp3,mac=52:54:00:00:04:00,mq=on,vectors=10,rss=on,hash=on" + noROM,
		},
		port("rp4", 5, ""), nic("vmxnet3", "vmxnet30", "rp4", "05:00", ""),
	)
	all["nics"] = p

	// The same drivers on one emulated hub, for traffic between them (move them into network
	// namespaces). Nothing leads outside.
	p = profile{about: "igb ×2, virtio-net, vmxnet3 on one hub, for traffic", smp: "4", memory: 1024}
	for i, d := range []struct{ model, id string }{{"igb", "igb0"}, {"igb", "igb1"}, {"virtio-net-pci", "virtio0"}, {"vmxnet3", "vmxnet30"}} {
		bus := fmt.Sprintf("rp%d", i)
		p.args = append(p.args, port(bus, i+1, "")...)
		p.args = append(p.args, "-netdev", "hubport,hubid=0,id=net-"+d.id,
			"-device", fmt.Sprintf("%s,id=%s,netdev=net-%s,bus=%s,mac=52:54:00:00:%02d:00%s", d.model, d.id, d.id, bus, i+1, noROM))
	}
	all["hub"] = p

	// Two NUMA nodes, each with its own PCIe host bridge. Node 0: an igb in a slot of 8 GT/s x8,
	// wider than the device. Node 1: a switch with an igb and an e1000e below it, whose ports have
	// no ACS, so that a port and everything below it (the igb's VFs too) are one IOMMU group; and
	// a virtio-net of 100 Gb/s.
	p = profile{about: "2 NUMA nodes, a PCIe switch, a slot wider than its device", smp: "8,sockets=2,cores=4", memory: 1536}
	p.args = slices.Concat(
		[]string{
			"-object", "memory-backend-ram,id=node0,size=768M", "-object", "memory-backend-ram,id=node1,size=768M",
			"-numa", "node,nodeid=0,cpus=0-3,memdev=node0", "-numa", "node,nodeid=1,cpus=4-7,memdev=node1",
			"-numa", "dist,src=0,dst=1,val=21",
			"-device", "pxb-pcie,id=host0,bus_nr=64,numa_node=0,bus=pcie.0",
			"-device", "pxb-pcie,id=host1,bus_nr=128,numa_node=1,bus=pcie.0",
		},
		port("rp0", 1, ",bus=host0,x-speed=8,x-width=8"), nic("igb", "igb0", "rp0", "01:00", ""),
		port("rp1", 2, ",bus=host1"),
		[]string{
			"-device", "x3130-upstream,id=up0,bus=rp1",
			"-device", "xio3130-downstream,id=down0,bus=up0,chassis=3,slot=3",
			"-device", "xio3130-downstream,id=down1,bus=up0,chassis=4,slot=4",
		},
		nic("igb", "igb1", "down0", "02:00", ""), nic("e1000e", "e1000e0", "down1", "03:00", ""),
		port("rp2", 5, ",bus=host1"), nic("virtio-net-pci", "virtio0", "rp2", "04:00", ",speed=100000,duplex=full"),
	)
	all["numa"] = p
	return all
}

// profileNames lists the profiles in the order in which tests run on them.
func profileNames() []string { return slices.Sorted(maps.Keys(profiles())) }

func profileByName(name string) (profile, error) {
	p, ok := profiles()[name]
	if !ok {
		return p, fmt.Errorf("no profile %q: there are %s", name, strings.Join(profileNames(), ", "))
	}
	return p, nil
}
