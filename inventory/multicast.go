package inventory

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Multicast is which groups a NIC lets in, and why.
type Multicast struct {
	// Capable is the MULTICAST flag. AllMulti and Promiscuous say what is in
	// force, whoever asked for it: an administrator, a bridge, a capture. The
	// counts say how many did.
	Capable          *bool        `json:"capable,omitempty"`
	AllMulti         *bool        `json:"allMulti,omitempty"`
	Promiscuous      *bool        `json:"promiscuous,omitempty"`
	AllMultiUsers    *uint32      `json:"allMultiUsers,omitempty"`
	PromiscuousUsers *uint32      `json:"promiscuousUsers,omitempty"`
	Memberships      []Membership `json:"memberships,omitempty"`
}

// Membership is one group that the host is in on a NIC.
type Membership struct {
	// Family is "ipv4", "ipv6" or "link".
	Family  string `json:"family"`
	Address string `json:"address"`
	Users   uint32 `json:"users"`
	// Static is a link-layer address that an administrator added.
	Static bool `json:"static,omitempty"`
}

// setFlags takes the flags of an ifinfomsg. Netlink shows in them only what an
// administrator asked for; see setPromiscuousUsers for the rest.
func (m *Multicast) setFlags(flags uint32) {
	m.Capable = new(flags&uapi.IFF_MULTICAST != 0)
	if flags&uapi.IFF_ALLMULTI != 0 && m.AllMulti == nil {
		m.AllMulti = new(true)
	}
	if flags&uapi.IFF_PROMISC != 0 && m.Promiscuous == nil {
		m.Promiscuous = new(true)
	}
}

func (m *Multicast) setPromiscuousUsers(users uint32) {
	m.PromiscuousUsers, m.Promiscuous = &users, new(users > 0)
}

func (m *Multicast) setAllMultiUsers(users uint32) {
	m.AllMultiUsers, m.AllMulti = &users, new(users > 0)
}

// readMulticast reads the groups that the host is in, and those that its
// bridges forward.
func readMulticast(ctx context.Context, s *survey) {
	for _, n := range s.nics {
		s.readAllMulti(ctx, n)
	}
	for _, source := range []struct {
		path  string
		parse func([]byte) (map[int][]Membership, error)
	}{
		{"/proc/net/dev_mcast", parseDevMcast},
		{"/proc/net/igmp", parseIGMP},
		{"/proc/net/igmp6", parseIGMP6},
	} {
		b, err := s.ReadFile(ctx, source.path)
		var memberships map[int][]Membership
		if err == nil {
			if s.focused {
				b = linesOf(b, func(index int) bool { return s.byIndex[index] != nil })
			}
			if memberships, err = source.parse(b); err != nil {
				err = fmt.Errorf("%s: %w", source.path, err)
			}
		}
		if err != nil {
			s.missed("nics.multicast.memberships", err)
		}
		for index, m := range memberships {
			if n := s.byIndex[index]; n != nil {
				n.Multicast.Memberships = append(n.Multicast.Memberships, m...)
			}
		}
	}
	readMDB(ctx, s)
}

// linesOf keeps of a table the lines of some devices, which begin with the device's
// index, the indented ones below them, and a heading.
func linesOf(table []byte, wanted func(index int) bool) []byte {
	var kept []byte
	keep := false
	for line := range bytes.Lines(table) {
		if line[0] != '\t' && line[0] != ' ' {
			digits, _, _ := bytes.Cut(line, []byte("\t"))
			digits, _, _ = bytes.Cut(digits, []byte(" "))
			index, ok := decimal(digits)
			keep = !ok || wanted(int(index))
		}
		if keep {
			kept = append(kept, line...)
		}
	}
	return kept
}

// readAllMulti asks sysfs for the flag in force where netlink does not tell, as
// on kernels before 6.0.
func (s *survey) readAllMulti(ctx context.Context, n *NIC) {
	if n.Multicast.AllMulti != nil {
		return
	}
	b, err := s.ReadFile(ctx, sysClassNet+"/"+n.Name+"/flags")
	if err != nil {
		if kernel.ReasonOf(err) != kernel.Unsupported && !errors.Is(err, kernel.ErrNotRecorded) {
			n.missed("multicast.allMulti", err)
		}
		return
	}
	flags, err := strconv.ParseUint(strings.TrimSpace(string(b)), 0, 32)
	if err != nil {
		n.missed("multicast.allMulti", err)
		return
	}
	n.Multicast.AllMulti = new(flags&uapi.IFF_ALLMULTI != 0)
}

