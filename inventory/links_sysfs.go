package inventory

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// sysClassNet holds a directory for each network device, and now and then a
// file (bonding_masters).
const sysClassNet = "/sys/class/net"

// sysfsLinks lists the devices of a host that answers no netlink, such as a
// plain tree; cause is what netlink said. Such trees are often thin: whatever
// file is missing leaves its fact unknown, and the host's list of the unread
// says once that sysfs was all there was.
func (s *survey) sysfsLinks(ctx context.Context, cause error) (map[int]*link, error) {
	names, err := s.ReadDir(ctx, sysClassNet)
	if err != nil {
		return nil, fmt.Errorf("neither netlink nor sysfs lists them: %w", errors.Join(cause, err))
	}
	s.missed("nics", fmt.Errorf("sysfs is all that could be read: %w", cause))
	links := map[int]*link{}
	for i, name := range names {
		l, ok := s.sysfsLink(ctx, name)
		if !ok {
			continue
		}
		key := l.nic.Index
		if _, taken := links[key]; key == 0 || taken {
			key = -1 - i // a tree without the index: any key that is no index
		}
		links[key] = l
	}
	return links, nil
}

// sysfsLink reads what /sys/class/net has about one device. It reports false
// for an entry that is no device.
func (s *survey) sysfsLink(ctx context.Context, name string) (*link, bool) {
	dir := path.Join(sysClassNet, name)
	// A device is a link to its directory. The file bonding_masters is neither a
	// link nor a directory; some trees have directories.
	entries, dirErr := s.ReadDir(ctx, dir)
	if _, err := s.ReadLink(ctx, dir); err != nil && dirErr != nil {
		return nil, false
	}
	text := func(file string) (string, bool) {
		b, err := s.ReadFile(ctx, path.Join(dir, file))
		if err != nil {
			return "", false // EINVAL for what a device has not now, or not in this tree
		}
		v := strings.TrimSpace(string(b))
		return v, v != ""
	}
	number := func(file string) *int {
		v, ok := text(file)
		if !ok {
			return nil
		}
		i, err := strconv.ParseInt(v, 0, 64)
		if err != nil {
			return nil
		}
		return new(int(i))
	}

	l := &link{nic: NIC{Name: name}, loopback: name == "lo"}
	n := &l.nic
	if v := number("ifindex"); v != nil {
		n.Index = *v
	}
	if v := number("type"); v != nil {
		n.Type = hardwareType(uint16(*v))
		l.loopback = *v == uapi.ARPHRD_LOOPBACK
	}
	if v := number("flags"); v != nil {
		flags := uint32(*v)
		n.Link.Admin = "down"
		if flags&uapi.IFF_UP != 0 {
			n.Link.Admin = "up"
		}
		n.Multicast.setFlags(flags)
		// Other than netlink, sysfs shows the flags in force.
		n.Multicast.AllMulti = new(flags&uapi.IFF_ALLMULTI != 0)
		n.Multicast.Promiscuous = new(flags&uapi.IFF_PROMISC != 0)
	}
	n.MAC, _ = text("address")
	n.Broadcast, _ = text("broadcast")
	// Whole or not at all: an excerpt of a host doesn't tell what is 0.
	hardware, flags, mode, group, lower := number("type"), number("flags"), number("link_mode"), number("netdev_group"), number("iflink")
	if hardware != nil && flags != nil && mode != nil && group != nil && lower != nil {
		n.NetClass = &NetClass{Hardware: *hardware, Flags: uint32(*flags), LinkMode: *mode, Group: *group, Link: *lower}
		if v := number("dormant"); v != nil {
			n.NetClass.Dormant = new(*v != 0)
		}
	}
	n.Alias, _ = text("ifalias")
	n.Link.Oper, _ = text("operstate")
	if v := number("carrier"); v != nil {
		n.Link.Carrier = new(*v != 0)
	}
	if v := number("proto_down"); v != nil {
		n.Link.ProtoDown = *v != 0
	}
	n.Link.MTU = number("mtu")
	n.Link.TxQueueLen = number("tx_queue_len")
	if v := number("speed"); v != nil && *v > 0 { // -1 and 0: unknown
		n.Link.SpeedMbps = v
	}
	if v, _ := text("duplex"); v != "unknown" {
		n.Link.Duplex = v
	}
	if v := number("carrier_up_count"); v != nil && *v >= 0 {
		n.Link.CarrierUp = new(uint64(*v))
	}
	if v := number("carrier_down_count"); v != nil && *v >= 0 {
		n.Link.CarrierDown = new(uint64(*v))
	}
	for _, entry := range entries {
		if lower, ok := strings.CutPrefix(entry, "lower_"); ok {
			n.Stack.Lower = append(n.Stack.Lower, lower)
		}
		if upper, ok := strings.CutPrefix(entry, "upper_"); ok {
			n.Stack.Upper = append(n.Stack.Upper, upper)
		}
	}
	if master, err := s.ReadLink(ctx, path.Join(dir, "master")); err == nil {
		n.Stack.Master = path.Base(master)
	}
	n.Port.Name, _ = text("phys_port_name")
	n.Port.ID, _ = text("phys_port_id")
	n.Port.SwitchID, _ = text("phys_switch_id")
	return l, true
}

