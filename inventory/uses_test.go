package inventory

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

func TestParseStat(t *testing.T) {
	for in, want := range map[string]process{
		"1234 (sshd-session) S 812 1234 1234 0 -1": {"sshd-session", 812},
		"7 (tmux: server) S 1 7":                   {"tmux: server", 1},
		"9 (a) b) (c) R 3":                         {"a) b) (c", 3},
		"12 (sshd) S -1":                           {"sshd", -1},
		"":                                         {},
		"12 sshd S 1":                              {},
		"12 (sshd) S":                              {},
		"12 (sshd) S x":                            {},
		"12 )sshd( S 1":                            {},
	} {
		got, err := parseStat(in)
		if got != want || (err == nil) != (want != process{}) {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for name, want := range map[string]bool{"sshd": true, "sshd-session": true, "sshd-auth": true, "dropbear": true, "sshdx": false, "ssh": false, "ssh-agent": false} {
		if (process{name: name}).isSSHServer() != want {
			t.Errorf("%s is an SSH server: %v", name, !want)
		}
	}
}

// A /proc/net/tcp of a host where sshd listens (0016 is 22), with one session,
// and one of somebody else's. The addresses are in the byte order of the host
// that it was taken from.
const procNetTCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20001 1 0000000000000000 100 0 0 10 0
   1: 0100000A:0016 0203010A:D431 01 00000000:00000000 02:000AF3B1 00000000     0        0 20002 4 0000000000000000 20 4 30 10 -1
   2: 0100000A:0016 0303010A:D432 01 00000000:00000000 02:000AF3B1 00000000     0        0 20003 4 0000000000000000 20 4 30 10 -1
`

const procNetTCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000100000A:0016 0000000000000000FFFF00000203010A:D431 01 00000000:00000000 00:00000000 00000000     0        0 20002 1
   1: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:D431 01 00000000:00000000 00:00000000 00000000     0        0 20002 1
`

func TestParseTCP(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the table was taken from a little-endian host")
	}
	v4 := connection{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.1.3.2")}
	v6 := connection{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")}
	inodes := map[string]bool{"20001": true, "20002": true}
	if got := parseTCP([]byte(procNetTCP), inodes); !reflect.DeepEqual(got, []connection{v4}) {
		t.Errorf("tcp: %v", got)
	}
	if got := parseTCP([]byte(procNetTCP6), inodes); !reflect.DeepEqual(got, []connection{v4, v6}) {
		t.Errorf("tcp6: %v", got)
	}
	if got := parseTCP([]byte(procNetTCP), nil); got != nil {
		t.Errorf("without an inode: %v", got)
	}
}

func TestCountsXDPSockets(t *testing.T) {
	const head = "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha uh gp em\n"
	for line, want := range map[string]bool{
		"XDP       1088      2      -1   NI       0   no   kernel      n": true,
		"XDP       1088      0      -1   NI       0   no   kernel      n": false,
		"PACKET    1600      3      -1   NI       0   no   kernel      n": false,
		"XDP": false, "": false,
	} {
		if countsXDPSockets([]byte(head+line)) != want {
			t.Errorf("%q counts sockets: %v", line, !want)
		}
	}
}

func TestDecodeRoute(t *testing.T) {
	header := []byte{uapi.AF_INET, 0, 0, 0, uapi.RT_TABLE_MAIN, 0, 0, uapi.RTN_UNICAST, 0, 0, 0, 0}
	gateway := netip.MustParseAddr("10.0.0.1")
	hop := func(device uint32, inner kernel.Body) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(8+len(inner)))
		b = append(b, 0, 0)
		return append(binary.NativeEndian.AppendUint32(b, device), inner...)
	}
	via := append([]byte{uapi.AF_INET6, 0}, netip.MustParseAddr("fe80::1").AsSlice()...)
	for name, test := range map[string]struct {
		body kernel.Body
		want []defaultRoute
	}{
		"a device":    {kernel.Body(header).Uint32(uapi.RTA_OIF, 3), []defaultRoute{{device: 3}}},
		"a gateway":   {kernel.Body(header).Uint32(uapi.RTA_OIF, 3).Bytes(uapi.RTA_GATEWAY, gateway.AsSlice()), []defaultRoute{{3, gateway}}},
		"by IPv6":     {kernel.Body(header).Uint32(uapi.RTA_OIF, 3).Bytes(uapi.RTA_VIA, via), []defaultRoute{{3, netip.MustParseAddr("fe80::1")}}},
		"blackhole":   {kernel.Body(header), nil},
		"two of them": {kernel.Body(header).Bytes(uapi.RTA_MULTIPATH, slices.Concat(hop(3, kernel.Body{}.Bytes(uapi.RTA_GATEWAY, gateway.AsSlice())), hop(4, nil))), []defaultRoute{{3, gateway}, {device: 4}}},
	} {
		got, err := decodeRoute(bytes.Clone(test.body))
		if err != nil || !reflect.DeepEqual(got.hops, test.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, body := range map[string][]byte{
		"too short":     header[:11],
		"a torn hop":    kernel.Body(header).Bytes(uapi.RTA_MULTIPATH, hop(3, nil)[:7]),
		"a wrong hop":   kernel.Body(header).Bytes(uapi.RTA_MULTIPATH, []byte{7, 0, 0, 0, 3, 0, 0, 0}),
		"an empty hop":  kernel.Body(header).Bytes(uapi.RTA_MULTIPATH, make([]byte, 8)),
		"a torn device": kernel.Body(header).Bytes(uapi.RTA_OIF, []byte{1}),
	} {
		if _, err := decodeRoute(body); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A use goes down every kind of device to the NICs that carry it, and XDP only
// through a bond.
func TestUsesGoDown(t *testing.T) {
	nic := func(index int, name, kind string, stack Stack) NIC {
		return NIC{Index: index, Name: name, Type: kind, Stack: stack}
	}
	nics := []NIC{
		nic(2, "eth0", "ether", Stack{Master: "bond0"}), nic(3, "eth1", "ether", Stack{Master: "bond0"}),
		nic(4, "bond0", "bond", Stack{Lower: []string{"eth0", "eth1"}, Bond: &Bond{}}),
		nic(5, "bond0.7", "vlan", Stack{Lower: []string{"bond0"}}),
		nic(6, "br0", "bridge", Stack{Lower: []string{"bond0.7", "tap0"}}), nic(7, "tap0", "tun", Stack{Master: "br0"}),
		nic(8, "ovs-system", "openvswitch", Stack{Lower: []string{"br-ex", "eth2"}}),
		nic(9, "br-ex", "openvswitch", Stack{Master: "ovs-system"}), nic(10, "eth2", "ether", Stack{Master: "ovs-system"}),
		nic(11, "vf0", "ether", Stack{}), nic(12, "pf", "ether", Stack{}),
		nic(13, "loop", "ether", Stack{Lower: []string{"loop"}}),
	}
	nics[9].PCI, nics[10].PCI = &PCI{Address: "0000:01:10.0", PhysicalFunction: "0000:01:00.0"}, &PCI{Address: "0000:01:00.0"}
	for _, test := range []struct {
		device int
		kind   UseKind
		want   []int
	}{
		{6, DefaultRoute, []int{2, 3, 4, 5, 6, 7}}, {2, DefaultRoute, []int{2}}, {9, DefaultRoute, []int{9, 10}},
		{11, DefaultRoute, []int{11, 12}}, {13, SSHSession, []int{13}}, {99, SSHSession, nil},
		{4, XDPAttached, []int{2, 3, 4}}, {5, XDPAttached, []int{5}}, {99, XDPSocket, nil},
		{11, XDPAttached, []int{11, 12}}, {11, XDPSocket, []int{11, 12}},
	} {
		b := &belows{uses: Uses{}, byIndex: map[int]*NIC{}, byName: map[string]*NIC{}}
		for i := range nics {
			b.byIndex[nics[i].Index], b.byName[nics[i].Name] = &nics[i], &nics[i]
		}
		use := Use{Kind: test.kind, Device: test.device}
		for range 2 { // the second time adds nothing
			if test.kind == XDPAttached || test.kind == XDPSocket {
				b.addXDP(use)
			} else {
				b.add(use)
			}
		}
		var got []int
		for index, uses := range b.uses {
			got = append(got, index)
			if vf := map[bool]string{true: "vf0"}[test.device == 11 && index == 12]; uses[0].VF != vf {
				t.Errorf("%s of %d: %d has it by the VF %q, want %q", test.kind, test.device, index, uses[0].VF, vf)
			}
			if len(uses) != 1 || (uses[0].Through == "") != (index == test.device) {
				t.Errorf("%s of %d: %d has %v", test.kind, test.device, index, uses)
			}
		}
		if slices.Sort(got); !slices.Equal(got, test.want) {
			t.Errorf("%s of %d: %v, want %v", test.kind, test.device, got, test.want)
		}
	}
}

// links is a sysfs that has only links.
type links struct {
	kernel.Reader
	targets map[string]string
}

func (l links) ReadLink(_ context.Context, path string) (string, error) {
	switch target := l.targets[path]; target {
	case "":
		return "", &kernel.Error{Op: "read link", Object: path, Err: syscall.ENOENT}
	case "denied":
		return "", &kernel.Error{Op: "read link", Object: path, Err: syscall.EACCES}
	default:
		return target, nil
	}
}

// A VF that is bound to vfio is used by whoever it is for; one that has another
// driver, none, or is gone again is not.
func TestVFsGivenAway(t *testing.T) {
	const devices = "/sys/bus/pci/devices/0000:01:"
	l := links{targets: map[string]string{
		devices + "00.0/virtfn0": "../0000:01:10.0", devices + "10.0/driver": "../../../../bus/pci/drivers/vfio-pci",
		devices + "00.0/virtfn1": "../0000:01:10.2", devices + "10.2/driver": "../../../../bus/pci/drivers/igbvf",
		devices + "00.0/virtfn2": "../0000:01:10.4",
		devices + "00.0/virtfn4": "../0000:01:11.0", devices + "11.0/driver": "../../../../bus/pci/drivers/mlx5_vfio_pci",
	}}
	pf := NIC{Name: "eth0", PCI: &PCI{Address: "0000:01:00.0", SRIOV: &SRIOV{TotalVFs: 7, NumVFs: 5}}}
	want := []string{"0000:01:10.0", "0000:01:11.0"}
	if got, err := vfsGivenAway(t.Context(), l, &pf); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	representor := pf
	representor.Function = Representor
	for _, n := range []NIC{representor, {Name: "eth1", PCI: &PCI{Address: "0000:01:00.0"}}, {Name: "veth0"}} {
		if got, err := vfsGivenAway(t.Context(), l, &n); err != nil || got != nil {
			t.Errorf("%s: %v, %v", n.Name, got, err)
		}
	}
	l.targets[devices+"10.2/driver"] = "denied"
	if got, err := vfsGivenAway(t.Context(), l, &pf); kernel.ReasonOf(err) != kernel.Denied || !slices.Equal(got, want[:1]) {
		t.Errorf("a link that can't be read: %v, %v", got, err)
	}
	const text = "the VF 0000:01:10.0, which is bound to vfio for a VM or DPDK"
	if got := (Use{Kind: VFGivenAway, VF: want[0]}).String(); got != text {
		t.Errorf("%q", got)
	}
}

func FuzzUses(f *testing.F) {
	f.Add([]byte(procNetTCP))
	f.Add([]byte("1234 (sshd) S 812"))
	f.Add([]byte("XDP 1 2"))
	f.Add([]byte{uapi.AF_INET, 0, 0, 0, uapi.RT_TABLE_MAIN, 0, 0, uapi.RTN_UNICAST, 0, 0, 0, 0, 8, 0, uapi.RTA_OIF, 0, 3, 0, 0, 0})
	f.Add(append(make([]byte, 16), 12, 0, uapi.XDP_DIAG_INFO, 0, 3, 0, 0, 0, 4, 0, 0, 0))
	f.Fuzz(func(t *testing.T, in []byte) {
		parseTCP(in, map[string]bool{"20002": true})
		_, _ = parseStat(string(in))
		countsXDPSockets(in)
		if r, err := decodeRoute(in); err == nil && len(in) < routeHeader {
			t.Fatalf("%+v of %d bytes", r, len(in))
		}
		_, _ = decodeNextHops(in)
		_, _, _ = decodeXDPSocket(in)
	})
}