// The three files of /proc/net key a membership by the device's index, which,
// unlike its name, can't change between the dump and the read.

// parseDevMcast parses /proc/net/dev_mcast, the link-layer groups:
// index, name, users, whether an administrator added it, address in hex.
func parseDevMcast(b []byte) (map[int][]Membership, error) {
	groups := map[int][]Membership{}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 4 {
			return groups, malformedLine(line)
		}
		index, err1 := strconv.Atoi(string(f[0]))
		users, err2 := strconv.ParseUint(string(f[2]), 10, 32)
		global, err3 := strconv.ParseUint(string(f[3]), 10, 32)
		if errors.Join(err1, err2, err3) != nil {
			return groups, malformedLine(line)
		}
		if len(f) == 4 {
			continue // a device whose addresses have no bytes
		}
		address, err := hex.AppendDecode(nil, f[4])
		if err != nil {
			return groups, malformedLine(line)
		}
		groups[index] = append(groups[index], Membership{
			Family: "link", Address: colonHex(address), Users: uint32(users), Static: global > 0,
		})
	}
	return groups, nil
}

// parseIGMP parses /proc/net/igmp: a line for each device (index, name, count,
// version of the querier) and below it, indented, one for each group. A group's
// address is the big-endian field printed as a number of the host.
func parseIGMP(b []byte) (map[int][]Membership, error) {
	groups := map[int][]Membership{}
	index, header := 0, true
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		switch {
		case len(f) == 0:
		case header:
			header = false
		case line[0] != '\t' && line[0] != ' ':
			i, err := strconv.Atoi(string(f[0]))
			if err != nil {
				return groups, malformedLine(line)
			}
			index = i
		default:
			if len(f) < 2 || index == 0 {
				return groups, malformedLine(line)
			}
			group, err1 := strconv.ParseUint(string(f[0]), 16, 32)
			users, err2 := strconv.ParseUint(string(f[1]), 10, 32)
			if errors.Join(err1, err2) != nil {
				return groups, malformedLine(line)
			}
			var address [4]byte
			binary.NativeEndian.PutUint32(address[:], uint32(group))
			groups[index] = append(groups[index], Membership{
				Family: "ipv4", Address: netip.AddrFrom4(address).String(), Users: uint32(users),
			})
		}
	}
	return groups, nil
}

// parseIGMP6 parses /proc/net/igmp6: index, name, address in hex, users, flags,
// timer.
func parseIGMP6(b []byte) (map[int][]Membership, error) {
	groups := map[int][]Membership{}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 4 {
			return groups, malformedLine(line)
		}
		index, err1 := strconv.Atoi(string(f[0]))
		address, err2 := hex.AppendDecode(nil, f[2])
		users, err3 := strconv.ParseUint(string(f[3]), 10, 32)
		if errors.Join(err1, err2, err3) != nil || len(address) != 16 {
			return groups, malformedLine(line)
		}
		groups[index] = append(groups[index], Membership{
			Family: "ipv6", Address: netip.AddrFrom16([16]byte(address)).String(), Users: uint32(users),
		})
	}
	return groups, nil
}

func malformedLine(line []byte) error {
	return fmt.Errorf("%w: line %q", kernel.ErrMalformed, bytes.TrimSpace(line))
}

// bridgePortMessage is struct br_port_msg: the family and the bridge's index.
const bridgePortMessage = 8

// afBridge is PF_BRIDGE of linux/socket.h.
const afBridge = 7

