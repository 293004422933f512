//go:build lab

package sriov

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/k8snetworkplumbingwg/sriovnet"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
)

func write(t testing.TB, path, value string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// enable enables VFs on a PF for the time of the test and waits until their
// drivers are bound.
func enable(t testing.TB, pf string, n int) {
	t.Helper()
	device := "/sys/class/net/" + pf + "/device"
	write(t, device+"/sriov_numvfs", strconv.Itoa(n))
	t.Cleanup(func() { write(t, device+"/sriov_numvfs", "0") })
	labtest.Eventually(t, fmt.Sprintf("%d VFs of %s", n, pf), func() bool {
		devices, _ := filepath.Glob(device + "/virtfn*/net/*")
		return len(devices) == n
	})
}

// linked waits until a device that is up has its link.
func linked(t testing.TB, name string) {
	t.Helper()
	labtest.Eventually(t, "the link of "+name, func() bool {
		b, _ := os.ReadFile("/sys/class/net/" + name + "/operstate")
		return strings.TrimSpace(string(b)) == "up"
	})
}

// vfOf is the PCI address and network device of a VF.
func vfOf(t testing.TB, pf string, n int) (address, netdev string) {
	t.Helper()
	link := fmt.Sprintf("/sys/class/net/%s/device/virtfn%d", pf, n)
	target, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	devices, _ := filepath.Glob(link + "/net/*")
	if len(devices) > 0 {
		netdev = filepath.Base(devices[0])
	}
	return filepath.Base(target), netdev
}

// ipVF is a VF as ip -s -d -j link has it.
type ipVF struct {
	VF      int    `json:"vf"`
	Address string `json:"address"`
	VLANs   []struct {
		ID       int    `json:"vlan"`
		QoS      int    `json:"qos"`
		Protocol string `json:"protocol"`
	} `json:"vlan_list"`
	Rate struct {
		Max uint32 `json:"max_tx"`
		Min uint32 `json:"min_tx"`
	} `json:"rate"`
	SpoofCheck *bool  `json:"spoofchk"`
	LinkState  string `json:"link_state"`
	Trust      *bool  `json:"trust"`
	QueryRSS   *bool  `json:"query_rss_en"`
	NodeGUID   string `json:"node_guid"`
	PortGUID   string `json:"port_guid"`
	Stats      struct {
		RX struct {
			Bytes, Packets, Multicast, Broadcast, Dropped uint64
		} `json:"rx"`
		TX struct {
			Bytes   uint64 `json:"tx_bytes"`
			Packets uint64 `json:"tx_packets"`
			Dropped uint64 `json:"dropped"`
		} `json:"tx"`
	} `json:"stats"`
}

// compareWithIP compares every field that ip shows of a PF's VFs.
func compareWithIP(t *testing.T, pf *PF) {
	t.Helper()
	var links []struct {
		VFs []ipVF `json:"vfinfo_list"`
	}
	if err := json.Unmarshal(labtest.Run(t, "ip", "-s", "-d", "-j", "link", "show", pf.Name), &links); err != nil {
		t.Fatal(err)
	}
	if len(links) != 1 || len(links[0].VFs) != len(pf.VFs) {
		t.Fatalf("%s: ip has %d VFs, we %d", pf.Name, len(links[0].VFs), len(pf.VFs))
	}
	for i, want := range links[0].VFs {
		vf := &pf.VFs[i]
		if vf.Settings == nil || vf.Statistics == nil {
			t.Fatalf("%s VF %d: no settings or statistics: %+v", pf.Name, i, vf.Unread)
		}
		s := vf.Settings
		var vlans []VLANTag
		for _, v := range want.VLANs {
			if v.ID != 0 || v.QoS != 0 {
				if v.Protocol == "" {
					v.Protocol = "802.1Q" // ip leaves it out
				}
				vlans = append(vlans, VLANTag{v.ID, v.QoS, v.Protocol})
			}
		}
		same := func(fact string, got, want any) {
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s VF %d: %s is %v, ip says %v", pf.Name, vf.Index, fact, got, want)
			}
		}
		same("index", vf.Index, want.VF)
		same("mac", s.MAC, want.Address)
		same("vlans", s.VLANs, vlans)
		same("minTxRateMbps", *s.MinTxRate, want.Rate.Min)
		same("maxTxRateMbps", *s.MaxTxRate, want.Rate.Max)
		same("spoofCheck", s.SpoofCheck, want.SpoofCheck)
		same("linkState", s.LinkState, want.LinkState)
		same("trust", s.Trust, want.Trust)
		same("queryRss", s.QueryRSS, want.QueryRSS)
		same("nodeGuid", s.NodeGUID, want.NodeGUID)
		same("portGuid", s.PortGUID, want.PortGUID)
		rx, tx := want.Stats.RX, want.Stats.TX
		same("statistics", *vf.Statistics, Statistics{
			RxPackets: rx.Packets, TxPackets: tx.Packets, RxBytes: rx.Bytes, TxBytes: tx.Bytes,
			Broadcast: rx.Broadcast, Multicast: rx.Multicast, RxDropped: rx.Dropped, TxDropped: tx.Dropped,
		})
	}
}

