// Package cabletest has a PHY measure the twisted pairs of its cable: whether each is
// whole, open or shorted, how far away the fault is, and what a pulse echoes (TDR).
//
// The PHY takes the link down for it, for seconds. Whoever calls has asked whether
// that is allowed: the room itself judges nothing, and changes nothing that stays.
package cabletest

import (
	"context"
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// Result is what a PHY found, as `ethtool --cable-test` or --cable-test-tdr reports it.
type Result struct {
	Pairs []Pair `json:"pairs,omitempty"`
	// Echoes are what came back of a pulse, where that was measured (TDR).
	Echoes []Echo `json:"echoes,omitempty"`
	// PulseMillivolts is the pulse that was sent.
	PulseMillivolts *int `json:"pulseMillivolts,omitempty"`
}

// Pair is one twisted pair.
type Pair struct {
	// Name is "A" to "D".
	Name string `json:"name"`
	// Status is "ok", "open", "short within the pair", "short to another pair",
	// "impedance mismatch", "noise", "resolution not possible" or "unknown".
	Status string `json:"status,omitempty"`
	// FaultMeters is how far away a fault is, or how long the cable; absent where the
	// PHY does not tell.
	FaultMeters *float64 `json:"faultMeters,omitempty"`
}

// Echo is what came back on a pair from a distance.
type Echo struct {
	Pair       string  `json:"pair"`
	Meters     float64 `json:"meters"`
	Millivolts int     `json:"millivolts"`
}

// Run tests the cable of a NIC and waits for what the PHY reports, for as long as ctx
// allows. A driver or PHY that can't is an error that counts as unsupported.
func Run(ctx context.Context, live *kernel.Live, nic inventory.NIC, echoes bool) (*Result, error) {
	command, answer := uint16(uapi.ETHTOOL_MSG_CABLE_TEST_ACT), uint8(uapi.ETHTOOL_MSG_CABLE_TEST_NTF)
	if echoes {
		command, answer = uapi.ETHTOOL_MSG_CABLE_TEST_TDR_ACT, uapi.ETHTOOL_MSG_CABLE_TEST_TDR_NTF
	}
	// What the PHY finds comes as a notification to all who listen.
	s, err := live.Subscribe(ctx, kernel.Group{Family: kernel.FamilyEthtool, Name: "monitor"})
	if err != nil {
		return nil, fmt.Errorf("%s: cable test: %w", nic.Name, err)
	}
	defer s.Close()
	header := kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, uint32(nic.Index))
	err = live.NetlinkSet(ctx, kernel.Request{
		Family: kernel.FamilyEthtool, Command: command,
		Body: kernel.Body{}.Nested(uapi.ETHTOOL_A_CABLE_TEST_HEADER, header),
	})
	if err != nil {
		return nil, fmt.Errorf("%s: cable test: %w", nic.Name, err)
	}
	for {
		n, err := s.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: the cable test was begun, what it found is not known: %w", nic.Name, err)
		}
		if n.Family != kernel.FamilyEthtool || uint8(n.Command) != answer {
			continue
		}
		index, result, err := decode(n.Body, echoes)
		switch {
		case err != nil:
			return nil, &kernel.Error{Op: "ethtool CABLE_TEST", Object: nic.Name, Err: err}
		case index == nic.Index && result != nil:
			return result, nil
		}
	}
}

// decode reads an ETHTOOL_MSG_CABLE_TEST_NTF, or a _TDR_NTF, whose outer attributes
// have the same numbers. The result is nil where the test has only begun.
func decode(body []byte, echoes bool) (index int, result *Result, err error) {
	r := &Result{}
	completed := false
	a := kernel.AttributesOf(body)
	for a.Next() {
		switch a.Type {
		case uapi.ETHTOOL_A_CABLE_TEST_NTF_HEADER:
			header := a.Nested()
			for header.Next() {
				if header.Type == uapi.ETHTOOL_A_HEADER_DEV_INDEX {
					index = int(header.Uint32())
				}
			}
			a.Join(header)
		case uapi.ETHTOOL_A_CABLE_TEST_NTF_STATUS:
			completed = a.Uint8() == statusCompleted
		case uapi.ETHTOOL_A_CABLE_TEST_NTF_NEST:
			nest := a.Nested()
			if echoes {
				r.decodeEchoes(nest)
			} else {
				r.decodePairs(nest)
			}
			a.Join(nest)
		}
	}
	if err := a.Err(); err != nil || !completed {
		return index, nil, err
	}
	return index, r, nil
}

// Of linux/ethtool_netlink.h: ETHTOOL_A_CABLE_TEST_NTF_STATUS_COMPLETED, and the
// numbers of what a TDR notification holds.
const (
	statusCompleted = 2

	tdrStep, tdrAmplitude, tdrPulse    = 1, 2, 3
	stepFirst, stepStep                = 1, 3
	amplitudePair, amplitudeMillivolts = 1, 2
	pulseMillivolts                    = 1
)

