package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// pcieRules judge the way between a NIC and the CPUs.
func pcieRules() []findings.Rule[nic] {
	return []findings.Rule[nic]{
		{About: findings.About{
			ID: "pcie/link-degraded", Severity: findings.Warning,
			Title:   "a PCIe link runs below what both of its ends can do",
			Why:     "A card that isn't seated well, a riser, or a worn slot trains to fewer lanes or a lower speed. Nothing fails; the card is just slower than it was sold as.",
			Remedy:  "Reseat the card and the riser, clean the contacts, try another slot, and look for a BIOS setting that limits the slot. If errors are corrected on it (pcie/aer-correctable), the signal is poor.",
			Sources: []string{"PCI Express Base Specification, 4.2.5: link training", "Linux Documentation/ABI/testing/sysfs-bus-pci: current_link_speed, max_link_speed"},
		}, Judge: linkDegraded},
		{About: findings.About{
			ID: "pcie/below-slot", Severity: findings.Info,
			Title:   "a PCIe link is degraded below what its slot can do",
			Why:     "The device at its lower end can do no more, so nothing is broken. A slot faster than its card is one that a faster card could use; a slot that is faster than a switch or bridge in it holds back what is below that.",
			Remedy:  "Nothing, unless the port needs more than the link carries (pcie/too-narrow): then it is the card, switch or riser in the slot that limits it.",
			Sources: []string{"PCI Express Base Specification, 7.5.3.6: link capabilities", "Linux Documentation/ABI/testing/sysfs-bus-pci: max_link_speed"},
		}, Judge: belowSlot},
		{About: findings.About{
			ID: "pcie/too-narrow", Severity: findings.Warning,
			Title:   "PCIe carries less than the ports need at line rate",
			Why:     "All ports below a link of PCIe share it. What the network delivers and PCIe can't take piles up in the card's buffer and is dropped there, as rx_missed or a counter of the driver's own; flow control then stops the switch.",
			Remedy:  "Move the card to a slot that is wide and fast enough along the whole path, or use fewer of its ports at full rate.",
			Sources: []string{"PCI Express Base Specification, 4.2: line coding", "Linux drivers/pci/pci.c: pcie_print_link_status"},
		}, Judge: tooNarrow},
		{About: aerAbout("fatal", findings.Critical, "PCIe reported fatal errors",
			"The link itself was unreliable; the kernel resets it, and the NIC with everything on it."), Judge: aer("fatal")},
		{About: aerAbout("nonfatal", findings.Warning, "PCIe reported uncorrectable errors",
			"Transactions were lost. The driver may have reset the device over it, and traffic stopped meanwhile."), Judge: aer("nonfatal")},
		{About: aerAbout("correctable", findings.Warning, "PCIe corrects errors",
			"The link repeats what was damaged, so that nothing is lost but time. A link that has to do so all the time is about to train down or to fail."), Judge: aer("correctable")},
		{About: findings.About{
			ID: "pcie/irq-node", Severity: findings.Warning,
			Title:   "interrupts are served far from the NIC",
			Why:     "A CPU on another memory node reaches the NIC's descriptors and packets across the interconnect, which costs latency and throughput for each packet.",
			Remedy:  "Spread the interrupts over the CPUs that are local to the NIC: irq: {spread: one-to-one, over: local-cpus}.",
			Sources: []string{"Linux Documentation/networking/scaling.rst: IRQ affinity", "Linux Documentation/ABI/testing/sysfs-bus-pci: numa_node, local_cpulist"},
		}, Judge: irqNode},
	}
}

func aerAbout(severity string, s findings.Severity, title, why string) findings.About {
	return findings.About{
		ID: "pcie/aer-" + severity, Severity: s, Title: title, Why: why,
		Remedy:  "Reseat the card and the riser, try another slot, update the card's and the machine's firmware. dmesg names the device that reported each error, which is often the port above the one at fault.",
		Sources: []string{"PCI Express Base Specification, 6.2: error signalling", "Linux Documentation/PCI/pcieaer-howto.rst", "Linux Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats"},
	}
}

// pcieLink is one link on the way from the root to a function, with both its ends.
type pcieLink struct {
	upper inventory.PCIHop
	lower string // its address
	// current is what it runs at; slot and card what its upper and its lower end could.
	current, slot, card *inventory.PCIeRate
}

// String names the link by its ends.
func (l pcieLink) String() string {
	kind := strings.ReplaceAll(l.upper.Kind, "-", " ")
	return fmt.Sprintf("%s %s to %s", kind, l.upper.Address, l.lower)
}

