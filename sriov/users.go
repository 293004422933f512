package sriov

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// readUsers finds who uses each VF: network devices built on its own, here and in
// other namespaces, processes that hold its device files, and the namespace that its
// network device was moved to.
func (s *survey) readUsers(ctx context.Context) {
	var outside, abroad, here []*virtual
	for _, pf := range s.pfs {
		for _, vf := range pf.vfs {
			if vf.nic != nil {
				vf.Users = append(vf.Users, stackedOn(&s.inv.Inventory, vf.nic)...)
				here = append(here, vf)
			}
			if len(vf.files) > 0 {
				outside = append(outside, vf)
			}
			if vf.elsewhere {
				abroad = append(abroad, vf)
			}
		}
	}
	if len(outside) == 0 && len(abroad) == 0 && len(here) == 0 {
		return
	}
	users, err := s.Users(ctx)
	if err != nil {
		for _, vf := range slices.Concat(outside, abroad, here) {
			vf.missed("users", err)
		}
	}
	processes := &processes{Reader: s.Reader, known: map[int]process{}}
	s.stackedAbroad(ctx, here, users, processes)
	for _, vf := range outside {
		held := false
		for _, f := range users.Files {
			if slices.Contains(vf.files, f.Path) {
				held = true
				u := processes.user(ctx, f.PID)
				u.Device = f.Path
				vf.Users = append(vf.Users, u)
			}
		}
		if !held && users.Hidden > 0 {
			vf.missed("users", fmt.Errorf("%d processes don't show us their open files: %w", users.Hidden, fs.ErrPermission))
		}
	}
	if len(abroad) > 0 {
		s.findAbroad(ctx, abroad, users, processes)
	}
}

// stackedOn are the network devices of an inventory that use another one.
func stackedOn(inv *inventory.Inventory, n *inventory.NIC) []User {
	names := slices.Clone(n.Stack.Upper)
	if m := n.Stack.Master; m != "" && !slices.Contains(names, m) {
		names = append([]string{m}, names...)
	}
	var users []User
	for _, name := range names {
		kind := "device"
		if at := slices.IndexFunc(inv.NICs, func(n inventory.NIC) bool { return n.Name == name }); at >= 0 {
			kind = cmp.Or(inv.NICs[at].Type, kind)
		}
		users = append(users, User{Kind: kind, Name: name})
	}
	return users
}

// stackedAbroad finds what in other namespaces is built on the VFs' network devices:
// a container's macvlan, ipvlan or VLAN.
func (s *survey) stackedAbroad(ctx context.Context, here []*virtual, users kernel.Users, processes *processes) {
	byIndex := map[int]*virtual{}
	for _, vf := range here {
		byIndex[vf.nic.Index] = vf
	}
	closed := 0
	for i := range users.Namespaces {
		ns := &users.Namespaces[i]
		if ns.Closed {
			closed++
		}
		for _, upper := range ns.Upper {
			if vf := byIndex[upper.Lower]; vf != nil {
				u := found{ns}.user(ctx, processes)
				u.Upper = cmp.Or(upper.Kind, "device") + " " + upper.Name
				vf.Users = append(vf.Users, u)
			}
		}
	}
	for _, vf := range here {
		if closed > 0 {
			vf.missed("users.namespaces", fmt.Errorf("%d network namespaces can't be looked into: %w", closed, fs.ErrPermission))
		}
	}
}

