package inventory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// Host is what of a machine matters to its NICs.
type Host struct {
	Hostname string `json:"hostname,omitempty"`
	// Machine is what the firmware says of the machine.
	Machine *Machine `json:"machine,omitempty"`
	// VirtualMachine is whether the host is one, by its CPU's flag or its device tree.
	// It is absent where neither tells. Xen's dom0 is none.
	VirtualMachine *bool  `json:"virtualMachine,omitempty"`
	Kernel         string `json:"kernel,omitempty"`
	// Distribution is PRETTY_NAME of os-release.
	Distribution string `json:"distribution,omitempty"`
	Architecture string `json:"architecture,omitempty"`

	CPUs  CPUs       `json:"cpus"`
	Nodes []NUMANode `json:"numaNodes,omitempty"`

	IOMMU HostIOMMU `json:"iommu"`
	// CommandLine are the kernel's parameters that concern NICs, CPUs and
	// interrupts ("isolcpus=2-7", "iommu=pt").
	CommandLine []string `json:"commandLine,omitempty"`
	// Softnet is one entry for each online CPU.
	Softnet []Softnet `json:"softnet,omitempty"`
	// Managers are the programs that also set NICs up here: "NetworkManager",
	// "systemd-networkd", "irqbalance", "tuned", and "nictune" where an agent puts
	// drift right.
	Managers []Manager `json:"managers,omitempty"`
}

// CPUs are CPU lists as in "0-3,8".
type CPUs struct {
	Model    string `json:"model,omitempty"`
	Online   string `json:"online,omitempty"`
	Isolated string `json:"isolated,omitempty"`
	NoHZFull string `json:"nohzFull,omitempty"`
}

// NUMANode is one memory node.
type NUMANode struct {
	ID   int    `json:"id"`
	CPUs string `json:"cpus,omitempty"`
	// MemoryBytes is the node's memory; Distances are to each node, in order.
	MemoryBytes *uint64 `json:"memoryBytes,omitempty"`
	Distances   []int   `json:"distances,omitempty"`
}

// HostIOMMU is how DMA of this host's devices is translated.
type HostIOMMU struct {
	// Units are the IOMMUs in use: "dmar0", "ivhd0". Empty means that none is.
	Units []string `json:"units,omitempty"`
	// Groups is how many groups there are; Types how many of them have each type
	// of default domain: "identity" (not translated, as with iommu=pt), "DMA"
	// (translated, strict), "DMA-FQ" (translated, unmapped lazily), "blocked". It
	// is absent where one could not be read.
	Groups *int           `json:"groups,omitempty"`
	Types  map[string]int `json:"types,omitempty"`
}

const (
	sysCPU  = "/sys/devices/system/cpu"
	sysNode = "/sys/devices/system/node"
)

// readHost reads what of the machine matters to its NICs.
func readHost(ctx context.Context, s *survey) {
	h := &s.host
	s.readHostText(ctx, "hostname", "/proc/sys/kernel/hostname", &h.Hostname)
	s.readHostText(ctx, "kernel", "/proc/sys/kernel/osrelease", &h.Kernel)
	s.readDistribution(ctx)
	s.readMachine(ctx)
	s.readCPUs(ctx)
	s.readNodes(ctx)
	s.readIOMMUs(ctx)
	if cmdline, err := s.ReadFile(ctx, "/proc/cmdline"); err != nil {
		s.missed("commandLine", err)
	} else {
		h.CommandLine = parseCommandLine(cmdline)
	}
	s.readSoftnet(ctx)
	s.readManagers(ctx)
}

func (s *survey) readHostText(ctx context.Context, fact, file string, field *string) {
	data, err := s.ReadFile(ctx, file)
	if err != nil {
		s.missed(fact, err)
		return
	}
	*field = trimmed(data)
}

// readDistribution reads os-release where os-release(5) says that it lies.
func (s *survey) readDistribution(ctx context.Context) {
	data, err := s.ReadFile(ctx, "/etc/os-release")
	if err != nil {
		data, err = s.ReadFile(ctx, "/usr/lib/os-release")
	}
	if err != nil {
		s.missed("distribution", err)
		return
	}
	s.host.Distribution = parsePrettyName(data)
}

// parsePrettyName takes PRETTY_NAME from an os-release file, whose values are
// quoted as a shell would have them.
func parsePrettyName(data []byte) string {
	for line := range bytes.Lines(data) {
		value, found := strings.CutPrefix(trimmed(line), "PRETTY_NAME=")
		if !found {
			continue
		}
		var name strings.Builder
		var quote rune
		escaped := false
		for _, c := range strings.ToValidUTF8(value, "\uFFFD") {
			switch {
			case escaped:
				name.WriteRune(c)
				escaped = false
			case c == '\\' && quote != '\'':
				escaped = true
			case c == quote:
				quote = 0
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			default:
				name.WriteRune(c)
			}
		}
		return name.String()
	}
	return ""
}