// compareNetdevs compares the network devices of a PF's VFs with what ip shows of
// them, in the namespaces where they are.
func compareNetdevs(t *testing.T, pf *PF) (compared int) {
	t.Helper()
	for _, vf := range pf.VFs {
		n := vf.Netdev
		if n == nil {
			continue
		}
		compared++
		var in []string
		if ns := n.Namespace; ns != nil {
			in = []string{"-n", ns.Name}
			var ids []struct {
				ID   *int   `json:"nsid"`
				Name string `json:"name"`
			}
			if err := json.Unmarshal(labtest.Run(t, "ip", "-j", "netns", "list-id"), &ids); err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(ids, func(i struct {
				ID   *int   `json:"nsid"`
				Name string `json:"name"`
			}) bool {
				return i.Name == ns.Name
			})
			if at < 0 || !reflect.DeepEqual(ids[at].ID, ns.ID) {
				t.Errorf("%s: namespace %+v, ip says %+v", vf.Address, ns, ids)
			}
			var stat syscall.Stat_t
			if err := syscall.Stat("/run/netns/"+ns.Name, &stat); err != nil || stat.Ino != ns.Inode {
				t.Errorf("%s: the namespace's inode is %d, of its file %d, %v", vf.Address, ns.Inode, stat.Ino, err)
			}
		}
		var links []struct {
			Index  int    `json:"ifindex"`
			Name   string `json:"ifname"`
			MAC    string `json:"address"`
			MTU    *int   `json:"mtu"`
			State  string `json:"operstate"`
			Parent string `json:"parentdev"`
		}
		if err := json.Unmarshal(labtest.Run(t, "ip", append(in, "-d", "-j", "link", "show", n.Name)...), &links); err != nil || len(links) != 1 {
			t.Fatalf("%v: %+v", err, links)
		}
		l := links[0]
		want := Netdev{Name: l.Name, Index: l.Index, MAC: l.MAC, MTU: l.MTU, State: strings.ToLower(l.State), Namespace: n.Namespace}
		if !reflect.DeepEqual(*n, want) || vf.Address != l.Parent {
			t.Errorf("%s: network device %+v, ip says %+v of %s", vf.Address, *n, want, l.Parent)
		}
	}
	return compared
}

// lspciFinds returns what a pattern's groups match in lspci -vvnn of a function.
func lspciFinds(t testing.TB, address, pattern string) []string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(string(labtest.Run(t, "lspci", "-D", "-vvnn", "-s", address)))
	if m == nil {
		return nil
	}
	return m[1:]
}