// pcieLinks are the links above a function, the nearest to the root first.
func pcieLinks(p *inventory.PCI) []pcieLink {
	var all []pcieLink
	for i, hop := range p.Path {
		if hop.Kind != "root-port" && hop.Kind != "downstream-port" || hop.Link == nil {
			continue
		}
		below, address := p.Link, p.Address
		if i+1 < len(p.Path) {
			below, address = p.Path[i+1].Link, p.Path[i+1].Address
		}
		l := pcieLink{upper: hop, lower: address, current: hop.Link.Current, slot: hop.Link.Maximum}
		if below != nil {
			l.card = below.Maximum
			if l.current == nil {
				l.current = below.Current
			}
		}
		all = append(all, l)
	}
	return all
}

// rate says a rate as lspci does.
func rate(r *inventory.PCIeRate) string { return fmt.Sprintf("%g GT/s x%d", r.GTs, r.Width) }

// noPCIe is the verdict on a device that has no PCIe links to judge, and whether it
// is one.
func (n nic) noPCIe() (findings.Verdict, bool) {
	switch {
	case n.PCI == nil && n.Parent != nil && n.Parent.Bus != "pci":
		return findings.Inapplicable("on the %s bus", n.Parent.Bus), true
	case n.PCI == nil:
		return findings.Inapplicable("not on PCI"), true
	case n.Function == inventory.VF || n.Function == inventory.SF || n.Function == inventory.Representor:
		return findings.Inapplicable("the link is the physical function's"), true
	}
	return findings.Verdict{}, false
}

// virtualMachines are words of firmwares of virtual machines, for machines whose CPUs
// don't tell.
var virtualMachines = []string{
	"qemu", "kvm", "vmware", "virtualbox", "innotek", "xen", "bochs", "virtual machine", "parallels",
	"google compute engine", "amazon ec2", "openstack", "bhyve", "ovirt", "rhev", "nutanix ahv", "alibaba cloud ecs",
}

// virtual reports whether the host is a virtual machine: its PCIe topology then is
// its hypervisor's invention, also around a device that was passed through.
func (e *Evidence) virtual() bool {
	if is := e.Host.VirtualMachine; is != nil {
		return *is
	}
	m := e.Host.Machine
	if m == nil {
		return false
	}
	words := strings.ToLower(m.Vendor + " " + m.Product + " " + m.BIOS.Vendor)
	if strings.Contains(words, "amazon ec2") && strings.Contains(words, ".metal") {
		return false
	}
	return slices.ContainsFunc(virtualMachines, func(word string) bool { return strings.Contains(words, word) })
}

const invented = "in a virtual machine, where links are what the hypervisor says"

func linkDegraded(n nic) findings.Verdict {
	if v, is := n.noPCIe(); is {
		return v
	}
	var said, unclear string
	judged := 0
	for _, l := range pcieLinks(n.PCI) {
		if l.current == nil || l.slot == nil || l.card == nil {
			continue
		}
		judged++
		able := inventory.PCIeRate{GTs: min(l.slot.GTs, l.card.GTs), Width: min(l.slot.Width, l.card.Width)}
		if l.current.GTs >= able.GTs && l.current.Width >= able.Width {
			continue
		}
		seen, expected := fmt.Sprintf("%s runs at %s", l, rate(l.current)), rate(&able)+", which both of its ends can do"
		switch earlier := n.earlierLink(l); {
		case n.evidence.virtual():
			unclear = cmp.Or(unclear, fmt.Sprintf("%s of %s, %s", seen, rate(&able), invented))
		case l.current.Width < able.Width:
			// Saving power changes the speed, not the width.
			return findings.Fails(seen, expected)
		case earlier != nil && earlier.GTs < able.GTs:
			return findings.Fails(fmt.Sprintf("%s, and %s earlier too", seen, n.evidence.Watched()), expected)
		case earlier != nil: // it was faster before: it saves power
			said = seen + " now, and ran at " + rate(earlier) + " before"
		default:
			// A link below may still be degraded without a doubt.
			unclear = cmp.Or(unclear, fmt.Sprintf("%s of %s: whether it only saves power --watch shows", seen, rate(&able)))
		}
	}
	switch {
	case unclear != "":
		return findings.Unclear("%s", unclear)
	case said != "":
		return findings.Passes("%s: it saves power", said)
	case judged > 0:
		return findings.Passes("each link runs at what both of its ends can do")
	}
	return n.noRates()
}

// noRates is the verdict where no link's rates are known.
func (n nic) noRates() findings.Verdict {
	if v := findings.Unread(n.Unread, "pci.link"); v.Status == findings.Error {
		return v
	}
	return findings.Unclear("no PCIe link with both of its ends is to be seen: an integrated device, or a virtual machine")
}

