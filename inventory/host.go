package inventory

// Host is what of a machine matters to its NICs.
type Host struct {
	Hostname string `json:"hostname,omitempty"`
	Kernel   string `json:"kernel,omitempty"`
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
	// "systemd-networkd", "irqbalance", "tuned".
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
	// Groups is how many groups there are.
	Groups *int `json:"groups,omitempty"`
}

// Softnet is what one CPU's receive path counted since boot.
type Softnet struct {
	CPU       int    `json:"cpu"`
	Processed uint64 `json:"processed"`
	// Dropped are packets lost because the backlog was full, TimeSqueeze how
	// often the budget ended before the work, FlowLimit packets dropped by flow
	// limits.
	Dropped     uint64 `json:"dropped"`
	TimeSqueeze uint64 `json:"timeSqueeze"`
	ReceivedRPS uint64 `json:"receivedRps"`
	FlowLimit   uint64 `json:"flowLimit"`
}

// Manager is a running program that sets NICs up.
type Manager struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
}