func compareWithLspci(t *testing.T, pf *PF) {
	t.Helper()
	same := func(address, fact string, got, want any) {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s is %v, lspci says %v", address, fact, got, want)
		}
	}
	numbers := lspciFinds(t, pf.Address, `Initial VFs: (\d+), Total VFs: (\d+), Number of VFs: (\d+)`)
	same(pf.Address, "capability", []string{
		strconv.Itoa(pf.Device.InitialVFs), strconv.Itoa(pf.Device.TotalVFs), strconv.Itoa(pf.Device.NumVFs),
	}, numbers)
	same(pf.Address, "place", []string{strconv.Itoa(*pf.FirstVFOffset), strconv.Itoa(*pf.VFStride), pf.VFDeviceID},
		lspciFinds(t, pf.Address, `VF offset: (\d+), stride: (\d+), Device ID: ([0-9a-f]{4})`))
	same(pf.Address, "payload", []string{strconv.Itoa(*pf.Budget.MaxPayload)}, lspciFinds(t, pf.Address, `(?s)DevCtl:.*?MaxPayload (\d+) bytes`))
	same(pf.Address, "driver", []string{pf.Driver}, lspciFinds(t, pf.Address, `Kernel driver in use: (\S+)`))
	same(pf.Address, "numVfs", *pf.NumVFs, pf.Device.NumVFs)
	rate := lspciFinds(t, pf.Budget.NarrowHop, `LnkSta:\s+Speed ([0-9.]+)GT/s.*?, Width x(\d+)`)
	if len(rate) == 2 {
		speed, _ := strconv.ParseFloat(rate[0], 64)
		width, _ := strconv.ParseFloat(rate[1], 64)
		coding := 8. / 10
		if speed > 5 {
			coding = 128. / 130
		}
		if want := speed * width * coding; math.Abs(pf.Budget.LinkGbps-want) > want/1000 {
			t.Errorf("%s: %v Gb/s at %s, lspci says %v", pf.Address, pf.Budget.LinkGbps, pf.Budget.NarrowHop, want)
		}
	} else {
		t.Errorf("%s: lspci has no link of %s", pf.Address, pf.Budget.NarrowHop)
	}
	acs := func(address string, a *ACS) {
		control := lspciFinds(t, address, `ACSCtl:\s+SrcValid([+-]) TransBlk([+-]) ReqRedir([+-]) CmpltRedir([+-]) UpstreamFwd([+-]) EgressCtrl([+-]) DirectTrans([+-])`)
		var got []string
		if a != nil {
			for _, on := range []bool{
				a.SourceValidation, a.TranslationBlock, a.RequestRedirect, a.CompletionRedirect, a.UpstreamForward, a.EgressControl, a.DirectTranslated,
			} {
				got = append(got, map[bool]string{true: "+", false: "-"}[on])
			}
		}
		same(address, "ACS", got, control)
	}
	acs(pf.Address, pf.PeerToPeer.Function)
	for _, port := range pf.PeerToPeer.Ports {
		acs(port.Address, port.ACS)
		kind := lspciFinds(t, port.Address, `Express \(v\d\) (Root Port|Upstream Port|Downstream Port)`)
		same(port.Address, "kind", []string{port.Kind}, []string{strings.ReplaceAll(strings.ToLower(strings.Join(kind, "")), " ", "-")})
	}
	for _, vf := range pf.VFs {
		same(vf.Address, "msix", []string{strconv.Itoa(*vf.MSIX)}, lspciFinds(t, vf.Address, `MSI-X: Enable[+-] Count=(\d+)`))
		driver := lspciFinds(t, vf.Address, `Kernel driver in use: (\S+)`)
		same(vf.Address, "driver", vf.Driver, strings.Join(driver, ""))
		var group []string
		if vf.IOMMU != nil {
			group = []string{strconv.Itoa(vf.IOMMU.Number)}
		}
		same(vf.Address, "group", group, lspciFinds(t, vf.Address, `IOMMU group: (\d+)`))
		same(vf.Address, "id", []string{pf.VFDeviceID}, lspciFinds(t, vf.Address, `\[[0-9a-f]{4}:([0-9a-f]{4})\]`))
	}
}

// compareWithSriovnet holds our answers against another library's.
func compareWithSriovnet(t *testing.T, pf *PF) {
	t.Helper()
	for _, vf := range pf.VFs {
		if index, err := sriovnet.GetVfIndexByPciAddress(vf.Address); err != nil || index != vf.Index {
			t.Errorf("%s is VF %d, sriovnet says %d, %v", vf.Address, vf.Index, index, err)
		}
		if address, err := sriovnet.GetPfPciFromVfPci(vf.Address); err != nil || address != pf.Address {
			t.Errorf("%s is of %s, sriovnet says %s, %v", vf.Address, pf.Address, address, err)
		}
		if bound := sriovnet.IsVfPciVfioBound(vf.Address); bound != (vf.DriverKind == DriverVFIO) {
			t.Errorf("%s has driver %q, sriovnet says VFIO %v", vf.Address, vf.Driver, bound)
		}
		names, err := sriovnet.GetNetDevicesFromPci(vf.Address)
		var want []string
		if vf.Netdev != nil && vf.Netdev.Namespace == nil {
			want = []string{vf.Netdev.Name}
		}
		if len(names) > 0 && err != nil || !slices.Equal(names, want) {
			t.Errorf("%s has network device %v, sriovnet says %v, %v", vf.Address, want, names, err)
		}
	}
}

