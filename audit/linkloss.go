package audit

import (
	"fmt"
	"strings"

	"github.com/nictune/nictune/findings"
)

// lossRules judge what a link's counters say that it loses.
func lossRules() []findings.Rule[nic] {
	return []findings.Rule[nic]{
		{About: findings.About{
			ID: "link/fec-uncorrectable", Severity: findings.Critical,
			Title:   "error correction could not correct what arrived",
			Why:     "Each such block loses the frames that are in it, and looks to TCP like congestion. It is the last stage before the link goes down.",
			Remedy:  "Clean and reseat both ends, read light levels and signal quality with nictune module show, then replace cable or module; see that both ends run the same FEC.",
			Sources: []string{"Linux Documentation/networking/statistics.rst: FEC", "IEEE 802.3, 30.5.1.1.18: aFECUncorrectableBlocks"},
		}, Judge: fecUncorrectable},
		{About: findings.About{
			ID: "link/pre-fec-errors", Severity: findings.Warning,
			Title:   "error correction is close to its limit",
			Why:     "Correcting is normal at these rates and costs nothing. Within a factor of ten of what the code can take, a little dirt or warmth is enough to lose frames.",
			Remedy:  "Plan to clean or replace cable or module before it fails; compare with the other ports of the same kind.",
			Sources: []string{"IEEE 802.3, clauses 95.1.1, 110.1 and 112.1: 5e-5 with RS-FEC(528,514), 1e-8 with BASE-R FEC", "IEEE 802.3, clauses 138.1.1 and 124.1.1: 2.4e-4 with RS-FEC(544,514)", "IEEE 802.3, 30.5.1.1.17: aFECCorrectedBlocks"},
		}, Judge: preFEC},
		{About: findings.About{
			ID: "link/fcs-errors", Severity: findings.Warning,
			Title:   "frames arrive damaged",
			Why:     "A wrong checksum (FCS) means that bits were changed on the cable. The frame is lost; TCP takes that for congestion and slows down. Ethernet promises less than one frame in ten million.",
			Remedy:  "Clean or replace the cable, then the module, then try another switch port. A switch that cuts through forwards frames that were damaged elsewhere: look at its other ports, too.",
			Sources: []string{"IEEE 802.3, 30.3.1.1.6: aFrameCheckSequenceErrors", "IEEE 802.3, clause 1.4: a bit error ratio of 1e-12 or better"},
		}, Judge: fcsErrors},
		{About: findings.About{
			ID: "link/symbol-errors", Severity: findings.Warning,
			Title:   "the PHY sees symbols that don't exist",
			Why:     "Symbol errors while frames arrive are bits that the line changed: the signal is poor, even where the frames' checksums still hold.",
			Remedy:  "Reseat and clean the connectors, keep the bend radius, then replace the cable.",
			Sources: []string{"IEEE 802.3, 30.3.2.1.5: aSymbolErrorDuringCarrier", "Linux Documentation/networking/statistics.rst"},
		}, Judge: symbolErrors},
		{About: findings.About{
			ID: "link/mac-faults", Severity: findings.Warning,
			Title:   "the MAC reports faults of its own",
			Why:     "Frames that were lost inside the MAC, that ended between two octets, or that collided late on a link without collisions: a duplex mismatch, a PHY that loses its clock, or a broken card.",
			Remedy:  "Compare duplex and speed of both ends first, then update the card's firmware, and replace it if it stays.",
			Sources: []string{"IEEE 802.3, 30.3.1.1.7, .10, .12, .13 and .15: alignment errors, late collisions, internal MAC and carrier sense errors"},
		}, Judge: macFaults},
		{About: findings.About{
			ID: "link/pause-storm", Severity: findings.Warning,
			Title:   "flow control may stop the link for long",
			Why:     "A pause frame stops the sender for up to 65535 times 512 bits, or until one that lets it go on, which counts as one, too. At this rate they can stop it half the time, and through the switch everybody who sends to it; a host that hangs can stop a whole network this way. How long each one lasted is not counted.",
			Remedy:  "Find who sends them. From this host: it can't take what it gets (nictune check queues), or hangs. From the switch: look for the port that is congested behind it. Switch flow control off (pause: {rx: off, tx: off}) unless storage needs it.",
			Sources: []string{"IEEE 802.3, annex 31B: PAUSE, pause_quantum of 512 bit times", "Linux Documentation/networking/statistics.rst: pause frame statistics"},
		}, Judge: pauseStorm},
	}
}