// earlierLink is what the link ran at in the earlier look; nil where there was none.
func (n nic) earlierLink(l pcieLink) *inventory.PCIeRate {
	b := n.before()
	if b == nil || b.PCI == nil {
		return nil
	}
	for _, e := range pcieLinks(b.PCI) {
		if e.upper.Address == l.upper.Address {
			return e.current
		}
	}
	return nil
}

func belowSlot(n nic) findings.Verdict {
	if v, is := n.noPCIe(); is {
		return v
	}
	judged := 0
	for _, l := range pcieLinks(n.PCI) {
		if l.current == nil || l.slot == nil {
			continue
		}
		judged++
		if l.slot.GTs > l.current.GTs || l.slot.Width > l.current.Width {
			seen := fmt.Sprintf("%s runs at %s", l, rate(l.current))
			if l.card != nil {
				seen += ", and " + l.lower + " can do " + rate(l.card)
			}
			return findings.Fails(seen, rate(l.slot)+", which "+l.upper.Address+" can do")
		}
	}
	if judged == 0 {
		return n.noRates()
	}
	return findings.Passes("each link runs at what its slot can do")
}

// usable is the part of a PCIe link's rate that is left for packets: of transactions
// with 256 bytes of data some 24 are headers, and descriptors and doorbells share it.
const usable = 0.85

// passage is a link on the way to a function, with all ports whose packets pass it.
type passage struct {
	address, kind string
	rate          *inventory.PCIeRate
	// need is what the ports need, in GB/s.
	need  float64
	ports int
}

// usable is what is left for packets, in GB/s.
func (p passage) usable() float64 { return p.rate.GBs * usable }

// passages are the links whose rate is known: the narrowest first, the others from the
// function up.
func (n nic) passages() []passage {
	p := n.PCI
	var all []passage
	add := func(address, kind string, link *inventory.PCIeLink) {
		if link != nil && link.Current != nil {
			all = append(all, passage{address: address, kind: kind, rate: link.Current})
		}
	}
	add(p.Address, "its own link", p.Link)
	for _, hop := range slices.Backward(p.Path) {
		add(hop.Address, strings.ReplaceAll(hop.Kind, "-", " "), hop.Link)
	}
	slices.SortStableFunc(all, func(a, b passage) int { return cmp.Compare(a.rate.GBs, b.rate.GBs) })
	for i := range all {
		all[i].need, all[i].ports = n.needed(all[i].address)
	}
	return all
}

// tightest is the link on the way that has the least for what its ports need, and
// whether the rate of any is known.
func (n nic) tightest() (worst passage, ok bool) {
	all := n.passages()
	if len(all) == 0 {
		return worst, false
	}
	worst = all[0]
	for _, p := range all {
		if p.need*worst.usable() > worst.need*p.usable() {
			worst = p
		}
	}
	return worst, true
}

// needed is what the ports need, in GB/s, whose packets pass a link, and how many
// they are.
func (n nic) needed(address string) (need float64, ports int) {
	all := n.evidence.All()
	for i := range all {
		other := &all[i]
		switch {
		case other.Function == inventory.VF || other.Function == inventory.SF || other.Function == inventory.Representor, other.PCI == nil:
			continue
		case address == n.PCI.Address && !sameCard(n.PCI, other.PCI):
			continue
		case address != n.PCI.Address && !slices.ContainsFunc(other.PCI.Path, func(h inventory.PCIHop) bool { return h.Address == address }):
			continue
		}
		l := &other.Link
		speed := 0
		switch {
		case l.Carrier != nil && *l.Carrier && l.SpeedMbps != nil:
			speed = *l.SpeedMbps
		case other.Name == n.Name:
			speed = inventory.FastestMode(l.Supported) // without a link, what it could have
		}
		if speed > 0 {
			ports++
			need += float64(speed) / 8000
		}
	}
	return need, ports
}

func tooNarrow(n nic) findings.Verdict {
	if v, is := n.noPCIe(); is {
		return v
	}
	worst, ok := n.tightest()
	if !ok {
		return n.noRates()
	}
	if worst.need == 0 {
		return findings.Unclear("what the port needs is not known: no link, and no modes")
	}
	what := fmt.Sprintf("%d ports behind it need", worst.ports)
	if worst.ports == 1 {
		what = "the port needs"
	}
	seen := fmt.Sprintf("%s (%s) is the tightest at %s: %.2f GB/s are left for packets each way, %s %.2f", worst.address, worst.kind, rate(worst.rate), worst.usable(), what, worst.need)
	if worst.usable() >= worst.need {
		return findings.Passes("%s", seen)
	}
	if n.evidence.virtual() {
		return findings.Unclear("%s; %s", seen, invented)
	}
	if b := n.before(); b == nil && n.savesPower() {
		return findings.Unclear("%s; it may be saving power: --watch shows", seen)
	}
	return findings.Fails(seen, fmt.Sprintf("%.2f GB/s or more there", worst.need/usable))
}

