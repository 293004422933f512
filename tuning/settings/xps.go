package settings

import (
	"context"
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// XPSWish is what policies say of transmit packet steering.
type XPSWish struct {
	CPUs   *string `json:"cpus,omitempty" form:"CPUs" words:"all,local-cpus,housekeeping-cpus,none" doc:"the CPUs that may use a transmit queue (xps_cpus); none leaves the choice to a hash"`
	Spread *string `json:"spread,omitempty" words:"all,one-to-one" doc:"whether each queue gets all of the CPUs, as without this, or one each in turn; CPUs that get no queue choose by a hash"`
}

// XPS is xps_cpus of each transmit queue.
func XPS() tuning.Knob[QueueFiles] {
	return tuning.Knob[QueueFiles]{
		Name:   "xps",
		Doc:    "Which CPUs send through which transmit queue (/sys/class/net/*/queues/tx-*/xps_cpus).",
		Impact: func(inventory.NIC, QueueFiles, QueueFiles) tuning.Impact { return tuning.Seamless },
		Wish:   tuning.WishOf(resolveXPS),
		After:  rebuildQueues,
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit QueueFiles, err error) {
			current, err = readQueueFiles(ctx, r, nic, sending, xpsCPUs)
			if kernel.ReasonOf(err) == kernel.Unsupported {
				err = fmt.Errorf("%w: %w", errSingleQueue, err)
			}
			return current, QueueFiles{}, err
		},
		Write: writeQueueFiles,
	}
}

// errSingleQueue is about how many queues the device was made with, so that no
// change of its channels helps (netif_is_multiqueue).
const errSingleQueue = unsupported("a device with a single transmit queue has none to choose")

func resolveXPS(ctx context.Context, ask tuning.Ask, wish XPSWish, current QueueFiles) (QueueFiles, error) {
	if len(current) == 0 { // nor after other changes
		return nil, errSingleQueue
	}
	next, names, err := upcoming(ctx, ask, sending, current)
	if err != nil {
		return nil, err
	}
	return next, steer(ctx, ask, next, names, xpsCPUs, wish.CPUs, wish.Spread)
}