// completeFromSysfs reads what netlink does not tell: the parent on kernels
// before 5.14, the port number, which only hardware has, and how name and address
// came about.
func (s *survey) completeFromSysfs(ctx context.Context, l *link) {
	n := &l.nic
	dir := path.Join(sysClassNet, n.Name)
	if n.Parent == nil && l.kind == "" {
		n.Parent = s.sysfsParent(ctx, dir)
	}
	if n.Parent != nil || s.sysfs {
		s.readNetClass(ctx, n)
	}
	if n.Parent == nil {
		return
	}
	b, err := s.ReadFile(ctx, path.Join(dir, "dev_port"))
	if err != nil {
		if r := kernel.ReasonOf(err); r != kernel.Unsupported && r != kernel.Gone && !errors.Is(err, kernel.ErrNotRecorded) {
			n.missed("port.number", err)
		}
		return
	}
	if v, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		n.Port.Number = &v
	}
}

// sysfsParent follows a device's links to its parent. In a tree that lost the
// "device" link, the link in /sys/class/net still tells:
// "../../devices/pci0000:00/0000:00:03.0/virtio2/net/eth0".
func (s *survey) sysfsParent(ctx context.Context, dir string) *Parent {
	device, err := s.ReadLink(ctx, path.Join(dir, "device"))
	if err != nil {
		target, err := s.ReadLink(ctx, dir)
		if err != nil {
			return nil
		}
		above, below, ok := strings.Cut(target, "/net/")
		if !ok || strings.Contains(below, "/") || strings.HasSuffix(above, "/devices/virtual") {
			return nil
		}
		return &Parent{Bus: busOf(path.Base(above)), Address: path.Base(above)}
	}
	p := &Parent{Address: path.Base(device)}
	if subsystem, err := s.ReadLink(ctx, path.Join(dir, "device", "subsystem")); err == nil {
		p.Bus = path.Base(subsystem)
	} else {
		p.Bus = busOf(p.Address)
	}
	return p
}

// busOf tells a bus from the form of an address on it, for the two forms that
// can't be mistaken. Empty means unknown.
func busOf(address string) string {
	if isPCIAddress(address) {
		return "pci"
	}
	if number, ok := strings.CutPrefix(address, "virtio"); ok {
		if _, err := strconv.ParseUint(number, 10, 32); err == nil {
			return "virtio"
		}
	}
	return ""
}

// isPCIAddress reports whether s has the form domain:bus:device.function.
func isPCIAddress(s string) bool {
	domain, rest, ok := strings.Cut(s, ":")
	if !ok || len(domain) < 4 || !isHex(domain) {
		return false
	}
	return len(rest) == len("00:03.0") && rest[2] == ':' && rest[5] == '.' &&
		isHex(rest[:2]) && isHex(rest[3:5]) && rest[6] >= '0' && rest[6] <= '7'
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return s != ""
}
