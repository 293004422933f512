package audit

import (
	"fmt"
	"slices"
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
			Why:     "Correcting is normal at these rates and costs nothing. Within a factor of ten of what the code can take, a little dirt or warmth is enough to lose frames. The standard says what a link has to do with; the factor of ten is a convention of this rule, an early warning. At 50 and 100 Gb/s the code follows from the number of lanes (528 symbols on lanes of 25 Gb/s, 544 on faster ones); where the driver doesn't tell it, between the two nothing is said.",
			Remedy:  "Plan to clean or replace cable or module before it fails; compare with the other ports of the same kind.",
			Sources: []string{"IEEE 802.3, 95.1.1 and 112.1.1, and SFF-8024, table 4-4, codes 01h and 08h: 5e-5 with RS-FEC(528,514)", "IEEE 802.3, 110.1: 1e-8 with BASE-R FEC", "IEEE 802.3, 124.1.1, 136.1 and 138.1.1: 2.4e-4 with RS-FEC(544,514)", "IEEE 802.3, 30.5.1.1.17: aFECCorrectedBlocks"},
		}, Judge: preFEC},
		{About: findings.About{
			ID: "link/fcs-errors", Severity: findings.Warning,
			Title:   "frames arrive damaged",
			Why:     "A wrong checksum (FCS) means that bits were changed on the cable. The frame is lost; TCP takes that for congestion and slows down. The standard's bit error ratio of 1e-12 comes to one frame of full size in 80 million, that of 1000BASE-T (1e-10) to one in 800000. It fails at one in ten million, up to 1 Gb/s at one in a million: a convention, far above what healthy links do.",
			Remedy:  "Clean or replace the cable, then the module, then try another switch port. A switch that cuts through forwards frames that were damaged elsewhere: look at its other ports, too.",
			Sources: []string{"IEEE 802.3, 30.3.1.1.6: aFrameCheckSequenceErrors", "IEEE 802.3, 80.1.2: a bit error ratio of 1e-12 or better at the MAC", "IEEE 802.3, 40.1.1: 1e-10 for 1000BASE-T"},
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
			Why:     "A pause frame stops the sender for up to 65535 times 512 bits, or until one that lets it go on, which counts as one, too. At this rate they can stop it half the time, and through the switch everybody who sends to it; a host that hangs can stop a whole network this way. How long each one lasted is not counted. Fewer than 200 a second are no failure, whatever they could do: a convention, since bursts alone cause so few.",
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
	c, own := n.counted(name)
	switch {
	case !c.Known:
		return n.uncounted(name)
	case c.Watched && c.More > 0:
		return findings.Fails(fmt.Sprintf("%d uncorrectable blocks%s within %s", c.More, called(own), n.evidence.Watched()), "none")
	case c.Watched:
		return findings.Passes("none within %s", n.evidence.Watched())
	case c.Total == 0:
		return findings.Passes("none since the driver was loaded")
	}
	return findings.Unclear("%d uncorrectable blocks%s since the driver was loaded; some are normal while a link comes up: --watch shows", c.Total, called(own))
}

// called tells the driver's own names of counters, where it has only those.
func called(own ...string) string {
	own = slices.DeleteFunc(own, func(name string) bool { return name == "" })
	if len(own) == 0 {
		return ""
	}
	return " (" + strings.Join(own, ", ") + ")"
}

// code is an error correcting code.
type code struct {
	// limit is the bit error ratio that links with it are specified for.
	limit float64
	// line is how many bits are on the line for each of the link's speed: those of the
	// encoding and of the code.
	line float64
}

var (
	rs528 = code{5e-5, 33.0 / 32}
	rs544 = code{2.4e-4, 17.0 / 16}
	baseR = code{1e-8, 33.0 / 32}
)

// codes are those that an FEC mode may stand for at a speed: both where it depends on
// the number of lanes, which is not known, and none where this knows none.
func codes(mode string, speedMbps int, lanes *int) []code {
	switch mode = strings.ToLower(mode); {
	case mode == "baser":
		return []code{baseR}
	case mode != "rs": // the low-latency one, among others
		return nil
	case speedMbps >= 200000:
		return []code{rs544}
	case lanes != nil && *lanes > 0 && speedMbps / *lanes >= 50000:
		return []code{rs544}
	case lanes != nil && *lanes > 0 || speedMbps < 50000:
		return []code{rs528}
	}
	return []code{rs528, rs544}
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
	may := codes(l.FEC.Active, *l.SpeedMbps, l.Lanes)
	if len(may) == 0 {
		return findings.Unclear("what FEC %q can take at %d Mb/s is not known here", l.FEC.Active, *l.SpeedMbps)
	}
	// Where only blocks are counted, each has one wrong bit at least; far from the limit
	// hardly ever more.
	name := "fec/corrected-bits"
	c, own := n.counted(name)
	if !c.Known {
		name = "fec/corrected"
		c, own = n.counted(name)
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
	of := func(c count, line float64) float64 {
		return float64(c.More) / (float64(*l.SpeedMbps) * 1e6 * line * c.Interval.Seconds())
	}
	least, most := may[0], may[len(may)-1]
	ratio := of(c, most.line)
	seen := fmt.Sprintf("a bit error ratio before FEC of %.1e over %s%s", ratio, n.evidence.Watched(), called(own))
	switch {
	case ratio >= most.limit/10:
		return findings.Fails(seen, fmt.Sprintf("less than %.1e, a tenth of what FEC %s is specified to take", most.limit/10, l.FEC.Active))
	case of(c, least.line) >= least.limit/10:
		return findings.Unclear("%s: more than a tenth of what RS-FEC(528,514) is specified to take, and less than of RS-FEC(544,514); which it is the driver doesn't tell", seen)
	}
	return findings.Passes("%s", seen)
}

// What is lost of frames is judged against this: Ethernet's bit error ratio of 1e-12
// comes to one frame of 1500 bytes in 80 millions, that of 1000BASE-T to one in 800000.
const (
	badFrames        = 1e-7
	badGigabitFrames = 1e-6
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
	allowed, expected := badFrames, "fewer than one in ten million"
	if s := n.Link.SpeedMbps; s != nil && *s <= 1000 {
		allowed, expected = badGigabitFrames, "fewer than one in a million"
	}
	ratio := func(bad, good uint64) bool { return float64(bad) > allowed*(float64(bad)+float64(good)) }
	of := func(bad, good uint64) string { return fmt.Sprintf("%d of %d received frames", bad, bad+good) }
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
	rx, ownRX := n.counted("pause/rx")
	tx, ownTX := n.counted("pause/tx")
	storms := n.count("pause/tx-storm")
	switch {
	case !rx.Known && !tx.Known:
		return n.uncounted("pause/rx")
	case storms.More > 0:
		return findings.Fails(fmt.Sprintf("the device stopped %d storms of its own within %s", storms.More, n.evidence.Watched()), "none")
	case rx.Total == 0 && tx.Total == 0:
		return findings.Passes("no pause frames since the driver was loaded%s", called(ownRX, ownTX))
	case !rx.Watched && !tx.Watched:
		return findings.Unclear("%d pause frames received and %d sent%s since the driver was loaded; how fast --watch shows", rx.Total, tx.Total, called(ownRX, ownTX))
	case n.Link.SpeedMbps == nil:
		return n.untold("speed")
	}
	// So many a second with the longest pause stop the link for half of the time.
	half := float64(*n.Link.SpeedMbps) * 1e6 / (65535 * 512) / 2
	fastest, did := rx, "received"+called(ownRX)
	if !rx.Watched || tx.Watched && tx.More > rx.More {
		fastest, did = tx, "sent"+called(ownTX)
	}
	seen := fmt.Sprintf("%.0f pause frames a second %s over %s", fastest.PerSecond(), did, n.evidence.Watched())
	could := fmt.Sprintf("%.0f of the longest stop %d Mb/s for half of the time", half, *n.Link.SpeedMbps)
	switch {
	case fastest.PerSecond() >= max(half, fewPauses):
		return findings.Fails(seen, fmt.Sprintf("fewer than %.0f; %s", max(half, fewPauses), could))
	case fastest.PerSecond() >= half:
		return findings.Unclear("%s: %s, but bursts alone cause so few", seen, could)
	}
	return findings.Passes("%d pause frames received and %d sent%s within %s", rx.More, tx.More, called(ownRX, ownTX), n.evidence.Watched())
}