// pfs reads the PFs of this VM through a reader.
func pfs(t testing.TB, r kernel.Reader) []PF {
	t.Helper()
	inv, err := inventory.Read(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return Read(t.Context(), r, inv).PFs
}

func pfNamed(t testing.TB, pfs []PF, name string) *PF {
	t.Helper()
	at := slices.IndexFunc(pfs, func(pf PF) bool { return pf.Name == name })
	if at < 0 {
		t.Fatalf("%s is not among the PFs", name)
	}
	return &pfs[at]
}

// bindVFIO hands a VF to vfio-pci for the time of the test.
func bindVFIO(t testing.TB, address string) {
	t.Helper()
	labtest.Run(t, "modprobe", "vfio-pci")
	device := "/sys/bus/pci/devices/" + address
	write(t, device+"/driver_override", "vfio-pci")
	write(t, device+"/driver/unbind", address)
	write(t, "/sys/bus/pci/drivers_probe", address)
}

// TestVFsInTheLab has VFs in every place that one can be: with a network device
// here, in another namespace, enslaved to a bond, given to a process through VFIO,
// and without a driver; and compares with the tools that SREs trust.
func TestVFsInTheLab(t *testing.T) {
	labtest.Require(t, "nics")
	names := labtest.NICs(t, "igb", 2)
	pf, other := names[0], names[1]
	for _, name := range names {
		labtest.Run(t, "ip", "link", "set", name, "up")
	}
	enable(t, pf, 7)
	enable(t, other, 1)
	for _, name := range names { // a rate is limited, and a budget known, with a link only
		linked(t, name)
	}
	set := func(vf int, settings ...string) {
		labtest.Run(t, "ip", append([]string{"link", "set", pf, "vf", strconv.Itoa(vf)}, settings...)...)
	}
	set(0, "mac", "52:54:00:aa:00:00", "vlan", "100", "qos", "3")
	set(1, "max_tx_rate", "500")
	set(2, "spoofchk", "off")
	set(3, "trust", "on")

	const namespace = "sriov-test"
	_, moved := vfOf(t, pf, 1)
	_, enslaved := vfOf(t, pf, 2)
	given, _ := vfOf(t, pf, 3)
	none, _ := vfOf(t, pf, 4)
	labtest.Run(t, "ip", "netns", "add", namespace)
	t.Cleanup(func() { labtest.Run(t, "ip", "netns", "del", namespace) })
	labtest.Run(t, "ip", "link", "set", moved, "netns", namespace)
	labtest.Run(t, "modprobe", "bonding", "max_bonds=0")
	labtest.Run(t, "ip", "link", "add", "bond7", "type", "bond")
	t.Cleanup(func() { labtest.Run(t, "ip", "link", "del", "bond7") })
	labtest.Run(t, "ip", "link", "set", enslaved, "master", "bond7")
	linked(t, enslaved) // which the bond has brought up
	bindVFIO(t, given)
	write(t, "/sys/bus/pci/devices/"+none+"/driver/unbind", none)

	live := open(t)
	group := pfNamed(t, pfs(t, live), pf).VFs[3].IOMMU.Number
	file := fmt.Sprintf("/dev/vfio/%d", group)
	held, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Close() })

	recorder := kernel.NewRecorder(live, kernel.RecordingHeader{})
	all := pfs(t, recorder)
	got := pfNamed(t, all, pf)
	if *got.TotalVFs != 7 || *got.NumVFs != 7 || got.Device.TotalVFs != 8 || !*got.Autoprobe || got.MSIXPool != nil || got.Driver != "igb" {
		t.Errorf("%+v", got)
	}
	for _, p := range all {
		if len(p.Unread) > 0 {
			t.Errorf("%s: not read: %+v", p.Name, p.Unread)
		}
		for _, vf := range p.VFs {
			if len(vf.Unread) > 0 {
				t.Errorf("%s: not read: %+v", vf.Address, vf.Unread)
			}
			if vf.IOMMU == nil || !vf.IOMMU.Own {
				t.Errorf("%s: group %+v, want one of its own", vf.Address, vf.IOMMU)
			}
		}
		compareWithIP(t, &p)
		compareWithLspci(t, &p)
		compareWithSriovnet(t, &p)
		if p.Budget == nil || p.Budget.NarrowHop != p.Address || p.Budget.LinkGbps != 2 || *p.Budget.LineRateGbps != 1 {
			t.Errorf("%s: budget %+v", p.Name, p.Budget)
		}
		if p.PeerToPeer == nil || !*p.PeerToPeer.UpToRoot {
			t.Errorf("%s: peer to peer %+v", p.Name, p.PeerToPeer)
		}
	}

	if n := compareNetdevs(t, got); n != 5 { // one is VFIO's, and one nobody's
		t.Errorf("%d network devices of VFs compared", n)
	}

	vf := got.VFs
	if n := vf[0].Netdev; n == nil || n.Namespace != nil || n.MAC != text(t, "/sys/class/net/"+n.Name+"/address") || len(vf[0].Users) > 0 {
		t.Errorf("an idle VF: %+v, users %+v", n, vf[0].Users)
	}
	mac := strings.TrimSpace(string(labtest.Run(t, "ip", "netns", "exec", namespace, "cat", "/sys/class/net/"+moved+"/address")))
	if n := vf[1].Netdev; n == nil || n.Name != moved || n.MAC != mac || n.Namespace == nil || n.Namespace.Name != namespace {
		t.Errorf("a VF in a namespace: %+v", n)
	}
	comm := text(t, "/proc/self/comm")
	for i, want := range map[int]User{
		1: {Kind: "namespace", Name: namespace},
		2: {Kind: "bond", Name: "bond7"},
		3: {Kind: "process", Name: comm, PID: new(os.Getpid()), Process: comm, Device: file},
	} {
		if !reflect.DeepEqual(vf[i].Users, []User{want}) {
			t.Errorf("VF %d: users %+v, want %+v", i, vf[i].Users, want)
		}
	}
	for i, want := range map[int]DriverKind{0: DriverKernel, 1: DriverKernel, 3: DriverVFIO, 4: DriverNone} {
		if vf[i].DriverKind != want {
			t.Errorf("VF %d: driver %q is %s, want %s", i, vf[i].Driver, vf[i].DriverKind, want)
		}
	}
	if vf[3].DriverOverride != "vfio-pci" || vf[3].Netdev != nil || vf[4].DriverOverride != "" {
		t.Errorf("overrides %q, %q", vf[3].DriverOverride, vf[4].DriverOverride)
	}

	t.Run("recorded", func(t *testing.T) {
		var archive bytes.Buffer
		if _, err := recorder.WriteTo(&archive); err != nil {
			t.Fatal(err)
		}
		replay, err := kernel.ParseRecording(archive.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if again := pfs(t, replay); !reflect.DeepEqual(again, all) {
			t.Errorf("replayed it is\n%+v\nwas\n%+v", again, all)
		}
	})
	t.Run("unprivileged", func(t *testing.T) { unprivileged(t, got) })
	t.Run("held by the group's file only", func(t *testing.T) {
		if err := held.Close(); err != nil {
			t.Fatal(err)
		}
		if users := pfNamed(t, pfs(t, live), pf).VFs[3].Users; len(users) > 0 {
			t.Errorf("closed, and yet used by %+v", users)
		}
	})
}

