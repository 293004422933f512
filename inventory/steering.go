package inventory

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// Steering is what the kernel does in software about who handles which queue: RPS,
// RFS and XPS (/sys/class/net/*/queues).
type Steering struct {
	Receive  []ReceiveSteering  `json:"receive,omitempty"`
	Transmit []TransmitSteering `json:"transmit,omitempty"`
}

// ReceiveSteering is that of one receive queue.
type ReceiveSteering struct {
	Queue int `json:"queue"`
	// CPUs is the list of those that its packets are handed to (rps_cpus), empty
	// where RPS is off; Flows is how many flows it remembers for RFS (rps_flow_cnt).
	CPUs  string `json:"cpus,omitempty"`
	Flows uint64 `json:"flows,omitempty"`
}

// TransmitSteering is that of one transmit queue.
type TransmitSteering struct {
	Queue int `json:"queue"`
	// CPUs is the list of those that send through it (xps_cpus), empty where a hash
	// chooses.
	CPUs string `json:"cpus,omitempty"`
}

// readSteering reads it of one NIC. A kernel without RPS or XPS has no such files.
func readSteering(ctx context.Context, r kernel.Reader, nic NIC) (Steering, error) {
	var s Steering
	dir := sysClassNet + "/" + nic.Name + "/queues"
	names, err := r.ReadDir(ctx, dir)
	if err != nil {
		return s, err
	}
	for _, name := range names {
		way, number, _ := strings.Cut(name, "-")
		queue, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			continue
		}
		switch path := dir + "/" + name; way {
		case "rx":
			one := ReceiveSteering{Queue: int(queue)}
			if one.CPUs, err = readMask(ctx, r, path+"/rps_cpus"); err != nil {
				return s, err
			}
			flows, err := r.ReadFile(ctx, path+"/rps_flow_cnt")
			if err == nil {
				if one.Flows, err = strconv.ParseUint(trimmed(flows), 10, 64); err != nil {
					err = fmt.Errorf("%w: %s/rps_flow_cnt holds %.40q", kernel.ErrMalformed, path, flows)
				}
			}
			if err != nil {
				return s, err
			}
			s.Receive = append(s.Receive, one)
		case "tx":
			one := TransmitSteering{Queue: int(queue)}
			one.CPUs, err = readMask(ctx, r, path+"/xps_cpus")
			if kernel.ReasonOf(err) == kernel.Unsupported && err != nil {
				continue // a device with one queue has the file, and no answer
			}
			if err != nil {
				return s, err
			}
			s.Transmit = append(s.Transmit, one)
		}
	}
	slices.SortFunc(s.Receive, func(a, b ReceiveSteering) int { return a.Queue - b.Queue })
	slices.SortFunc(s.Transmit, func(a, b TransmitSteering) int { return a.Queue - b.Queue })
	return s, nil
}

// readMask reads a file that holds a CPU mask, as a list.
func readMask(ctx context.Context, r kernel.Reader, path string) (string, error) {
	b, err := r.ReadFile(ctx, path)
	if err != nil {
		return "", err
	}
	set, err := ParseCPUMask(string(b))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return set.String(), nil
}
