package inventory

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
)

// NUMA is where a NIC stands among memory nodes and CPUs.
type NUMA struct {
	// Node is absent where the firmware names none.
	Node *int `json:"node,omitempty"`
	// LocalCPUs is a list as in "0-3,8-11".
	LocalCPUs string `json:"localCpus,omitempty"`
}

// readNUMA reads where a device stands among memory nodes and CPUs. A device
// without these files (USB, netdevsim) stands nowhere in particular.
func (p *places) readNUMA(ctx context.Context, d *device) *NUMA {
	var numa NUMA
	if d.has("numa_node") {
		text, err := p.text(ctx, d, "numa_node")
		if err == nil {
			numa.Node, err = parseNode(text)
		}
		if err != nil {
			d.missed("numa.node", err)
		}
	}
	if d.has("local_cpulist") {
		text, err := p.text(ctx, d, "local_cpulist")
		if err != nil {
			d.missed("numa.localCpus", err)
		}
		numa.LocalCPUs = text
	}
	if numa == (NUMA{}) {
		return nil
	}
	return &numa
}

// parseNode reads a node's number; -1 is the kernel's word for none.
func parseNode(text string) (*int, error) {
	node, err := strconv.Atoi(text)
	switch {
	case err != nil || node < -1:
		return nil, fmt.Errorf("%w: NUMA node %.40q", kernel.ErrMalformed, text)
	case node == -1:
		return nil, nil
	}
	return &node, nil
}
