package tuning

import (
	"fmt"
	"slices"
	"strings"
)

// Impact is what a change does to traffic while it is made. The values are
// ordered: allowing one allows those before it.
type Impact string

const (
	// Seamless: no packet is lost.
	Seamless Impact = "seamless"
	// LinkFlap: the carrier drops and comes back, for some seconds.
	LinkFlap Impact = "link-flap"
	// NICReset: the driver tears its queues down and builds them anew. Packets in
	// them are lost, and with most drivers the carrier drops, too.
	NICReset Impact = "nic-reset"
	// Reboot: it takes effect when the host has been restarted.
	Reboot Impact = "reboot"
)

// Impacts returns all impacts, the mildest first.
func Impacts() []Impact { return []Impact{Seamless, LinkFlap, NICReset, Reboot} }

// ParseImpact reads an impact's name.
func ParseImpact(s string) (Impact, error) {
	if i := slices.Index(Impacts(), Impact(s)); i >= 0 {
		return Impacts()[i], nil
	}
	names := make([]string, 0, len(Impacts()))
	for _, i := range Impacts() {
		names = append(names, string(i))
	}
	return "", fmt.Errorf("unknown impact %q: one of %s", s, strings.Join(names, ", "))
}

// Within says whether an impact is no worse than what is allowed. Nothing
// allowed ("") is Seamless.
func (i Impact) Within(allowed Impact) bool {
	return slices.Index(Impacts(), i) <= max(0, slices.Index(Impacts(), allowed))
}