func text(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(b))
}

// asNobody is set for the process that reads without privileges.
const asNobody = "NICTUNE_SRIOV_AS_NOBODY"

// unprivileged reads the same PF as nobody: what nobody may know is the same, and
// the rest is denied, not guessed.
func unprivileged(t *testing.T, want *PF) {
	program := "/tmp/sriov-unprivileged.test" // where the user nobody can read it
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(program) })
	c := exec.Command(program, "-test.run", "^TestAsNobody$")
	c.Dir = "/tmp"
	c.Env = append(os.Environ(), asNobody+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got []PF
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pf := pfNamed(t, got, want.Name)
	if pf.Device != nil || pf.PeerToPeer != nil || *pf.NumVFs != *want.NumVFs || len(pf.VFs) != len(want.VFs) {
		t.Errorf("%+v", pf)
	}
	denied := func(unread []inventory.Unread, fact string) bool {
		return slices.ContainsFunc(unread, func(u inventory.Unread) bool { return u.Fact == fact && u.Reason == inventory.Denied })
	}
	if !denied(pf.Unread, "device") || !denied(pf.Unread, "peerToPeer") {
		t.Errorf("PF: %+v", pf.Unread)
	}
	if !reflect.DeepEqual(pf.VFs[0].Settings, want.VFs[0].Settings) || !denied(pf.VFs[0].Unread, "msix") {
		t.Errorf("VF 0: %+v", pf.VFs[0])
	}
	// It isn't here: that much is known.
	if n := pf.VFs[1].Netdev; n == nil || n.Namespace == nil || n.Name != "" || !denied(pf.VFs[1].Unread, "netdev.namespace") {
		t.Errorf("VF 1: %+v, %+v", n, pf.VFs[1].Unread)
	}
	if u := pf.VFs[1].Users; len(u) != 1 || u[0].Kind != "namespace" {
		t.Errorf("VF 1: users %+v", u)
	}
	if !reflect.DeepEqual(pf.VFs[2].Users, want.VFs[2].Users) {
		t.Errorf("VF 2: users %+v", pf.VFs[2].Users)
	}
	if len(pf.VFs[3].Users) > 0 || !denied(pf.VFs[3].Unread, "users") {
		t.Errorf("VF 3: users %+v, %+v", pf.VFs[3].Users, pf.VFs[3].Unread)
	}
}