func fecUncorrectable(n nic) findings.Verdict {
	const name = "fec/uncorrectable"
	if v, is := n.noCarrier(); is {
		return v
	}
	c := n.count(name)
	switch {
	case !c.Known:
		return n.uncounted(name)
	case c.Watched && c.More > 0:
		return findings.Fails(fmt.Sprintf("%d uncorrectable blocks within %s", c.More, n.evidence.Watched()), "none")
	case c.Watched:
		return findings.Passes("none within %s", n.evidence.Watched())
	case c.Total == 0:
		return findings.Passes("none since the driver was loaded")
	}
	return findings.Unclear("%d uncorrectable blocks since the driver was loaded; some are normal while a link comes up: --watch shows", c.Total)
}

// preFECLimit is the bit error ratio that a code can take at a speed, and the bits in
// one of its blocks; 0 where neither is known.
func preFECLimit(mode string, speedMbps int, lanes *int) (limit, bits float64) {
	mode = strings.ToLower(mode)
	pam4 := speedMbps >= 200000 || lanes != nil && *lanes > 0 && speedMbps / *lanes >= 50000
	switch {
	case strings.HasPrefix(mode, "llrs"):
		return 0, 0
	case mode == "rs" && pam4:
		return 2.4e-4, 5440
	case mode == "rs":
		return 5e-5, 5280
	case mode == "baser":
		return 1e-8, 2112
	}
	return 0, 0
}

func preFEC(n nic) findings.Verdict {
	l := &n.Link
	if v, is := n.noCarrier(); is {
		return v
	}
	switch {
	case l.FEC == nil:
		return findings.Unread(n.Unread, "link.fec")
	case strings.EqualFold(l.FEC.Active, "off"):
		return findings.Inapplicable("FEC is off")
	case l.SpeedMbps == nil:
		return n.untold("speed")
	}
	limit, blockBits := preFECLimit(l.FEC.Active, *l.SpeedMbps, l.Lanes)
	if limit == 0 {
		return findings.Unclear("what FEC %q can take at %d Mb/s is not known here", l.FEC.Active, *l.SpeedMbps)
	}
	// Where only blocks are counted, each has one wrong bit at least; far from the limit
	// hardly ever more.
	name := "fec/corrected-bits"
	c := n.count(name)
	if !c.Known {
		name = "fec/corrected"
		c = n.count(name)
	}
	switch {
	case !c.Known:
		return n.uncounted(name)
	case !c.Watched && c.Total == 0:
		return findings.Passes("nothing corrected since the driver was loaded")
	case !c.Watched:
		return findings.Unclear("%d corrected since the driver was loaded; how fast --watch shows", c.Total)
	}
	// What is corrected is counted in the line's bits: those of the code included.
	data := 514.0 / 528
	switch blockBits {
	case 5440:
		data = 514.0 / 544
	case 2112:
		data = 1
	}
	line := float64(*l.SpeedMbps) * 1e6 * 257 / 256 / data
	ratio := float64(c.More) / (line * c.Interval.Seconds())
	seen := fmt.Sprintf("a bit error ratio before FEC of %.1e over %s", ratio, n.evidence.Watched())
	if ratio >= limit/10 {
		return findings.Fails(seen, fmt.Sprintf("less than %.1e, a tenth of what FEC %s is specified to take", limit/10, l.FEC.Active))
	}
	return findings.Passes("%s", seen)
}

// What is lost of frames is judged against this: Ethernet's bit error ratio of 1e-12
// comes to one frame of 1500 bytes in 80 millions.
const (
	badFrames = 1e-7
	// enoughBad are needed to judge counters that have counted for nobody knows how long.
	enoughBad = 100
)

func fcsErrors(n nic) findings.Verdict {
	if v, is := n.noLink(); is {
		return v
	}
	bad, good := n.count("mac/FrameCheckSequenceErrors"), n.count("mac/FramesReceivedOK")
	if !bad.Known {
		bad = n.count("ip/rx_crc_errors")
	}
	if !good.Known {
		good = n.count("ip/rx_packets")
	}
	if !bad.Known || !good.Known {
		return n.uncounted("mac/FrameCheckSequenceErrors")
	}
	ratio := func(bad, good uint64) bool { return float64(bad) > badFrames*(float64(bad)+float64(good)) }
	of := func(bad, good uint64) string { return fmt.Sprintf("%d of %d received frames", bad, bad+good) }
	const expected = "fewer than one in ten million"
	switch {
	case bad.Watched && good.Watched && ratio(bad.More, good.More):
		return findings.Fails(fmt.Sprintf("%s within %s", of(bad.More, good.More), n.evidence.Watched()), expected)
	case bad.Watched && good.Watched:
		return findings.Passes("%s within %s", of(bad.More, good.More), n.evidence.Watched())
	case bad.Total == 0 && good.Total == 0:
		return findings.Inapplicable("no frames were received")
	case !ratio(bad.Total, good.Total):
		return findings.Passes("%s since the driver was loaded", of(bad.Total, good.Total))
	case bad.Total < enoughBad:
		return findings.Unclear("%s since the driver was loaded: too few to judge; --watch shows whether it still happens", of(bad.Total, good.Total))
	}
	return findings.Fails(of(bad.Total, good.Total)+" since the driver was loaded; --watch shows whether it still happens", expected)
}