// readMDB reads the groups that bridges forward, for all of them in one dump.
func readMDB(ctx context.Context, s *survey) {
	if !slices.ContainsFunc(s.nics, func(n *NIC) bool { return n.Stack.Bridge != nil }) {
		return
	}
	body := make([]byte, bridgePortMessage)
	body[0] = afBridge
	messages, err := s.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETMDB, Dump: true, Body: body,
	})
	if err != nil {
		s.missed("nics.stack.bridge.mdb", err)
	}
	for _, m := range messages {
		// The kernel answers a dump with the type of the request.
		if m.Command != uapi.RTM_GETMDB && m.Command != uapi.RTM_NEWMDB {
			continue
		}
		d, err := decodeMDB(m.Body)
		n := s.byIndex[d.bridge]
		if n == nil || n.Stack.Bridge == nil {
			if err != nil {
				s.missed("nics.stack.bridge.mdb", err)
			}
			continue // of a bridge that came after the list, or of a VXLAN
		}
		if err != nil {
			n.missed("stack.bridge.mdb", err)
		}
		b := n.Stack.Bridge
		for i, entry := range d.entries {
			entry.Port = s.nameOf(d.ports[i])
			if !slices.Contains(b.MDB, entry) { // an interrupted dump repeats itself
				b.MDB = append(b.MDB, entry)
			}
		}
		for _, router := range d.routers {
			if name := s.nameOf(router); name != "" && !slices.Contains(b.RouterPorts, name) {
				b.RouterPorts = append(b.RouterPorts, name)
			}
		}
	}
}

// mdb is one RTM_NEWMDB message.
type mdb struct {
	bridge  int
	entries []MDBEntry
	// ports are the indexes of the entries' ports.
	ports   []int
	routers []int
}

// decodeMDB decodes struct br_port_msg and the attributes MDBA_ of
// linux/if_bridge.h. On an error it returns what it could read.
func decodeMDB(body []byte) (mdb, error) {
	var d mdb
	if len(body) < bridgePortMessage {
		return d, fmt.Errorf("%w: %d bytes where a br_port_msg is due", kernel.ErrMalformed, len(body))
	}
	d.bridge = int(binary.NativeEndian.Uint32(body[4:]))
	a := kernel.AttributesAfter(body, bridgePortMessage)
	for a.Next() {
		inner := a.Nested()
		switch a.Type {
		case uapi.MDBA_MDB:
			for inner.Next() {
				if inner.Type != uapi.MDBA_MDB_ENTRY {
					continue
				}
				infos := inner.Nested()
				for infos.Next() {
					if infos.Type == uapi.MDBA_MDB_ENTRY_INFO {
						infos.Join(d.decodeEntry(infos.Data))
					}
				}
				inner.Join(infos)
			}
		case uapi.MDBA_ROUTER:
			for inner.Next() {
				if inner.Type == uapi.MDBA_ROUTER_PORT {
					d.routers = append(d.routers, int(inner.Uint32()))
				}
			}
		}
		a.Join(inner)
	}
	return d, a.Err()
}

// mdbEntry is the size of struct br_mdb_entry.
const mdbEntry = 28

// decodeEntry decodes struct br_mdb_entry (index, state, flags, VLAN, address,
// protocol) and the attributes behind it.
func (d *mdb) decodeEntry(b []byte) *kernel.Attributes {
	a := kernel.AttributesAfter(b, mdbEntry)
	if a.Err() != nil {
		return a
	}
	entry := MDBEntry{VLAN: int(binary.NativeEndian.Uint16(b[6:])), State: "temporary"}
	if b[4]&uapi.MDB_PERMANENT != 0 {
		entry.State = "permanent"
	}
	switch address := b[8:24]; binary.BigEndian.Uint16(b[24:]) {
	case 0x0800: // ETH_P_IP
		entry.Group = netip.AddrFrom4([4]byte(address[:4])).String()
	case 0x86dd: // ETH_P_IPV6
		entry.Group = netip.AddrFrom16([16]byte(address)).String()
	default: // a link-layer group
		entry.Group = colonHex(address[:6])
	}
	for a.Next() {
		if a.Type == uapi.MDBA_MDB_EATTR_SOURCE {
			if ip, ok := netip.AddrFromSlice(a.Data); ok {
				entry.Source = ip.String()
			}
		}
	}
	d.entries = append(d.entries, entry)
	d.ports = append(d.ports, int(binary.NativeEndian.Uint32(b)))
	return a
}
