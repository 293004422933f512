// Package xdpcheck says what XDP, AF_XDP and hardware offloads do on a host's NICs,
// what they could do, and what is in the way.
//
// The kernel announces what a driver takes at present (netdev genl, xdp-features):
// nothing at all where a setting is in the way. The room's table of drivers
// (drivers.yaml, docs/xdp-drivers.md) tells "blocked" from "can't", and names the
// setting. What neither tells is unknown.
//
// [Read] gathers facts through the seam, and everything but two functions works on
// recorded hosts, too: [Programs] asks bpf(2) for names, and [Probe] attaches a
// program for a moment. Nothing else here changes anything, and nothing is ever
// attached in generic mode.
package xdpcheck

import (
	"bytes"
	"context"
	"errors"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// Extra is what judging a host needs beside its inventory, by the NICs' names. What
// could not be read is absent.
type Extra struct {
	// PageSize is in bytes.
	PageSize int `json:"pageSize,omitempty"`
	// JIT is net.core.bpf_jit_enable.
	JIT string `json:"bpfJitEnable,omitempty"`
	// Virtio are the feature bits that device and driver agreed on, as /sys has them:
	// "0" and "1", bit 0 first.
	Virtio map[string]string `json:"virtioFeatures,omitempty"`
	// ESwitch is the mode of the switches of devlink instances, by their handles:
	// "legacy", "switchdev", and "none" where the driver has no modes.
	ESwitch map[string]string `json:"eswitch,omitempty"`
	// Modules are the variants of vfio-pci that migrate VFs of these NICs and are loaded,
	// or built in.
	Modules []string `json:"modules,omitempty"`
	// Recycled is what of their pages page pools used again.
	Recycled map[string]Recycling `json:"recycled,omitempty"`
	// Tunnels are the tables of tunnel ports.
	Tunnels map[string][]TunnelTable `json:"tunnelPorts,omitempty"`
}

// Read reads it.
func Read(ctx context.Context, r kernel.Reader, host *inventory.Host, nics []inventory.NIC) *Extra {
	x := &Extra{Virtio: map[string]string{}, Recycled: map[string]Recycling{}, Tunnels: map[string][]TunnelTable{}, ESwitch: map[string]string{}}
	x.PageSize = readPageSize(ctx, r, host.Architecture)
	for i := range nics {
		n := &nics[i]
		if n.Parent == nil || n.Parent.Bus != "virtio" {
			continue
		}
		if b, err := r.ReadFile(ctx, "/sys/class/net/"+n.Name+"/device/features"); err == nil {
			x.Virtio[n.Name] = strings.TrimSpace(string(b))
		}
	}
	if b, err := r.ReadFile(ctx, "/proc/sys/net/core/bpf_jit_enable"); err == nil {
		x.JIT = strings.TrimSpace(string(b))
	}
	for driver, m := range migrationModules() {
		uses := func(n inventory.NIC) bool { return n.Driver != nil && n.Driver.Name == driver }
		if !slices.ContainsFunc(nics, uses) {
			continue
		}
		if _, err := r.ReadDir(ctx, "/sys/module/"+m.name); err == nil {
			x.Modules = append(x.Modules, m.name)
		}
	}
	x.readRecycling(ctx, r, nics)
	x.readTunnels(ctx, r, nics)
	x.readESwitches(ctx, r, nics)
	return x
}

// readESwitches asks for the modes of switches. It takes CAP_NET_ADMIN.
func (x *Extra) readESwitches(ctx context.Context, r kernel.Reader, nics []inventory.NIC) {
	asked := map[string]bool{}
	for i := range nics {
		d := nics[i].Devlink
		if d == nil || asked[d.Handle] {
			continue
		}
		asked[d.Handle] = true
		bus, device, _ := strings.Cut(d.Handle, "/")
		messages, err := r.Netlink(ctx, kernel.Request{
			Family: kernel.FamilyDevlink, Command: uapi.DEVLINK_CMD_ESWITCH_GET,
			Body: kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, bus).String(uapi.DEVLINK_ATTR_DEV_NAME, device),
		})
		switch {
		case err == nil && len(messages) > 0:
			if mode, err := decodeESwitchMode(messages[0].Body); err == nil && mode != "" {
				x.ESwitch[d.Handle] = mode
			}
		case err != nil && kernel.ReasonOf(err) == kernel.Unsupported:
			x.ESwitch[d.Handle] = "none"
		}
	}
}