func symbolErrors(n nic) findings.Verdict {
	const name = "phy/SymbolErrorDuringCarrier"
	if v, is := n.noCarrier(); is {
		return v
	}
	return n.growing([]string{name}, name)
}

func macFaults(n nic) findings.Verdict {
	if v, is := n.noCarrier(); is {
		return v
	}
	names := []string{
		"mac/AlignmentErrors", "mac/FramesLostDueToIntMACXmitError", "mac/FramesLostDueToIntMACRcvError",
		"mac/LateCollisions", "mac/CarrierSenseErrors", "ip/rx_frame_errors", "ip/tx_carrier_errors",
	}
	return n.growing(names, names[0])
}

// growing judges counters that should stand still. Where none is there, it says so of
// the one named.
func (n nic) growing(names []string, name string) findings.Verdict {
	known, watched := 0, 0
	var more, total []string
	for _, name := range names {
		c := n.count(name)
		if !c.Known {
			continue
		}
		known++
		_, short, _ := strings.Cut(name, "/")
		if c.Watched {
			watched++
		}
		if c.More > 0 {
			more = append(more, fmt.Sprintf("%d %s", c.More, short))
		}
		if c.Total > 0 {
			total = append(total, fmt.Sprintf("%d %s", c.Total, short))
		}
	}
	switch {
	case known == 0:
		return n.uncounted(name)
	case len(more) > 0:
		return findings.Fails(fmt.Sprintf("%s within %s", strings.Join(more, ", "), n.evidence.Watched()), "none")
	case watched == known:
		return findings.Passes("none within %s", n.evidence.Watched())
	case len(total) == 0:
		return findings.Passes("none since the driver was loaded")
	}
	return findings.Unclear("%s since the driver was loaded: whether it still happens --watch shows", strings.Join(total, ", "))
}

// fewPauses are so few pause frames a second that bursts alone cause them.
const fewPauses = 200

func pauseStorm(n nic) findings.Verdict {
	if v, is := n.noCarrier(); is {
		return v
	}
	rx, tx, storms := n.count("pause/rx"), n.count("pause/tx"), n.count("pause/tx-storm")
	switch {
	case !rx.Known && !tx.Known:
		return n.uncounted("pause/rx")
	case storms.More > 0:
		return findings.Fails(fmt.Sprintf("the device stopped %d storms of its own within %s", storms.More, n.evidence.Watched()), "none")
	case rx.Total == 0 && tx.Total == 0:
		return findings.Passes("no pause frames since the driver was loaded")
	case !rx.Watched && !tx.Watched:
		return findings.Unclear("%d pause frames received and %d sent since the driver was loaded; how fast --watch shows", rx.Total, tx.Total)
	case n.Link.SpeedMbps == nil:
		return n.untold("speed")
	}
	// So many a second with the longest pause stop the link for half of the time.
	half := float64(*n.Link.SpeedMbps) * 1e6 / (65535 * 512) / 2
	fastest, did := rx, "received"
	if !rx.Watched || tx.Watched && tx.More > rx.More {
		fastest, did = tx, "sent"
	}
	seen := fmt.Sprintf("%.0f pause frames a second %s over %s", fastest.PerSecond(), did, n.evidence.Watched())
	could := fmt.Sprintf("%.0f of the longest stop %d Mb/s for half of the time", half, *n.Link.SpeedMbps)
	switch {
	case fastest.PerSecond() >= max(half, fewPauses):
		return findings.Fails(seen, fmt.Sprintf("fewer than %.0f; %s", max(half, fewPauses), could))
	case fastest.PerSecond() >= half:
		return findings.Unclear("%s: %s, but bursts alone cause so few", seen, could)
	}
	return findings.Passes("%d pause frames received and %d sent within %s", rx.More, tx.More, n.evidence.Watched())
}
