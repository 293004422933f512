package terminal

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/xdpcheck"
)

// XDP writes what XDP is doing on NICs, and what it could.
func XDP(w io.Writer, reports []xdpcheck.Report) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, r := range reports {
		if i > 0 {
			fmt.Fprintln(tw)
		}
		fmt.Fprintf(tw, "%s", printable(r.Subject.String()))
		if r.Driver != "" {
			fmt.Fprintf(tw, " (%s)", printable(r.Driver))
		}
		fmt.Fprintln(tw)
		line := func(label, format string, args ...any) {
			fmt.Fprintf(tw, "  %s\t%s\n", label, printable(fmt.Sprintf(format, args...)))
		}
		if len(r.Programs) == 0 {
			line("attached", "nothing")
		}
		for _, p := range r.Programs {
			line("attached", "%s", p)
			for _, c := range p.Components {
				line("", "calls %s", c)
			}
		}
		for _, name := range r.Above {
			line("above", "%s has a program: none can be attached here", name)
		}
		for _, name := range r.Below {
			line("below", "%s has a program", name)
		}
		xdpCapabilities(line, r)
		if r.Probe != nil {
			probe(line, r.Probe)
		}
	}
	return tw.Flush()
}

func xdpCapabilities(line func(label, format string, args ...any), r xdpcheck.Report) {
	c := r.Capabilities
	native := c.Native.Answer
	for _, a := range []struct {
		label string
		c     xdpcheck.Capability
	}{
		{"native", c.Native}, {"redirect", c.Redirect}, {"ndo-xmit", c.Xmit},
		{"zero-copy", c.ZeroCopy}, {"multi-buffer", c.MultiBuffer}, {"offload", c.Offload},
	} {
		if a.label != "native" && a.c.Why == c.Native.Why && (native == xdpcheck.Unsupported || native == xdpcheck.Unknown || native == xdpcheck.Blocked) {
			continue // the same again
		}
		line(a.label, "%s: %s", a.c.Answer, a.c.Why)
		for _, b := range a.c.Blockers {
			line("", "%s", b.Do)
		}
	}
	if c.MaxMTU != nil && r.MTU != nil {
		line("MTU", "%d now; %d at most for programs that take packets of one buffer", *r.MTU, *c.MaxMTU)
	}
	if len(r.Metadata) > 0 {
		line("metadata", "%s of received packets", strings.Join(r.Metadata, ", "))
	}
	if len(r.XSKFeatures) > 0 {
		line("AF_XDP sends", "with %s", strings.Join(r.XSKFeatures, ", "))
	}
	if r.ZeroCopyMaxSegments != nil && *r.ZeroCopyMaxSegments > 1 {
		line("AF_XDP frames", "%d for a packet at most", *r.ZeroCopyMaxSegments)
	}
	if c.Attach != "" && native != xdpcheck.Unsupported {
		line("attaching", "%s: %s", c.Attach, c.AttachDoes)
	}
	if native != xdpcheck.Unsupported {
		for _, n := range c.Notes {
			line("note", "%s", n)
		}
	}
}

func probe(line func(label, format string, args ...any), p *xdpcheck.Probed) {
	switch {
	case p.Attached:
		line("probe", "the driver took a program")
	case p.MultiBuffer:
		line("probe", "the driver took a program for packets of several buffers, and refused one for a single buffer: %s", p.Refused)
	default:
		line("probe", "the driver refused a program: %s", p.Refused)
	}
	switch {
	case p.ZeroCopy == nil:
	case *p.ZeroCopy:
		line("", "an AF_XDP socket was bound without copying")
	case p.Copy != nil && *p.Copy:
		line("", "an AF_XDP socket was bound only with copying: %s", p.ZeroCopyRefused)
	default:
		line("", "no AF_XDP socket could be bound: %s", p.ZeroCopyRefused)
	}
	switch {
	case p.CarrierLost:
		line("", "THE CARRIER HAS NOT COME BACK")
	case p.CarrierAfter != nil:
		line("", "the carrier was back after %s", *p.CarrierAfter)
	}
}

// Readiness writes how ready NICs are for a purpose.
func Readiness(w io.Writer, all []xdpcheck.Readiness) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(tw)
		}
		fmt.Fprintf(tw, "%s  ready for %s: %s\n", printable(r.Subject.String()), r.Profile, r.Ready)
		for _, item := range r.Items {
			word := string(item.Status)
			if item.Status == findings.Fail {
				word = "FAIL"
			}
			fmt.Fprintf(tw, "  %s\t%s\t%s\n", word, item.Name, printable(item.Seen))
			if item.Do != "" {
				fmt.Fprintf(tw, "  \t\t%s\n", printable(item.Do))
			}
		}
		if len(r.Hidden) > 0 {
			fmt.Fprintln(tw, "It also takes what can't be seen from this host:")
		}
		for _, h := range r.Hidden {
			fmt.Fprintf(tw, "  %s\n", printable(h))
		}
	}
	return tw.Flush()
}

// Offloads writes what NICs' offloads are doing.
func Offloads(w io.Writer, names []string, all []*xdpcheck.Offloads) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, o := range all {
		if i > 0 {
			fmt.Fprintln(tw)
		}
		fmt.Fprintln(tw, printable(names[i]))
		line := func(label, text string) { fmt.Fprintf(tw, "  %s\t%s\n", label, printable(text)) }
		if o == nil {
			line("features", "could not be read")
			continue
		}
		words := func(list []string) string { return cmp.Or(strings.Join(list, " "), "none") }
		line("on", words(slices.Concat(o.On, fixed(o.Fixed))))
		line("off", words(o.Off))
		for _, m := range o.Missed {
			line("wanted, off", m.Feature+": "+cmp.Or(m.Because, "something else is in the way: the driver, or a device above or below"))
		}
		line("TLS", "transmit "+o.TLSTransmit+", receive "+o.TLSReceive)
		line("MACsec", o.MACsec)
		line("IPsec", o.IPsec)
		line("hardware GRO", o.HardwareGRO+"; LRO "+o.LRO)
		line("tunnels", "segmentation "+o.TunnelGSO)
		for _, t := range o.TunnelPorts {
			ports := make([]string, 0, len(t.Ports))
			for _, p := range t.Ports {
				ports = append(ports, fmt.Sprint(p))
			}
			line("", fmt.Sprintf("%s: %d of %d ports in use: %s", strings.Join(t.Types, ", "), len(t.Ports), t.Size, words(ports)))
		}
		line("tc", o.TrafficClass)
		stamps := o.Timestamps
		if o.PHC != nil {
			stamps += fmt.Sprintf(", clock /dev/ptp%d", *o.PHC)
		}
		line("timestamps", stamps)
	}
	return tw.Flush()
}

func fixed(names []string) []string {
	marked := make([]string, 0, len(names))
	for _, n := range names {
		marked = append(marked, n+"[fixed]")
	}
	return marked
}
