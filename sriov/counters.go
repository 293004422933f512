package sriov

import (
	"context"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// Counters reads the counters of a PF's VFs, for [inventory.MeterOptions]. It is one
// request, for which the kernel holds its RTNL lock while the driver asks its
// firmware about each VF.
func Counters(ctx context.Context, r kernel.Reader, pf *inventory.NIC) ([]inventory.VFCounters, error) {
	infos, statisticsErr, err := askVFs(ctx, r, pf.Index)
	if err == nil {
		err = statisticsErr
	}
	vfs := make([]inventory.VFCounters, 0, len(infos))
	for _, vf := range infos {
		if c := vf.statistics; c != nil {
			vfs = append(vfs, inventory.VFCounters{
				VF: vf.index, RxPackets: c.RxPackets, TxPackets: c.TxPackets, RxBytes: c.RxBytes, TxBytes: c.TxBytes,
				Broadcast: c.Broadcast, Multicast: c.Multicast, RxDropped: c.RxDropped, TxDropped: c.TxDropped,
			})
		}
	}
	return vfs, err
}
