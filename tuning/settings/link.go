package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// LinkModes is what a port asks of its link, as ethtool -s sets it. With
// negotiation speed and duplex are results and not settings: "auto".
type LinkModes struct {
	Autoneg   *bool      `json:"autoneg,omitempty" doc:"agree with the peer on speed and duplex; off needs speed and duplex"`
	Speed     *LinkSpeed `json:"speed,omitempty" doc:"megabits a second without negotiation" words:"auto"`
	Duplex    *Duplex    `json:"duplex,omitempty" doc:"without negotiation" words:"half,full,auto"`
	Advertise *ModeList  `json:"advertise,omitempty" example:"[1000baseT/Full]" form:"modes" doc:"those to negotiate among, by ethtool's names: [100baseT/Full, 1000baseT/Full]"`
}

// LinkSpeed is a speed in megabits a second, or one of two words.
type LinkSpeed uint32

// The words of a LinkSpeed.
const (
	speedAuto    LinkSpeed = 0
	speedUnknown LinkSpeed = 1<<32 - 1 // SPEED_UNKNOWN
)

// The words of LinkSpeed, Duplex and ModeList.
const (
	wordAuto    = "auto"
	wordUnknown = "unknown"
	wordNone    = "none"
)

// MarshalJSON implements json.Marshaler.
func (s LinkSpeed) MarshalJSON() ([]byte, error) {
	switch s {
	case speedAuto:
		return json.Marshal(wordAuto)
	case speedUnknown:
		return json.Marshal(wordUnknown)
	}
	return strconv.AppendUint(nil, uint64(s), 10), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *LinkSpeed) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"` + wordAuto + `"`:
		*s = speedAuto
		return nil
	case `"` + wordUnknown + `"`:
		*s = speedUnknown
		return nil
	}
	n, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil || n == 0 || n > 1<<31-1 {
		return fmt.Errorf("a speed is a number of megabits a second, or auto, not %s", b)
	}
	*s = LinkSpeed(n)
	return nil
}

// Duplex is "half", "full", "auto" or "unknown".
type Duplex string

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duplex) UnmarshalText(b []byte) error {
	if !slices.Contains([]string{"half", "full", wordAuto, wordUnknown}, string(b)) {
		return fmt.Errorf("duplex is half, full or auto, not %s", b)
	}
	*d = Duplex(b)
	return nil
}

// ModeList are link modes by ethtool's names, sorted, with commas between them,
// or "none".
type ModeList string

// UnmarshalText implements encoding.TextUnmarshaler. It sorts.
func (l *ModeList) UnmarshalText(b []byte) error {
	modes := strings.FieldsFunc(string(b), func(r rune) bool { return r == ',' || r == ' ' })
	if len(modes) == 0 {
		return errors.New("name at least one mode")
	}
	*l = modeList(modes)
	return nil
}

func modeList(modes []string) ModeList {
	if len(modes) == 0 {
		return wordNone
	}
	return ModeList(strings.Join(slices.Compact(slices.Sorted(slices.Values(modes))), ","))
}

// modes are the names of the list, each with true.
func (l *ModeList) modes() map[string]bool {
	set := map[string]bool{}
	if l != nil && *l != wordNone {
		for mode := range strings.SplitSeq(string(*l), ",") {
			set[mode] = true
		}
	}
	return set
}

// Link is ethtool -s.
func Link() tuning.Knob[LinkModes] {
	return tuning.Knob[LinkModes]{
		Name: "link",
		Doc: "What a port asks of its link (ethtool -s). Changing it takes the link down, and with most drivers of " +
			"copper ports resets the NIC. If the link does not come up with a speed in time, the change is undone.",
		Impact: func(nic inventory.NIC, _, _ LinkModes) tuning.Impact {
			switch driverOf(nic) {
			case "virtio_net", "tun": // a number that nobody acts on
				return tuning.Seamless
			}
			return tuning.NICReset
		},
		ChoosesSpeed: true,
		Read:         readLink,
		Write:        writeLink,
	}
}

func readLink(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit LinkModes, err error) {
	l, err := inventory.ReadLinkModes(ctx, r, nic)
	if err != nil || l.Autoneg == nil {
		return current, limit, err
	}
	speed, duplex := speedAuto, Duplex(wordAuto)
	if !*l.Autoneg {
		speed, duplex = speedUnknown, Duplex(wordUnknown)
		if l.SpeedMbps != nil {
			speed = LinkSpeed(*l.SpeedMbps)
		}
		if l.Duplex != "" {
			duplex = Duplex(l.Duplex)
		}
	}
	current = LinkModes{Autoneg: l.Autoneg, Speed: &speed, Duplex: &duplex}
	if len(l.Supported) > 0 {
		current.Advertise = new(modeList(l.Advertised))
	}
	return current, limit, nil
}

func writeLink(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next LinkModes) error {
	b := about(nic)
	b = switched(b, uapi.ETHTOOL_A_LINKMODES_AUTONEG, current.Autoneg, next.Autoneg, uapi.AUTONEG_DISABLE, uapi.AUTONEG_ENABLE)
	if next.Autoneg != nil && *next.Autoneg {
		// A speed would be taken for a choice of modes.
		if next.Advertise != nil && *next.Advertise != wordNone && (differ(current.Advertise, next.Advertise) || differ(current.Autoneg, next.Autoneg)) {
			// Each mode of next and, to go off, each other of current.
			from, to := current.Advertise.modes(), next.Advertise.modes()
			for mode := range from {
				if !to[mode] {
					to[mode] = false
				}
			}
			for mode, on := range to {
				from[mode] = !on
			}
			b = b.Nested(uapi.ETHTOOL_A_LINKMODES_OURS, flips(from, to))
		}
	} else if differ(current.Speed, next.Speed) || differ(current.Duplex, next.Duplex) {
		// Drivers take the two as one value.
		if next.Speed != nil && *next.Speed != speedAuto {
			b = b.Uint32(uapi.ETHTOOL_A_LINKMODES_SPEED, uint32(*next.Speed))
		}
		if next.Duplex != nil && *next.Duplex != wordAuto {
			b = b.Uint8(uapi.ETHTOOL_A_LINKMODES_DUPLEX, duplexNumber(*next.Duplex))
		}
	}
	return set(ctx, w, uapi.ETHTOOL_MSG_LINKMODES_SET, b)
}

func duplexNumber(d Duplex) uint8 {
	switch d {
	case "half":
		return uapi.DUPLEX_HALF
	case "full":
		return uapi.DUPLEX_FULL
	}
	return uapi.DUPLEX_UNKNOWN
}
