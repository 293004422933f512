package settings

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/tuning"
)

// ChannelCounts are the numbers of queues by kind, as ethtool -l shows them.
type ChannelCounts struct {
	RX       *uint32 `json:"rx,omitempty" doc:"queues that only receive" words:"max"`
	TX       *uint32 `json:"tx,omitempty" doc:"queues that only transmit" words:"max"`
	Other    *uint32 `json:"other,omitempty" doc:"channels for other interrupts, such as those of the link" words:"max"`
	Combined *uint32 `json:"combined,omitempty" doc:"queues that receive and transmit" words:"max"`
}

// Channels is ethtool -L.
func Channels() tuning.Knob[ChannelCounts] {
	return tuning.Knob[ChannelCounts]{
		Name: "channels",
		Doc:  "How many queues the NIC has (ethtool -L). Changing it resets the NIC with most drivers.",
		Impact: func(_ inventory.NIC, _, _ ChannelCounts) tuning.Impact {
			return tuning.NICReset
		},
		After: []string{sriov.CountSetting, sriov.SwitchSetting},
		Keep: func(ask tuning.Ask, before ChannelCounts) (ChannelCounts, error) {
			if bound, _ := boundChannels(ask, before); differ(before.Combined, bound.Combined) && *bound.Combined < *before.Combined {
				before.Combined = bound.Combined
			}
			return before, nil
		},
		Read:  readChannels,
		Bound: boundChannels,
		Check: checkChannels,
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next ChannelCounts) error {
			b := about(nic)
			b = changed(b, uapi.ETHTOOL_A_CHANNELS_RX_COUNT, current.RX, next.RX)
			b = changed(b, uapi.ETHTOOL_A_CHANNELS_TX_COUNT, current.TX, next.TX)
			b = changed(b, uapi.ETHTOOL_A_CHANNELS_OTHER_COUNT, current.Other, next.Other)
			b = changed(b, uapi.ETHTOOL_A_CHANNELS_COMBINED_COUNT, current.Combined, next.Combined)
			return set(ctx, w, uapi.ETHTOOL_MSG_CHANNELS_SET, b)
		},
	}
}

func readChannels(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit ChannelCounts, err error) {
	c, err := inventory.ReadChannels(ctx, r, nic)
	if err != nil || c == nil {
		return current, limit, err
	}
	if driverOf(nic) == "vmxnet3" { // get_channels without set_channels
		return current, limit, unsupported("vmxnet3 shows its channels and can't change them; it has one for each CPU, up to what the hypervisor gives it")
	}
	for _, f := range []struct {
		count          *inventory.ChannelCount
		current, limit **uint32
	}{
		{c.RX, &current.RX, &limit.RX},
		{c.TX, &current.TX, &limit.TX},
		{c.Other, &current.Other, &limit.Other},
		{c.Combined, &current.Combined, &limit.Combined},
	} {
		if f.count != nil {
			*f.current, *f.limit = &f.count.Current, &f.count.Maximum
		}
	}
	return current, limit, nil
}

// boundChannels: igb shares its queues with the VFs, so that of the 8 channels of
// an 82576 are left 2, and of an I350 one, while there is a VF (its
// igb_get_max_rss_queues). The device says so itself for the VFs that it has; for
// those that a plan makes, or ends, it is said here, out of ask.Planned.
func boundChannels(ask tuning.Ask, limit ChannelCounts) (bound ChannelCounts, because string) {
	pci := ask.NIC.PCI
	if driverOf(ask.NIC) != "igb" || pci == nil || pci.SRIOV == nil {
		return limit, ""
	}
	vfs := pci.SRIOV.NumVFs
	if planned, changes := tuning.Get[sriov.Count](ask.Planned, sriov.CountSetting); changes && planned.VFs != nil && limit.Combined != nil {
		most := uint32(8)
		if vfs = int(*planned.VFs); vfs > 0 {
			most = 2
			if slices.Contains([]string{"1521", "1522", "1523", "1524", "1546"}, pci.DeviceID) { // the I350
				most = 1
			}
		}
		limit.Combined = &most
	}
	if vfs > 0 {
		because = fmt.Sprintf("igb has no more for itself while VFs exist, and sriov_numvfs is %d", vfs)
	}
	return limit, because
}

// checkChannels finds what the kernel refuses for every driver.
func checkChannels(_, next ChannelCounts) error {
	count := func(n *uint32) uint32 {
		if n == nil {
			return 0
		}
		return *n
	}
	switch combined := count(next.Combined); {
	case combined == 0 && count(next.RX) == 0:
		return errors.New("no queue would be left to receive: combined and rx are 0")
	case combined == 0 && count(next.TX) == 0:
		return errors.New("no queue would be left to transmit: combined and tx are 0")
	}
	return nil
}
