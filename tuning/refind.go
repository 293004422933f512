package tuning

import (
	"context"
	"fmt"
	"slices"
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
		t.moved(was, now)
		for j := range t.nics {
			if t.plan.Changes[j].NIC == target {
				t.nics[j] = now
			}
		}
		return nil
	}
}

// refindVFs looks the virtual functions of a NIC up anew that are targets of the plan,
// too. One without a network device now is left as it was: who wants something of it
// is told that it is gone.
func (t *transaction) refindVFs(ctx context.Context, i int) error {
	var theirs []int
	for j := range t.nics {
		if isVFOf(t.nics[j], t.nics[i]) {
			theirs = append(theirs, j)
		}
	}
	if len(theirs) == 0 {
		return nil
	}
	inv, err := inventory.Read(ctx, t.Writer)
	if err != nil {
		return fmt.Errorf("find the VFs of %s again: %w", t.plan.Changes[i].NIC, err)
	}
	for _, j := range theirs {
		was := t.nics[j]
		for k := range inv.NICs {
			if now := &inv.NICs[k]; isVFOf(now, t.nics[i]) && now.PCI.Address == was.PCI.Address {
				t.moved(was, now)
				t.nics[j] = now
			}
		}
	}
	return nil
}

// isVFOf says whether a NIC is a virtual function of another one.
func isVFOf(vf, pf *inventory.NIC) bool {
	return vf != nil && pf != nil && vf.Function == inventory.VF && vf.PCI != nil && pf.PCI != nil && vf.PCI.PhysicalFunction == pf.PCI.Address
}

// moved files what is known of a NIC under its present number.
func (t *transaction) moved(was, now *inventory.NIC) {
	if now.Index == was.Index {
		return
	}
	if health, known := t.before[was.Index]; known {
		t.before[now.Index] = health
	}
	if !slices.Contains(t.touched, now.Index) {
		t.touched = append(t.touched, now.Index)
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