func (s *survey) readCPUs(ctx context.Context) {
	h := &s.host
	info, err := s.ReadFile(ctx, "/proc/cpuinfo")
	if err != nil {
		s.missed("cpus.model", err)
	}
	var machine string
	h.CPUs.Model, machine = parseCPUInfo(info)
	h.VirtualMachine = s.readVirtual(ctx, info)
	// The file is as old as Linux 6.1.
	if arch, err := s.ReadFile(ctx, "/proc/sys/kernel/arch"); err == nil {
		machine = trimmed(arch)
	} else if machine == "" {
		s.missed("architecture", err)
	}
	h.Architecture = machine
	s.readHostText(ctx, "cpus.online", sysCPU+"/online", &h.CPUs.Online)
	s.readHostText(ctx, "cpus.isolated", sysCPU+"/isolated", &h.CPUs.Isolated)
	nohz, err := s.ReadFile(ctx, sysCPU+"/nohz_full")
	switch {
	case err == nil:
		// Older kernels print an empty list as "(null)".
		if list := trimmed(nohz); list != "(null)" {
			h.CPUs.NoHZFull = list
		}
	case kernel.ReasonOf(err) != kernel.Unsupported:
		// A kernel built without it has no such CPUs; nothing is missing.
		s.missed("cpus.nohzFull", err)
	}
}

// parseCPUInfo takes the first CPU's model from /proc/cpuinfo, and what can be
// told there of the architecture. arm64 names no model.
func parseCPUInfo(data []byte) (model, machine string) {
	for line := range bytes.Lines(data) {
		key, value, found := strings.Cut(strings.ToValidUTF8(trimmed(line), "\uFFFD"), ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case key == "":
			return model, machine // The first CPU's lines end here.
		case !found:
		case key == "model name", key == "cpu" && model == "":
			model = value
		case key == "flags" && slices.Contains(strings.Fields(value), "lm"):
			machine = "x86_64"
		case key == "CPU architecture" && value == "8":
			machine = "aarch64"
		}
	}
	return model, machine
}

// readNodes reads the memory nodes. A kernel without NUMA has no such directory.
func (s *survey) readNodes(ctx context.Context) {
	entries, err := s.ReadDir(ctx, sysNode)
	if err != nil {
		s.missed("numaNodes", err)
		return
	}
	for _, entry := range entries {
		number, found := strings.CutPrefix(entry, "node")
		id, err := strconv.Atoi(number)
		if !found || err != nil || id < 0 {
			continue
		}
		dir := sysNode + "/" + entry
		node := NUMANode{ID: id}
		s.readHostText(ctx, "numaNodes.cpus", dir+"/cpulist", &node.CPUs)
		if data, err := s.ReadFile(ctx, dir+"/meminfo"); err != nil {
			s.missed("numaNodes.memoryBytes", err)
		} else if node.MemoryBytes, err = parseNodeMemory(data); err != nil {
			s.missed("numaNodes.memoryBytes", fmt.Errorf("%s/meminfo: %w", dir, err))
		}
		if data, err := s.ReadFile(ctx, dir+"/distance"); err != nil {
			s.missed("numaNodes.distances", err)
		} else if node.Distances, err = parseDistances(data); err != nil {
			s.missed("numaNodes.distances", fmt.Errorf("%s/distance: %w", dir, err))
		}
		s.host.Nodes = append(s.host.Nodes, node)
	}
	slices.SortFunc(s.host.Nodes, func(a, b NUMANode) int { return a.ID - b.ID })
}

// parseNodeMemory reads a node's "Node 0 MemTotal: 16265432 kB".
func parseNodeMemory(data []byte) (*uint64, error) {
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) < 4 || fields[2] != "MemTotal:" {
			continue
		}
		kib, err := strconv.ParseUint(fields[3], 10, 53)
		if err != nil {
			return nil, fmt.Errorf("%w: MemTotal %.40q", kernel.ErrMalformed, fields[3])
		}
		return new(kib * 1024), nil
	}
	return nil, fmt.Errorf("%w: no MemTotal", kernel.ErrMalformed)
}

// parseDistances reads "10 21": how far each node is, this one being 10.
func parseDistances(data []byte) ([]int, error) {
	var distances []int
	for _, field := range strings.Fields(string(data)) {
		d, err := strconv.ParseUint(field, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%w: distance %.40q", kernel.ErrMalformed, field)
		}
		distances = append(distances, int(d))
	}
	return distances, nil
}

// readIOMMUs lists the IOMMUs and counts their groups. A kernel without any lacks
// the directories.
func (s *survey) readIOMMUs(ctx context.Context) {
	units, err := s.ReadDir(ctx, "/sys/class/iommu")
	if err != nil && kernel.ReasonOf(err) != kernel.Unsupported {
		s.missed("iommu.units", err)
	}
	s.host.IOMMU.Units = units
	groups, err := s.ReadDir(ctx, iommuGroups)
	switch {
	case err == nil:
		s.host.IOMMU.Groups = new(len(groups))
		s.readIOMMUTypes(ctx, groups)
	case kernel.ReasonOf(err) != kernel.Unsupported:
		s.missed("iommu.groups", err)
	}
}

