package inventory

import (
	"errors"
	"slices"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

func TestParsePrettyName(t *testing.T) {
	for in, want := range map[string]string{
		"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\n":              "Debian GNU/Linux 12 (bookworm)",
		"NAME=\"Red Hat Enterprise Linux\"\nPRETTY_NAME=\"Red Hat Enterprise Linux 9.4 (Plow)\"\n": "Red Hat Enterprise Linux 9.4 (Plow)",
		"PRETTY_NAME='Void \\ Linux'":          `Void \ Linux`,
		"PRETTY_NAME=Alpine":                   "Alpine",
		`PRETTY_NAME="A \"quoted\" \$name"`:    `A "quoted" $name`,
		"#PRETTY_NAME=no\n XPRETTY_NAME=no\n":  "",
		"":                                     "",
		"PRETTY_NAME=\"open \xff\nNAME=none\n": "open \uFFFD",
	} {
		if got := parsePrettyName([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestParseCPUInfo(t *testing.T) {
	for _, c := range []struct{ what, in, model, machine string }{
		{
			"x86-64",
			"processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 106\nmodel name\t: Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz\n" +
				"flags\t\t: fpu vme de pse lm constant_tsc\n\nprocessor\t: 1\nmodel name\t: another\n",
			"Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", "x86_64",
		},
		{"arm64", "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\nCPU architecture: 8\n\n", "", "aarch64"},
		{"POWER", "processor\t: 0\ncpu\t\t: POWER9 (architected), altivec supported\nclock\t\t: 2900MHz\n", "POWER9 (architected), altivec supported", ""},
		{"nothing", "", "", ""},
	} {
		if model, machine := parseCPUInfo([]byte(c.in)); model != c.model || machine != c.machine {
			t.Errorf("%s: %q, %q, want %q, %q", c.what, model, machine, c.model, c.machine)
		}
	}
}

// A virtual machine is known by its CPU, or by its device tree, whatever its firmware
// calls it; dom0 is none.
func TestVirtualMachine(t *testing.T) {
	const xeon, flagged = "flags\t\t: fpu vme lm\n", "flags\t\t: fpu lm hypervisor lahf_lm\n"
	for _, c := range []struct {
		what  string
		files map[string]string
		want  *bool
	}{
		{"a server", map[string]string{"/proc/cpuinfo": xeon, "/proc/device-tree/hypervisor/compatible": "x"}, new(false)},
		{"a droplet", map[string]string{"/proc/cpuinfo": flagged}, new(true)},
		{"a guest of Xen", map[string]string{"/proc/cpuinfo": flagged, "/sys/hypervisor/properties/features": "000002205\n"}, new(true)},
		{"Xen's dom0", map[string]string{"/proc/cpuinfo": flagged, "/sys/hypervisor/properties/features": "00000ad05\n"}, new(false)},
		{"arm64 with KVM", map[string]string{"/proc/cpuinfo": "Features\t: fp\n", "/proc/device-tree/hypervisor/compatible": "linux,kvm\x00"}, new(true)},
		{"Xen's dom0 on arm64", map[string]string{"/proc/device-tree/hypervisor/compatible": "xen,xen-4.18\x00xen,xen\x00", "/sys/hypervisor/properties/features": "800\n"}, new(false)},
		{"QEMU's board", map[string]string{"/proc/device-tree/compatible": "linux,dummy-virt\x00"}, new(true)},
		{"another board", map[string]string{"/proc/device-tree/compatible": "raspberrypi,5-model-b\x00brcm,bcm2712\x00"}, nil},
		{"arm64 with ACPI", map[string]string{"/proc/cpuinfo": "Features\t: fp\n"}, nil},
	} {
		s := newMapHost(c.files).survey()
		s.readCPUs(t.Context())
		same(t, c.what, s.host.VirtualMachine, c.want)
	}
}

func TestParseNode(t *testing.T) {
	memory, err := parseNodeMemory([]byte("\nNode 1 MemTotal:       16265432 kB\nNode 1 MemFree:        1 kB\n"))
	if err != nil || *memory != 16265432*1024 {
		t.Error(memory, err)
	}
	for _, in := range []string{"", "Node 0 MemFree: 1 kB\n", "Node 0 MemTotal: much kB\n", "Node 0 MemTotal: 99999999999999999999 kB\n"} {
		if got, err := parseNodeMemory([]byte(in)); got != nil || !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	if got, err := parseDistances([]byte("10 21 32\n")); err != nil || !slices.Equal(got, []int{10, 21, 32}) {
		t.Error(got, err)
	}
	if got, err := parseDistances([]byte("10 far\n")); !errors.Is(err, kernel.ErrMalformed) {
		t.Error(got, err)
	}
}

func TestParseCommandLine(t *testing.T) {
	for in, want := range map[string][]string{
		"BOOT_IMAGE=/vmlinuz-6.12 root=UUID=1-2 ro quiet isolcpus=managed_irq,domain,2-7 nohz_full=2-7 rcu_nocbs=2-7 intel_iommu=on iommu=pt\n": {
			"isolcpus=managed_irq,domain,2-7", "nohz_full=2-7", "rcu_nocbs=2-7", "intel_iommu=on", "iommu=pt",
		},
		"default_hugepagesz=1G hugepagesz=1G hugepages=8 hugepagesz=2M hugepages=64": {
			"default_hugepagesz=1G", "hugepagesz=1G", "hugepages=8", "hugepagesz=2M", "hugepages=64",
		},
		"net.ifnames=0 biosdevname=0 pcie_aspm=off iommu.passthrough=1 iommu.strict=0 pci=realloc,nocrs threadirqs skew-tick=1 mlx5_core.x=1": {
			"net.ifnames=0", "biosdevname=0", "pcie_aspm=off", "iommu.passthrough=1", "iommu.strict=0", "pci=realloc,nocrs", "threadirqs",
			"skew-tick=1", "mlx5_core.x=1",
		},
		`dyndbg="file a.c +p; isolcpus=1" mitigations=off`: {"mitigations=off"},
		`irqaffinity="0-1" console=ttyS0`:                  {`irqaffinity="0-1"`},
		`"isolcpus=1 2" x`:                                 {`"isolcpus=1 2"`},
		"quiet -- isolcpus=1":                              nil,
		"":                                                 nil,
		"nohz_full_stop=1 xiommu=2 password=secret": nil,
	} {
		same(t, in, parseCommandLine([]byte(in)), want)
	}
}

func TestReadHost(t *testing.T) {
	h := newMapHost(map[string]string{
		"/proc/sys/kernel/hostname":                "edge-17\n",
		"/proc/sys/kernel/osrelease":               "6.12.48-amd64\n",
		"/usr/lib/os-release":                      "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n",
		"/proc/cpuinfo":                            "model name\t: A CPU\nflags\t: lm\n",
		"/sys/devices/system/cpu/online":           "0-3\n",
		"/sys/devices/system/cpu/isolated":         "2-3\n",
		"/sys/devices/system/cpu/nohz_full":        "  (null)\n",
		"/sys/devices/system/node/online":          "0,10\n",
		"/sys/devices/system/node/node10/cpulist":  "2-3\n",
		"/sys/devices/system/node/node10/meminfo":  "Node 10 MemTotal: 1024 kB\n",
		"/sys/devices/system/node/node10/distance": "21 10\n",
		"/sys/devices/system/node/node2/cpulist":   "0-1\n",
		"/sys/devices/system/node/node2/meminfo":   "Node 2 MemTotal: 2048 kB\n",
		"/sys/devices/system/node/node2/distance":  "10 21\n",
		"/sys/class/iommu/dmar0":                   "-> x",
		"/sys/class/iommu/dmar1":                   "-> x",
		"/sys/kernel/iommu_groups/0/type":          "DMA-FQ\n",
		"/sys/kernel/iommu_groups/1/type":          "identity\n",
		"/sys/kernel/iommu_groups/2/type":          "unknown\n",
		"/proc/cmdline":                            "quiet iommu=pt\n",
		"/proc/net/softnet_stat":                   "a 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
		"/proc/1/comm":                             "systemd\n",
		"/proc/900/comm":                           "NetworkManager\n",
		"/proc/77/comm":                            "systemd-network\n",
		"/proc/77/cmdline":                         "/usr/lib/systemd/systemd-networkd\x00",
		"/proc/78/comm":                            "systemd-network\n",
		"/proc/78/cmdline":                         "/usr/lib/systemd/systemd-networkd-wait-online\x00--any\x00",
		"/proc/1000/comm":                          "irqbalance\n",
		"/proc/1001/comm":                          "tuned\n",
		"/proc/1003/comm":                          "nictune\n",
		"/proc/1003/cmdline":                       "/usr/local/bin/nictune\x00agent\x00--reconcile\x00enforce\x00",
		"/proc/1004/comm":                          "nictune\n",
		"/proc/1004/cmdline":                       "nictune\x00agent\x00--reconcile=enforce\x00",
		"/proc/1005/comm":                          "nictune\n",
		"/proc/1005/cmdline":                       "nictune\x00agent\x00--reconcile=report\x00-f\x00enforce\x00",
		"/proc/1006/comm":                          "nictune\n",
		"/proc/1006/cmdline":                       "nictune\x00inventory\x00",
		"/proc/1002/comm":                          "python3\n",
		"/proc/1002/cmdline":                       "python3\x00--password=secret\x00",
		"/proc/uptime":                             "1 1\n",
		"/sys/class/dmi/id/sys_vendor":             "Dell Inc.",
	})
	s := h.survey()
	readHost(t.Context(), s)
	same(t, "host", s.host, Host{
		Hostname: "edge-17", Machine: &Machine{Vendor: "Dell Inc.", Product: "PowerEdge R640", BIOS: BIOS{Version: "2.21.2"}}, Kernel: "6.12.48-amd64", Distribution: "Debian GNU/Linux 13 (trixie)", Architecture: "x86_64",
		VirtualMachine: new(false),
		CPUs:           CPUs{Model: "A CPU", Online: "0-3", Isolated: "2-3"},
		Nodes: []NUMANode{
			{ID: 2, CPUs: "0-1", MemoryBytes: new(uint64(2 << 20)), Distances: []int{10, 21}},
			{ID: 10, CPUs: "2-3", MemoryBytes: new(uint64(1 << 20)), Distances: []int{21, 10}},
		},
		IOMMU:       HostIOMMU{Units: []string{"dmar0", "dmar1"}, Groups: new(3), Types: map[string]int{"DMA-FQ": 1, "identity": 1}},
		CommandLine: []string{"iommu=pt"},
		Softnet:     []Softnet{{CPU: 0, Processed: 10, Backlog: new(uint64(0))}},
		Managers:    []Manager{{"systemd-networkd", 77}, {"NetworkManager", 900}, {"irqbalance", 1000}, {"tuned", 1001}, {"nictune", 1003}, {"nictune", 1004}},
	})
	same(t, "unread", s.unread, []Unread(nil))
	if h.reads["read /proc/1002/cmdline"] != 0 {
		t.Error("a stranger's command line was read")
	}

	h.files["/proc/sys/kernel/arch"] = "riscv64\n"
	h.denied["/proc/cmdline"] = true
	h.denied["/sys/kernel/iommu_groups/1/type"] = true
	delete(h.files, "/proc/1/comm") // hidepid
	s = h.survey()
	readHost(t.Context(), s)
	if s.host.Architecture != "riscv64" {
		t.Error("architecture:", s.host.Architecture)
	}
	var denied []string
	for _, u := range s.unread {
		if u.Reason == kernel.Denied {
			denied = append(denied, u.Fact)
		}
	}
	same(t, "denied", denied, []string{"iommu.types", "commandLine", "managers"})
	same(t, "types of half the groups", s.host.IOMMU.Types, map[string]int(nil))
}

// An empty tree gives no facts, no panic, and a list of what is missing.
func TestReadHostOfNothing(t *testing.T) {
	s := newMapHost(nil).survey()
	readHost(t.Context(), s)
	same(t, "host", s.host, Host{})
	if len(s.unread) == 0 {
		t.Error("nothing is listed")
	}
	for _, u := range s.unread {
		if u.Reason != kernel.Unsupported {
			t.Errorf("%+v", u)
		}
	}
}

func FuzzParseHostFiles(f *testing.F) {
	f.Add([]byte("PRETTY_NAME=\"x\"\nmodel name : y\nflags: lm\nNode 0 MemTotal: 1 kB\n"))
	f.Add([]byte("isolcpus=\"1 2\" -- x"))
	f.Add([]byte("10 20\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		parsePrettyName(in)
		parseCPUInfo(in)
		parseHypervisorFlag(in)
		parseVirtualBoard(in)
		parseXenDom0(in)
		_, _ = parseNodeMemory(in)
		_, _ = parseDistances(in)
		for _, p := range parseCommandLine(in) {
			if p == "" || p == "--" {
				t.Fatalf("%q", p)
			}
		}
	})
}
