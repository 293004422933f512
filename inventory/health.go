package inventory

import (
	"context"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Health is what shows that a NIC's link works.
type Health struct {
	// Carrier is nil while the NIC is administratively down.
	Carrier *bool
	// SpeedMbps is nil where it is unknown, as it is for most drivers without a
	// carrier.
	SpeedMbps *int
	// MII is what the bond that the NIC is a member of thinks of its link: "up",
	// "going down", "down", "going back". It is empty where there is no bond.
	MII string
}

// ReadHealth reads the health of one NIC, by its index.
func ReadHealth(ctx context.Context, r kernel.Reader, nic NIC) (Health, error) {
	l, _, err := readLinkAgain(ctx, r, nic)
	if err != nil {
		return Health{}, err
	}
	h := Health{Carrier: l.nic.Link.Carrier}
	nic.Link = Link{}
	if err := readAgain(ctx, &survey{Reader: r}, &nic, uapi.ETHTOOL_MSG_LINKMODES_GET, &words{}); err == nil {
		h.SpeedMbps = nic.Link.SpeedMbps
	}
	if l.master != 0 {
		if b, err := r.ReadFile(ctx, sysClassNet+"/"+l.nic.Name+"/bonding_slave/mii_status"); err == nil {
			h.MII = strings.TrimSpace(string(b))
		}
	}
	return h, nil
}