func TestAsNobody(t *testing.T) {
	if os.Getenv(asNobody) == "" {
		labtest.Require(t, "nics")
		return // TestVFsInTheLab runs it
	}
	if err := json.NewEncoder(os.Stdout).Encode(pfs(t, open(t))); err != nil {
		t.Fatal(err)
	}
}

// TestVFsBehindASwitch has VFs that share their group with their PF, below a
// switch without ACS.
func TestVFsBehindASwitch(t *testing.T) {
	labtest.Require(t, "numa")
	var shared, own int
	for _, name := range labtest.NICs(t, "igb", 2) {
		enable(t, name, 2)
	}
	for _, pf := range pfs(t, open(t)) {
		compareWithIP(t, &pf)
		compareWithLspci(t, &pf)
		compareWithSriovnet(t, &pf)
		for _, vf := range pf.VFs {
			group, err := os.Readlink("/sys/bus/pci/devices/" + vf.Address + "/iommu_group")
			if err != nil {
				continue
			}
			devices, err := os.ReadDir("/sys/kernel/iommu_groups/" + filepath.Base(group) + "/devices")
			if err != nil {
				t.Fatal(err)
			}
			if vf.IOMMU == nil || vf.IOMMU.Own != (len(devices) == 1) || len(vf.IOMMU.Members) != len(devices)-1 {
				t.Errorf("%s: %+v, the group has %d devices", vf.Address, vf.IOMMU, len(devices))
			}
			// The kernel makes groups of what can reach each other: its verdict and ours agree.
			if *pf.PeerToPeer.UpToRoot != vf.IOMMU.Own {
				t.Errorf("%s: up to the root %v, shortcut %q, and the group is its own: %v", vf.Address, *pf.PeerToPeer.UpToRoot, pf.PeerToPeer.Shortcut, vf.IOMMU.Own)
			}
			if vf.IOMMU.Own {
				own++
			} else {
				shared++
			}
		}
	}
	if shared == 0 {
		t.Errorf("%d VFs with a group of their own, %d sharing one: this test shows nothing", own, shared)
	}
}