// savesPower reports whether a link on the way is slower, but not narrower, than both
// its ends: it may be so while it is idle.
func (n nic) savesPower() bool {
	return slices.ContainsFunc(pcieLinks(n.PCI), func(l pcieLink) bool {
		return l.current != nil && l.slot != nil && l.card != nil && l.current.GTs < min(l.slot.GTs, l.card.GTs)
	})
}

// sameCard reports whether two functions are of one device, and share its link.
func sameCard(a, b *inventory.PCI) bool {
	if a == nil || b == nil {
		return false
	}
	device, _, _ := strings.Cut(a.Address, ".")
	other, _, _ := strings.Cut(b.Address, ".")
	return device == other
}

// aer judges the errors of a severity along a NIC's path.
func aer(severity string) func(nic) findings.Verdict {
	return func(n nic) findings.Verdict {
		if v, is := n.noPCIe(); is {
			return v
		}
		var more, total []string
		known, watched := 0, 0
		names := slices.Sorted(func(yield func(string) bool) {
			for name := range n.evidence.Counted.NICs[n.ID()] {
				if strings.HasPrefix(name, "aer/") && strings.Contains(name, "/"+severity+"/") && !yield(name) {
					return
				}
			}
		})
		for _, name := range names {
			c := n.count(name)
			parts := strings.Split(name, "/") // aer, address, severity, kind
			known++
			if c.Watched {
				watched++
			}
			if c.More > 0 {
				more = append(more, fmt.Sprintf("%d %s at %s", c.More, parts[3], parts[1]))
			}
			// Looking for devices that aren't there counts, too, at boot.
			if c.Total > 0 && parts[3] != "UnsupReq" {
				total = append(total, fmt.Sprintf("%d %s at %s", c.Total, parts[3], parts[1]))
			}
		}
		switch {
		case known == 0:
			return n.uncounted("aer/" + severity)
		case len(more) > 0:
			return findings.Fails(fmt.Sprintf("%s within %s", strings.Join(more, ", "), n.evidence.Watched()), "none")
		case len(total) > 0 && severity != "correctable":
			return findings.Fails(strings.Join(total, ", ")+" since the host started", "none")
		case watched == known:
			return findings.Passes("none within %s", n.evidence.Watched())
		case len(total) > 0:
			return findings.Unclear("%s since the host started: whether it still happens --watch shows", strings.Join(total, ", "))
		}
		return findings.Passes("none since the host started")
	}
}

func irqNode(n nic) findings.Verdict {
	if n.PCI == nil {
		return findings.Inapplicable("not on PCI")
	}
	switch {
	case len(n.evidence.Host.Nodes) == 0:
		return findings.Unread(n.evidence.Unread, "numaNodes")
	case len(n.evidence.Host.Nodes) == 1:
		return findings.Inapplicable("the host has one memory node")
	case n.NUMA == nil || n.NUMA.Node == nil || n.NUMA.LocalCPUs == "":
		return findings.Unclear("the firmware does not say on which memory node it is")
	}
	local, err := inventory.ParseCPUSet(n.NUMA.LocalCPUs)
	if err != nil {
		return findings.Unclear("%v", err)
	}
	var far []string
	known := 0
	for _, irq := range n.IRQs {
		list := irq.EffectiveAffinity
		if list == "" {
			list = irq.Affinity
		}
		cpus, err := inventory.ParseCPUSet(list)
		if err != nil || cpus.Len() == 0 {
			continue
		}
		known++
		if cpus.Intersect(local).Len() == 0 {
			name := irq.Name
			if name == "" {
				name = fmt.Sprint(irq.Number)
			}
			far = append(far, fmt.Sprintf("%s on CPU %s", name, list))
		}
	}
	switch {
	case known == 0 && n.Link.Admin == "down":
		return findings.Inapplicable("set down: it has no interrupts")
	case known == 0:
		return findings.Unread(n.Unread, "irqs")
	case len(far) > 0:
		const most = 4
		seen := fmt.Sprintf("%d of %d interrupts: %s", len(far), known, strings.Join(far[:min(most, len(far))], ", "))
		if len(far) > most {
			seen += ", ..."
		}
		return findings.Fails(seen, fmt.Sprintf("CPUs of node %d: %s", *n.NUMA.Node, n.NUMA.LocalCPUs))
	}
	return findings.Passes("%d interrupts on CPUs of node %d", known, *n.NUMA.Node)
}
