package tuning

import (
	"context"
	"fmt"
	"time"

	"github.com/nictune/nictune/inventory"
)

// refind looks a NIC up anew whose name or number a change may have given to it:
// by what it is known by, its address and permanent MAC.
func (t *transaction) refind(ctx context.Context, i int) error {
	target, was := t.plan.Changes[i].NIC, t.nics[i]
	deadline := time.Now().Add(t.settleTime())
	for {
		inv, err := inventory.Read(ctx, t.Writer)
		if err != nil {
			return fmt.Errorf("find %s again: %w", target, err)
		}
		now := again(inv.NICs, was)
		if now == nil {
			if sleep(ctx, longestPause, deadline) {
				continue
			}
			return fmt.Errorf("%s did not come back", target)
		}
		if now.Index != was.Index {
			if health, known := t.before[was.Index]; known {
				t.before[now.Index] = health
			}
			t.touched = append(t.touched, now.Index)
		}
		for j := range t.nics {
			if t.plan.Changes[j].NIC == target {
				t.nics[j] = now
			}
		}
		return nil
	}
}

// again is the NIC that another one is now, nil if it is gone.
func again(nics []inventory.NIC, was *inventory.NIC) *inventory.NIC {
	var alike *inventory.NIC
	for i := range nics {
		n := &nics[i]
		switch {
		case n.ID() != was.ID():
		case n.Index == was.Index:
			return n
		case n.PermanentMAC != "" && n.Function != inventory.Representor:
			alike = n
		}
	}
	return alike
}