// findAbroad looks for network devices in the namespaces that ours has numbers
// for. The kernel numbers a namespace when a device is moved to it from here; the
// numbers need no privilege, a look inside takes CAP_NET_ADMIN over it.
func (s *survey) findAbroad(ctx context.Context, abroad []*virtual, users kernel.Users, processes *processes) {
	ids, err := kernel.NamespaceIDs(ctx, s)
	missing := map[string]*virtual{}
	for _, vf := range abroad {
		missing[vf.Address] = vf
	}
	for _, id := range ids {
		if len(missing) == 0 {
			return
		}
		links, linksErr := linksIn(ctx, s, id)
		if linksErr != nil && kernel.ReasonOf(linksErr) != kernel.Gone {
			err = errors.Join(err, fmt.Errorf("namespace %d: %w", id, linksErr))
		}
		for i := range links {
			l := &links[i]
			vf := missing[l.parent]
			if l.bus != "pci" || vf == nil {
				continue
			}
			delete(missing, l.parent)
			ns := namespaceOf(users, id)
			vf.Netdev = &Netdev{Name: l.name, Index: l.index, MAC: l.mac, MTU: l.mtu, State: l.state, Namespace: ns.facts()}
			vf.Users = append(vf.Users, ns.user(ctx, processes))
			if l.master != 0 {
				for _, m := range links {
					if m.index == l.master {
						vf.Users = append(vf.Users, User{Kind: cmp.Or(m.kind, "device"), Name: m.name})
					}
				}
			}
		}
	}
	for _, vf := range missing {
		if err == nil {
			err = fmt.Errorf("%w: none of the %d namespaces with a number here has it", errors.ErrUnsupported, len(ids))
		}
		vf.missed("netdev.namespace", err)
		vf.Users = append(vf.Users, User{Kind: "namespace"})
	}
}

// found is a namespace as the host's processes and mounts show it; of one that they
// don't, only the number is known.
type found struct{ *kernel.Namespace }

func namespaceOf(users kernel.Users, id int) found {
	for i := range users.Namespaces {
		if ns := &users.Namespaces[i]; ns.ID != nil && *ns.ID == id {
			return found{ns}
		}
	}
	return found{&kernel.Namespace{ID: &id}}
}

func (f found) facts() *Namespace {
	ns := &Namespace{ID: f.ID, Inode: f.Inode}
	if len(f.Paths) > 0 {
		ns.Name = path.Base(f.Paths[0])
	}
	return ns
}

// user is who a namespace belongs to: the container or VM of a process in it, or
// else the namespace itself.
func (f found) user(ctx context.Context, processes *processes) User {
	facts := f.facts()
	u := User{Kind: "namespace", Name: facts.Name}
	if u.Name == "" && f.ID != nil {
		u.Name = strconv.Itoa(*f.ID)
	}
	for _, pid := range f.PIDs {
		p := processes.user(ctx, pid)
		switch {
		case p.Container != "":
			return User{Kind: "container", Name: p.Container, PID: p.PID, Process: p.Process, Container: p.Container}
		case u.PID == nil:
			u.PID, u.Process = p.PID, p.Process
		}
	}
	return u
}

// link is a network device in another namespace.
type link struct {
	index, master          int
	name, kind, mac, state string
	mtu                    *int
	bus, parent            string
}

// linksIn lists the network devices of the namespace that has this number here.
func linksIn(ctx context.Context, r kernel.Reader, id int) ([]link, error) {
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETLINK, Dump: true,
		Body: kernel.Body(make([]byte, linkHeader)).
			Uint32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS).Uint32(uapi.IFLA_TARGET_NETNSID, uint32(id)),
	})
	if errors.Is(err, kernel.ErrInterrupted) {
		err = nil // every attempt's answers are there
	}
	var links []link
	for _, m := range messages {
		l, bad := decodeLink(m.Body)
		if bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		links = append(links, l)
	}
	return links, err
}