// decodeESwitchMode finds the mode in an answer to DEVLINK_CMD_ESWITCH_GET.
func decodeESwitchMode(body []byte) (mode string, err error) {
	a := kernel.AttributesOf(body)
	for a.Next() {
		if a.Type != uapi.DEVLINK_ATTR_ESWITCH_MODE {
			continue
		}
		words := [...]string{"legacy", "switchdev", "switchdev_inactive"}
		n := int(a.Uint16())
		if mode = strconv.Itoa(n); n < len(words) {
			mode = words[n]
		}
	}
	return mode, a.Err()
}

// Facts are what a host's NICs are judged on.
type Facts struct {
	host    *inventory.Host
	nics    []inventory.NIC
	unread  []inventory.Unread
	extra   Extra
	table   *Table
	release Release
	memory  memory
}

// Of brings the facts together; unread are the notes on the host. Without more than
// the inventory (nil) less can be judged.
func Of(host *inventory.Host, nics []inventory.NIC, unread []inventory.Unread, extra *Extra) *Facts {
	f := &Facts{host: host, nics: nics, unread: unread, table: KnownDrivers()}
	if extra != nil {
		f.extra = *extra
	}
	f.release, _ = ParseRelease(host.Kernel)
	f.memory = memory{page: f.extra.PageSize}
	if host.Architecture == "x86_64" || host.Architecture == "aarch64" {
		f.memory.shinfo, f.memory.exact = 320, true
	}
	return f
}

// readPageSize finds the size of a page. Where architectures have several, the
// kernel's own counts of free memory, in pages and in kilobytes, tell it.
func readPageSize(ctx context.Context, r kernel.Reader, architecture string) int {
	if architecture == "x86_64" {
		return 4096
	}
	pages, err1 := r.ReadFile(ctx, "/proc/vmstat")
	kilobytes, err2 := r.ReadFile(ctx, "/proc/meminfo")
	if errors.Join(err1, err2) != nil {
		return 0
	}
	return pageSize(pages, kilobytes)
}

// pageSize compares nr_free_pages of /proc/vmstat with MemFree of /proc/meminfo,
// which were read at about the same time. It is 0 where they don't tell.
func pageSize(vmstat, meminfo []byte) int {
	pages, kilobytes := counted(vmstat, "nr_free_pages"), counted(meminfo, "MemFree:")
	if pages == 0 || kilobytes == 0 || kilobytes > 1<<50 || pages > 1<<50 {
		return 0
	}
	for _, size := range []uint64{4096, 8192, 16384, 65536} {
		if b := kilobytes * 1024; b > pages*size*2/3 && b < pages*size*4/3 {
			return int(size)
		}
	}
	return 0
}

// counted is the number after a word at the start of a line.
func counted(text []byte, word string) uint64 {
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) >= 2 && fields[0] == word {
			n, _ := strconv.ParseUint(fields[1], 10, 64) // 0 is "doesn't tell"
			return n
		}
	}
	return 0
}

// NIC is a NIC to be judged.
type NIC struct {
	*inventory.NIC
	facts *Facts
}

// NIC is the i-th NIC.
func (f *Facts) NIC(i int) NIC { return NIC{&f.nics[i], f} }

// Named is the NIC of that name.
func (f *Facts) Named(name string) (NIC, bool) {
	if n := f.named(name); n != nil {
		return NIC{n, f}, true
	}
	return NIC{}, false
}

// Subject is the NIC's identity.
func (n NIC) Subject() findings.Subject { return findings.NICSubject(n.facts.host, n.NIC) }

// driver is what the table knows of the NIC's driver, nil if nothing.
func (n NIC) driver() *Driver {
	if n.Driver == nil {
		return nil
	}
	return n.facts.table.Driver(n.Driver.Name)
}

// named finds another NIC of the host, nil if there is none of that name.
func (f *Facts) named(name string) *inventory.NIC {
	for i := range f.nics {
		if f.nics[i].Name == name {
			return &f.nics[i]
		}
	}
	return nil
}

// Recycling counts the pages of a NIC's page pools since each was made (netdev genl,
// page-pool-stats-get; kernels with CONFIG_PAGE_POOL_STATS).
type Recycling struct {
	// Allocated are pages that the pools got from the kernel, Reused those that they
	// gave out again.
	Allocated uint64 `json:"allocated"`
	Reused    uint64 `json:"reused"`
}