// TestSimulatedVFs has the settings that igb refuses, and more VFs than an
// attribute can hold.
func TestSimulatedVFs(t *testing.T) {
	labtest.Require(t, "nics")
	const id = 20
	name := labtest.Netdevsim(t, id, 1)[0]
	device := fmt.Sprintf("/sys/bus/netdevsim/devices/netdevsim%d", id)
	set := func(vf int, settings ...string) {
		labtest.Run(t, "ip", append([]string{"link", "set", name, "vf", strconv.Itoa(vf)}, settings...)...)
	}
	write(t, device+"/sriov_numvfs", "4")
	set(0, "mac", "52:54:00:bb:00:00", "vlan", "100", "qos", "3", "proto", "802.1ad")
	set(1, "min_tx_rate", "10", "max_tx_rate", "100")
	set(2, "state", "disable", "trust", "on")
	set(3, "query_rss", "on", "spoofchk", "on")
	labtest.CountVFs(t, name, [8]uint64{101, 102, 103, 104, 105, 106, 107, 108}, [8]uint64{}, [8]uint64{1 << 40, 2 << 40, 3 << 40, 4 << 40, 5 << 40, 6 << 40, 7 << 40, 8 << 40})
	live := open(t)
	pf := pfNamed(t, pfs(t, live), name)
	if pf.Bus != "netdevsim" || pf.TotalVFs != nil || *pf.NumVFs != 4 {
		t.Errorf("%+v", pf)
	}
	compareWithIP(t, pf)
	if got := *pf.VFs[0].Statistics; got.RxPackets != 101 || got.TxDropped != 108 || *pf.VFs[1].Statistics != (Statistics{}) {
		t.Errorf("counted %+v and %+v", got, *pf.VFs[1].Statistics)
	}
	write(t, device+"/sriov_numvfs", "0")

	write(t, fmt.Sprintf("/sys/kernel/debug/netdevsim/netdevsim%d/max_vfs", id), "256")
	write(t, device+"/sriov_numvfs", "256")
	macs := map[int]string{}
	for _, vf := range []int{0, 100, 221, 222, 223, 255} {
		macs[vf] = fmt.Sprintf("52:54:00:cc:00:%02x", vf)
		set(vf, "mac", macs[vf])
	}
	pf = pfNamed(t, pfs(t, live), name)
	if len(pf.VFs) != 256 || len(pf.Unread) > 0 {
		t.Fatalf("%d VFs of 256, %+v", len(pf.VFs), pf.Unread)
	}
	for n, vf := range pf.VFs {
		want := macs[n]
		if want == "" {
			want = "00:00:00:00:00:00"
		}
		if vf.Index != n || vf.Settings.MAC != want || vf.Statistics == nil {
			t.Errorf("VF %d is %+v %+v", n, vf, vf.Settings)
		}
	}
	t.Run("switchdev", func(t *testing.T) {
		write(t, device+"/sriov_numvfs", "0")
		write(t, device+"/sriov_numvfs", "3")
		compareWithDevlink(t, id, name)
	})
}

// compareWithDevlink switches a simulated device to switchdev and compares its mode,
// its ports and the functions behind them with devlink -j and sriovnet.
func compareWithDevlink(t *testing.T, id int, name string) {
	handle := fmt.Sprintf("netdevsim/netdevsim%d", id)
	live := open(t)
	eswitch := func() ESwitch {
		var all struct {
			Dev map[string]struct {
				Mode       string
				InlineMode string `json:"inline-mode"`
				Encap      string `json:"encap-mode"`
			} `json:"dev"`
		}
		if err := json.Unmarshal(labtest.Run(t, "devlink", "-j", "dev", "eswitch", "show", handle), &all); err != nil {
			t.Fatal(err)
		}
		return ESwitch(all.Dev[handle])
	}
	for _, want := range []string{"legacy", "switchdev"} {
		labtest.Run(t, "devlink", "dev", "eswitch", "set", handle, "mode", want)
		pf := pfNamed(t, pfs(t, live), name)
		if says := eswitch(); pf.ESwitch == nil || *pf.ESwitch != says || says.Mode != want {
			t.Errorf("%+v, devlink says %+v, want %s", pf.ESwitch, says, want)
		}
	}
	t.Cleanup(func() { labtest.Run(t, "devlink", "dev", "eswitch", "set", handle, "mode", "legacy") })
	labtest.Eventually(t, "the representors have their names", func() bool {
		time.Sleep(100 * time.Millisecond)
		all, _ := filepath.Glob("/sys/class/net/*/phys_switch_id")
		return len(all) > 3
	})
	type function struct {
		Address     string  `json:"hw_addr"`
		State       string  `json:"state"`
		OpState     string  `json:"opstate"`
		RoCE        string  `json:"roce"`
		Migratable  string  `json:"migratable"`
		IPsecCrypto string  `json:"ipsec_crypto"`
		IPsecPacket string  `json:"ipsec_packet"`
		MaxIOEQs    *uint32 `json:"max_io_eqs"`
	}
	type port struct {
		Netdev, Flavour string
		VF              int `json:"vfnum"`
		Function        function
	}
	ports := func() map[string]port {
		var all struct {
			Port map[string]port `json:"port"`
		}
		if err := json.Unmarshal(labtest.Run(t, "devlink", "-j", "port", "show"), &all); err != nil {
			t.Fatal(err)
		}
		for handleOfPort, p := range all.Port {
			if p.Flavour != "pcivf" || !strings.HasPrefix(handleOfPort, handle+"/") {
				delete(all.Port, handleOfPort)
			}
		}
		return all.Port
	}
	for handleOfPort, p := range ports() {
		set := [][]string{
			{"hw_addr", "02:00:5e:00:53:07", "migratable", "enable", "max_io_eqs", "8"},
			{"roce", "enable", "ipsec_crypto", "enable"},
			{"ipsec_crypto", "enable", "ipsec_packet", "enable"},
		}[p.VF]
		for i := 0; i < len(set); i += 2 { // packet offload needs the other first
			labtest.Run(t, "devlink", "port", "function", "set", handleOfPort, set[i], set[i+1])
		}
	}
	pf := pfNamed(t, pfs(t, live), name)
	if len(pf.VFs) != 3 {
		t.Fatalf("%d VFs of 3", len(pf.VFs))
	}
	word := func(on *bool) string {
		switch {
		case on == nil:
			return ""
		case *on:
			return "enable"
		}
		return "disable"
	}
	found := 0
	for handleOfPort, p := range ports() {
		found++
		vf := pf.VFs[p.VF]
		if vf.Representor != p.Netdev || vf.Representor == "" {
			t.Errorf("VF %d: representor %q, devlink says %q", p.VF, vf.Representor, p.Netdev)
		}
		f := vf.PortFunction
		if f == nil || f.Port != handleOfPort {
			t.Errorf("VF %d: function %+v, devlink has %s", p.VF, f, handleOfPort)
			continue
		}
		got := function{f.MAC, f.State, f.OpState, word(f.RoCE), word(f.Migratable), word(f.IPsecCrypto), word(f.IPsecPacket), f.MaxIOEQs}
		if !reflect.DeepEqual(got, p.Function) {
			t.Errorf("VF %d: function %+v, devlink says %+v", p.VF, got, p.Function)
		}
		if on := []string{got.Migratable, got.RoCE, got.IPsecPacket}[p.VF]; on != "enable" {
			t.Errorf("VF %d: %+v", p.VF, got)
		}
		// sriovnet takes the last character of the device's name for the number of the
		// PF: right for netdevsim20.
		if rep, err := sriovnet.GetVfRepresentor(name, p.VF); err != nil || rep != p.Netdev {
			t.Errorf("VF %d: sriovnet says %q, %v", p.VF, rep, err)
		}
	}
	if found != 3 {
		t.Errorf("devlink has %d ports of 3 VFs", found)
	}
}