// decodeLink decodes of an RTM_NEWLINK message what tells whose device it is.
func decodeLink(body []byte) (link, error) {
	var l link
	a := kernel.AttributesAfter(body, linkHeader)
	if a.Err() != nil {
		return l, a.Err()
	}
	l.index = int(int32(binary.NativeEndian.Uint32(body[4:])))
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_IFNAME:
			l.name = a.String()
		case uapi.IFLA_ADDRESS:
			l.mac = colonHex(a.Data)
		case uapi.IFLA_MTU:
			l.mtu = new(int(a.Uint32()))
		case uapi.IFLA_OPERSTATE:
			l.state = word(a.Uint8(), "unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
		case uapi.IFLA_MASTER:
			l.master = int(a.Uint32())
		case uapi.IFLA_PARENT_DEV_NAME:
			l.parent = a.String()
		case uapi.IFLA_PARENT_DEV_BUS_NAME:
			l.bus = a.String()
		case uapi.IFLA_LINKINFO:
			info := a.Nested()
			for info.Next() {
				if info.Type == uapi.IFLA_INFO_KIND {
					l.kind = info.String()
				}
			}
			a.Join(info)
		}
	}
	return l, a.Err()
}

// processes looks up what programs are.
type processes struct {
	kernel.Reader
	known map[int]process
}

// process is a process as its command name and control group show it. Command
// lines are not read: they may hold secrets.
type process struct {
	command       string
	container, vm string
}

// user describes a process as the user of something.
func (p *processes) user(ctx context.Context, pid int) User {
	one, ok := p.known[pid]
	if !ok {
		dir := "/proc/" + strconv.Itoa(pid)
		if b, err := p.ReadFile(ctx, dir+"/comm"); err == nil {
			one.command = strings.ToValidUTF8(string(bytes.TrimSpace(b)), "\uFFFD")
		}
		if b, err := p.ReadFile(ctx, dir+"/cgroup"); err == nil {
			one.container, one.vm = parseCgroup(b)
		}
		p.known[pid] = one
	}
	u := User{Kind: "process", Name: one.command, PID: &pid, Process: one.command, Container: one.container}
	switch {
	case one.vm != "", isVMM(one.command):
		u.Kind, u.Name = "vm", one.vm
	case one.container != "":
		u.Kind, u.Name = "container", one.container
	}
	return u
}

// isVMM knows programs that run virtual machines by their command names, which
// the kernel cuts to 15 bytes.
func isVMM(command string) bool {
	for _, prefix := range []string{"qemu-system", "qemu-kvm", "cloud-hyperviso", "firecracker", "crosvm"} {
		if strings.HasPrefix(command, prefix) {
			return true
		}
	}
	return command == "kvm"
}

// parseCgroup finds the container or virtual machine in a process's cgroup file:
//
//	0::/kubepods.slice/kubepods-pod1a2b.slice/cri-containerd-3f4e...d1.scope
//	0::/machine.slice/machine-qemu\x2d1\x2dweb1.scope/libvirt/emulator
//	12:devices:/docker/3f4e...d1
//
// Names are those that runc, crun, CRI-O, Docker, Podman, LXC and libvirt give
// their scopes and groups; a container's id is 64 hex digits.
func parseCgroup(data []byte) (container, vm string) {
	for line := range bytes.Lines(data) {
		fields := strings.SplitN(strings.ToValidUTF8(string(bytes.TrimSpace(line)), "\uFFFD"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		for group := range strings.SplitSeq(fields[2], "/") {
			name := strings.TrimSuffix(group, ".scope")
			switch {
			case strings.HasPrefix(name, `machine-qemu\x2d`):
				// qemu-ID-NAME, with what isn't allowed in a unit's name escaped.
				if _, after, ok := strings.Cut(strings.TrimPrefix(unescapeUnit(name), "machine-qemu-"), "-"); ok {
					vm = after
				}
			case strings.HasPrefix(name, "lxc.payload."):
				container = strings.TrimPrefix(name, "lxc.payload.")
			default:
				if id := name[strings.LastIndexByte(name, '-')+1:]; isContainerID(id) {
					container = id
				}
			}
		}
	}
	return container, vm
}

func isContainerID(s string) bool {
	const digits = 64
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// unescapeUnit resolves systemd's escapes: "\x2d" for "-".
func unescapeUnit(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], `\x`) && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}