func (r *Result) decodePairs(nest *kernel.Attributes) {
	for nest.Next() {
		var number, code uint8
		var meters *float64
		one := nest.Nested()
		for one.Next() {
			switch one.Type {
			case uapi.ETHTOOL_A_CABLE_RESULT_PAIR: // and ETHTOOL_A_CABLE_FAULT_LENGTH_PAIR
				number = one.Uint8()
			case uapi.ETHTOOL_A_CABLE_RESULT_CODE: // and ETHTOOL_A_CABLE_FAULT_LENGTH_CM
				if nest.Type == uapi.ETHTOOL_A_CABLE_NEST_FAULT_LENGTH {
					meters = new(float64(one.Uint32()) / 100)
				} else {
					code = one.Uint8()
				}
			}
		}
		nest.Join(one)
		p := r.pair(number)
		switch nest.Type {
		case uapi.ETHTOOL_A_CABLE_NEST_RESULT:
			p.Status = status(code)
		case uapi.ETHTOOL_A_CABLE_NEST_FAULT_LENGTH:
			p.FaultMeters = meters
		}
	}
}

// pair is the pair of this number, made where it is not there yet.
func (r *Result) pair(number uint8) *Pair {
	name := pairName(number)
	for i := range r.Pairs {
		if r.Pairs[i].Name == name {
			return &r.Pairs[i]
		}
	}
	r.Pairs = append(r.Pairs, Pair{Name: name})
	return &r.Pairs[len(r.Pairs)-1]
}

// decodeEchoes reads echoes, which come by distance: a pair's next is a step farther
// away than its last.
func (r *Result) decodeEchoes(nest *kernel.Attributes) {
	var first, step uint32
	at := map[uint8]uint32{}
	for nest.Next() {
		one := nest.Nested()
		var pair uint8
		for one.Next() {
			switch {
			case nest.Type == tdrStep && one.Type == stepFirst:
				first = one.Uint32()
				clear(at)
			case nest.Type == tdrStep && one.Type == stepStep:
				step = one.Uint32()
			case nest.Type == tdrPulse && one.Type == pulseMillivolts:
				r.PulseMillivolts = new(int(int16(one.Uint16())))
			case nest.Type == tdrAmplitude && one.Type == amplitudePair:
				pair = one.Uint8()
			case nest.Type == tdrAmplitude && one.Type == amplitudeMillivolts:
				r.Echoes = append(r.Echoes, Echo{pairName(pair), float64(first+at[pair]*step) / 100, int(int16(one.Uint16()))})
				at[pair]++
			}
		}
		nest.Join(one)
	}
}

func pairName(number uint8) string {
	if number > uapi.ETHTOOL_A_CABLE_PAIR_D {
		return fmt.Sprintf("pair %d", number)
	}
	return string(rune('A' + number))
}

// status is a word for an ETHTOOL_A_CABLE_RESULT_CODE_*.
func status(code uint8) string {
	words := [...]string{
		uapi.ETHTOOL_A_CABLE_RESULT_CODE_UNSPEC:                  "unknown",
		uapi.ETHTOOL_A_CABLE_RESULT_CODE_OK:                      "ok",
		uapi.ETHTOOL_A_CABLE_RESULT_CODE_OPEN:                    "open",
		uapi.ETHTOOL_A_CABLE_RESULT_CODE_SAME_SHORT:              "short within the pair",
		uapi.ETHTOOL_A_CABLE_RESULT_CODE_CROSS_SHORT:             "short to another pair",
		uapi.ETHTOOL_A_CABLE_RESULT_CODE_IMPEDANCE_MISMATCH:      "impedance mismatch",
		uapi.ETHTOOL_A_CABLE_RESULT_CODE_NOISE:                   "noise",
		uapi.ETHTOOL_A_CABLE_RESULT_CODE_RESOLUTION_NOT_POSSIBLE: "resolution not possible",
	}
	if int(code) < len(words) {
		return words[code]
	}
	return fmt.Sprintf("code %d", code)
}

// OK says whether every pair was found whole.
func (r *Result) OK() bool {
	for _, p := range r.Pairs {
		if p.Status != "ok" {
			return false
		}
	}
	return true
}

// Strongest are the strongest echo of each pair, in the order of the pairs: where a
// cable's impedance changes the most.
func (r *Result) Strongest() []Echo {
	var strongest []Echo
	for _, e := range r.Echoes {
		found := false
		for i := range strongest {
			if strongest[i].Pair == e.Pair {
				found = true
				if abs(e.Millivolts) > abs(strongest[i].Millivolts) {
					strongest[i] = e
				}
			}
		}
		if !found {
			strongest = append(strongest, e)
		}
	}
	return strongest
}

func abs(n int) int { return max(n, -n) }