// TestRemovalWhileReading takes a PF with VFs away, as the slot's driver does when a
// card is pulled, while VFs are read all the time: the other PF is read whole each
// time, and in the end the one is gone.
func TestRemovalWhileReading(t *testing.T) {
	labtest.Require(t, "nics")
	names := labtest.NICs(t, "igb", 2)
	enable(t, names[0], 7)
	write(t, "/sys/class/net/"+names[1]+"/device/sriov_numvfs", "3")
	live := open(t)
	stays, goes := pfNamed(t, pfs(t, live), names[0]).Address, pfNamed(t, pfs(t, live), names[1]).Address
	t.Cleanup(func() {
		write(t, "/sys/bus/pci/rescan", "1")
		labtest.NICs(t, "igb", 2)
	})

	out := make(chan error)
	go func() { out <- os.WriteFile("/sys/bus/pci/devices/"+goes+"/remove", []byte("1"), 0) }()
	reads, partly := 0, 0
	for done := false; !done; reads++ {
		select {
		case err := <-out:
			if err != nil {
				t.Fatal(err)
			}
			done = true // and one more
		default:
		}
		all := pfs(t, live)
		at := slices.IndexFunc(all, func(pf PF) bool { return pf.Address == stays })
		if at < 0 || len(all[at].VFs) != 7 || len(all[at].Unread) > 0 {
			t.Fatalf("read %d: of the PF that stays: %+v", reads, all)
		}
		for _, vf := range all[at].VFs {
			if vf.Settings == nil || vf.Statistics == nil || len(vf.Unread) > 0 {
				t.Fatalf("read %d: VF %d of the PF that stays: %+v", reads, vf.Index, vf)
			}
		}
		other := slices.IndexFunc(all, func(pf PF) bool { return pf.Address == goes })
		if other >= 0 && (len(all[other].VFs) < 3 || len(all[other].Unread) > 0) {
			partly++
		}
		if done && other >= 0 {
			t.Errorf("%s was removed and is still listed", goes)
		}
	}
	t.Logf("%d reads, %d of them while the card was going", reads, partly)
}