// readRecycling adds up the pools of each NIC. A kernel without the statistics, or
// with pools whose NIC is gone, leaves it empty.
func (x *Extra) readRecycling(ctx context.Context, r kernel.Reader, nics []inventory.NIC) {
	owner := map[uint64]string{}
	for i := range nics {
		for _, p := range nics[i].Queues.PagePools {
			owner[p.ID] = nics[i].Name
		}
	}
	if len(owner) == 0 {
		return
	}
	pools, err := inventory.ReadPagePoolStats(ctx, r)
	if err != nil {
		return
	}
	for id, c := range pools {
		name, ok := owner[id]
		if !ok {
			continue
		}
		sum := x.Recycled[name]
		x.Recycled[name] = Recycling{sum.Allocated + c.Allocated, sum.Reused + c.Reused}
	}
}

// TunnelTable is one of a NIC's tables of UDP ports whose tunnels it knows.
type TunnelTable struct {
	// Types are "vxlan", "geneve", "vxlan-gpe".
	Types []string `json:"types,omitempty"`
	// Size is how many ports it can hold, Ports those it does.
	Size  int      `json:"size"`
	Ports []uint16 `json:"ports,omitempty"`
}

// readTunnels reads what ethtool --show-tunnels shows.
func (x *Extra) readTunnels(ctx context.Context, r kernel.Reader, nics []inventory.NIC) {
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyEthtool, Command: uapi.ETHTOOL_MSG_TUNNEL_INFO_GET, Dump: true,
		Body: kernel.Body{}.Nested(uapi.ETHTOOL_A_TUNNEL_INFO_HEADER, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_FLAGS, uapi.ETHTOOL_FLAG_COMPACT_BITSETS)),
	})
	if err != nil && len(messages) == 0 {
		return
	}
	for _, m := range messages {
		index, tables, err := decodeTunnels(m.Body)
		if i := slices.IndexFunc(nics, func(n inventory.NIC) bool { return n.Index == index }); err == nil && i >= 0 && len(tables) > 0 {
			x.Tunnels[nics[i].Name] = tables
		}
	}
}

// decodeTunnels decodes the attributes ETHTOOL_A_TUNNEL_INFO_.
func decodeTunnels(body []byte) (index int, tables []TunnelTable, err error) {
	a := kernel.AttributesOf(body)
	for a.Next() {
		nested := a.Nested()
		switch a.Type {
		case uapi.ETHTOOL_A_TUNNEL_INFO_HEADER:
			for nested.Next() {
				if nested.Type == uapi.ETHTOOL_A_HEADER_DEV_INDEX {
					index = int(nested.Uint32())
				}
			}
			a.Join(nested)
		case uapi.ETHTOOL_A_TUNNEL_INFO_UDP_PORTS:
			for nested.Next() {
				if nested.Type == uapi.ETHTOOL_A_TUNNEL_UDP_TABLE {
					t := nested.Nested()
					tables = append(tables, decodeTunnelTable(t))
					nested.Join(t)
				}
			}
			a.Join(nested)
		}
	}
	return index, tables, a.Err()
}

func decodeTunnelTable(a *kernel.Attributes) TunnelTable {
	var t TunnelTable
	for a.Next() {
		nested := a.Nested()
		switch a.Type {
		case uapi.ETHTOOL_A_TUNNEL_UDP_TABLE_SIZE:
			t.Size = int(a.Uint32())
		case uapi.ETHTOOL_A_TUNNEL_UDP_TABLE_TYPES:
			var set uint32
			for nested.Next() {
				if nested.Type == uapi.ETHTOOL_A_BITSET_VALUE && len(nested.Data) >= 4 {
					set = nested.Uint32()
				}
			}
			a.Join(nested)
			names := [...]string{"vxlan", "geneve", "vxlan-gpe"}
			for ; set != 0; set &= set - 1 {
				if i := bits.TrailingZeros32(set); i < len(names) {
					t.Types = append(t.Types, names[i])
				}
			}
		case uapi.ETHTOOL_A_TUNNEL_UDP_TABLE_ENTRY:
			for nested.Next() {
				if nested.Type == uapi.ETHTOOL_A_TUNNEL_UDP_ENTRY_PORT && len(nested.Data) >= 2 {
					t.Ports = append(t.Ports, uint16(nested.Data[0])<<8|uint16(nested.Data[1]))
				}
			}
			a.Join(nested)
		}
	}
	return t
}