// readIOMMUTypes counts the types of the groups' default domains. Which one a
// new group gets is nowhere to be read, and firmware, drivers and administrators
// each change single groups.
func (s *survey) readIOMMUTypes(ctx context.Context, groups []string) {
	types := map[string]int{}
	for _, group := range groups {
		data, err := s.ReadFile(ctx, iommuGroups+"/"+group+"/type")
		switch {
		case err == nil:
			if domain := defaultDomain(data); domain != "" {
				types[domain]++
			}
		case errors.Is(err, kernel.ErrNotRecorded):
			return // by a nictune that asked for the NICs' groups only
		default:
			s.missed("iommu.types", err)
			return
		}
	}
	s.host.IOMMU.Types = types
}

// concerns reports whether a kernel parameter decides something about NICs,
// interrupts, DMA or the CPUs that serve them. Parameters of a module
// ("iommu.passthrough", "mlx5_core.debug_mask") are known by their module.
func concerns(parameter string) bool {
	// The kernel takes "-" and "_" in names as the same.
	name := strings.ReplaceAll(parameter, "-", "_")
	if module, _, dotted := strings.Cut(name, "."); dotted {
		switch module {
		case "iommu", "pcie_aspm", "pci", "net", "vfio", "vfio_pci", "vfio_iommu_type1", "igb", "igbvf", "ixgbe", "ixgbevf",
			"i40e", "iavf", "ice", "e1000e", "mlx4_core", "mlx4_en", "mlx5_core", "bnx2x", "bnxt_en", "cxgb4", "ena",
			"virtio_net", "processor", "intel_idle", "workqueue", "rcutree":
			return true
		}
		return false
	}
	switch name {
	case "isolcpus", "nohz", "nohz_full", "rcu_nocbs", "rcu_nocb_poll", "irqaffinity", "threadirqs", "skew_tick",
		"nosmt", "maxcpus", "nr_cpus", "possible_cpus", "numa", "numa_balancing", "mitigations", "idle", "preempt", "tsc",
		"intel_pstate", "amd_pstate", "nowatchdog", "nmi_watchdog", "nosoftlockup", "audit", "kthread_cpus",
		"iommu", "intel_iommu", "amd_iommu", "arm_smmu", "swiotlb", "nox2apic", "intremap", "noirqbalance", "noapic",
		"nolapic", "acpi_irq_nobalance",
		"pci", "pcie_aspm", "pcie_ports", "pcie_port_pm", "pci_hotplug", "hugepages", "hugepagesz", "default_hugepagesz",
		"transparent_hugepage", "hugetlb_free_vmemmap", "biosdevname", "ifname", "netdev", "ipv6", "thash_entries":
		return true
	}
	return false
}

// parseCommandLine picks the parameters that concern us from /proc/cmdline, in
// their order, which counts: "hugepagesz=1G hugepages=8". Double quotes keep
// blanks together; what follows "--" is for init.
func parseCommandLine(data []byte) []string {
	var found []string
	line := strings.ToValidUTF8(trimmed(data), "\uFFFD")
	for line != "" {
		quoted := false
		end := strings.IndexFunc(line, func(r rune) bool {
			if r == '"' {
				quoted = !quoted
			}
			return !quoted && (r == ' ' || r == '\t' || r == '\n')
		})
		if end < 0 {
			end = len(line)
		}
		parameter := line[:end]
		line = strings.TrimLeft(line[end:], " \t\n")
		if parameter == "--" {
			break
		}
		if name, _, _ := strings.Cut(strings.Trim(parameter, `"`), "="); concerns(name) {
			found = append(found, parameter)
		}
	}
	return found
}

// Local are the online CPUs on the memory node of a device.
func (c CPUs) Local(numa *NUMA) (CPUSet, error) {
	if numa == nil || numa.LocalCPUs == "" {
		return CPUSet{}, noLocalCPUs{}
	}
	online, err1 := ParseCPUSet(c.Online)
	local, err2 := ParseCPUSet(numa.LocalCPUs)
	return local.Intersect(online), errors.Join(err1, err2)
}

// noLocalCPUs is what a device lacks that is near no memory node: one on USB, or a
// simulated one.
type noLocalCPUs struct{}

func (noLocalCPUs) Error() string { return "the NIC names no local CPUs; write a list" }

// Is makes kernel.ReasonOf say unsupported.
func (noLocalCPUs) Is(target error) bool { return target == errors.ErrUnsupported }

// Housekeeping are the online CPUs that neither isolcpus nor nohz_full sets apart.
func (c CPUs) Housekeeping() (CPUSet, error) {
	online, err1 := ParseCPUSet(c.Online)
	isolated, err2 := ParseCPUSet(c.Isolated)
	nohz, err3 := ParseCPUSet(c.NoHZFull)
	return online.Minus(isolated).Minus(nohz), errors.Join(err1, err2, err3)
}
