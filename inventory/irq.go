package inventory

import (
	"bytes"
	"context"
	"slices"
	"strconv"
)

// IRQ is one interrupt vector of a NIC.
type IRQ struct {
	Number int `json:"number"`
	// Name is what the driver called it: "eth0-TxRx-3".
	Name string `json:"name,omitempty"`
	// Kind is "msix", "msi" or "intx".
	Kind string `json:"kind,omitempty"`
	// Affinity is the CPU list asked for, EffectiveAffinity the one in force.
	Affinity          string `json:"affinity,omitempty"`
	EffectiveAffinity string `json:"effectiveAffinity,omitempty"`
}

// readIRQs reads which interrupt vectors belong to a device. Their names and
// affinities come later, for all devices at once.
//
// For a PCI function these are its MSI or MSI-X vectors, or else its interrupt
// line; for a subfunction those that its auxiliary device lists (Linux 6.11 and
// newer), because the function's belong to others as well.
func (p *places) readIRQs(ctx context.Context, d *device) {
	switch {
	case d.has("msi_irqs"):
		numbers, err := p.vectors(ctx, d.dir+"/msi_irqs")
		if err != nil {
			d.missedIRQs("irqs", err)
			return
		}
		// A function uses either MSI or MSI-X, so one vector's kind is all vectors'.
		kind := ""
		if len(numbers) > 0 {
			if kind, err = p.text(ctx, d, "msi_irqs/"+strconv.Itoa(numbers[0])); err != nil {
				d.missedIRQs("irqs", err)
			}
		}
		p.addIRQs(d, kind, numbers)
	case d.pci == nil && d.has("irqs"):
		numbers, err := p.vectors(ctx, d.dir+"/irqs")
		if err != nil {
			d.missedIRQs("irqs", err)
			return
		}
		p.addIRQs(d, "", numbers)
	}
	if d.pci != nil && len(d.irqs) == 0 && d.has("irq") {
		line, err := p.text(ctx, d, "irq")
		if err != nil {
			d.missedIRQs("irqs", err)
			return
		}
		// 0 is no interrupt; 255, and the kernel's own IRQ_NOTCONNECTED, is how x86
		// says the same.
		if n, err := strconv.Atoi(line); err == nil && n > 0 && n != 255 && uint64(n) < notConnected {
			kind := "intx"
			if d.thin() {
				kind = "" // Where MSI is in use, this file holds its first vector.
			}
			p.addIRQs(d, kind, []int{n})
		}
	}
}

// notConnected is IRQ_NOTCONNECTED of linux/interrupt.h.
const notConnected = 1 << 31

// vectors are the interrupt numbers that a directory lists, in order.
func (p *places) vectors(ctx context.Context, dir string) ([]int, error) {
	names, err := p.ReadDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (d *device) missedIRQs(fact string, err error) {
	d.irqsUnread = append(d.irqsUnread, unread(fact, err))
}

func (p *places) addIRQs(d *device, kind string, numbers []int) {
	for _, n := range numbers {
		d.irqs = append(d.irqs, IRQ{Number: n, Kind: kind})
	}
}

// describeIRQs reads the names and affinities of the vectors of all devices. A
// vector without a name has no affinity either: the kernel has no directory in
// /proc/irq for one that nobody has asked for, such as those of a NIC that is
// down.
func (p *places) describeIRQs(ctx context.Context) {
	wanted := map[int]string{}
	for _, d := range p.devices {
		for _, irq := range d.irqs {
			wanted[irq.Number] = ""
		}
	}
	if len(wanted) == 0 {
		return
	}
	table, err := p.ReadFile(ctx, "/proc/interrupts")
	parseInterrupts(table, wanted)
	for _, d := range p.devices {
		if len(d.irqs) == 0 {
			continue
		}
		if err != nil {
			d.missedIRQs("irqs.name", err)
		}
		for i := range d.irqs {
			d.irqs[i].Name = wanted[d.irqs[i].Number]
		}
		requested := func(irq *IRQ) bool { return irq.Name != "" || err != nil }
		p.readAffinity(ctx, d, "smp_affinity_list", "irqs.affinity", requested, func(i *IRQ) *string { return &i.Affinity })
		p.readAffinity(ctx, d, "effective_affinity_list", "irqs.effectiveAffinity", requested, func(i *IRQ) *string { return &i.EffectiveAffinity })
	}
}

// readAffinity reads one file of each requested vector of a device. The first
// that can't be read speaks for the others.
func (p *places) readAffinity(
	ctx context.Context, d *device, file, fact string, requested func(*IRQ) bool, field func(*IRQ) *string,
) {
	missed := false
	for i := range d.irqs {
		irq := &d.irqs[i]
		if !requested(irq) {
			continue
		}
		data, err := p.ReadFile(ctx, "/proc/irq/"+strconv.Itoa(irq.Number)+"/"+file)
		if err != nil && !missed {
			d.missedIRQs(fact, err)
			missed = true
		}
		*field(irq) = trimmed(data)
	}
}

// parseInterrupts fills in the names of the interrupts that are wanted, from
// /proc/interrupts:
//
//	          CPU0       CPU1
//	34:         32          0 PCI-MSIX-0000:00:05.0   1-edge      virtio4-input
//
// What follows the counts differs between architectures and interrupt chips, but
// the name always comes last, after two spaces, and may hold single ones: a
// shared line lists its handlers as "ehci_hcd:usb1, eth0". A line that ends in
// padding has no name, as nobody has asked for that interrupt.
func parseInterrupts(table []byte, wanted map[int]string) {
	for line := range bytes.Lines(table) {
		line = bytes.TrimRight(line, "\n")
		label, rest, found := bytes.Cut(line, []byte(":"))
		if !found {
			continue
		}
		number, err := strconv.Atoi(string(bytes.TrimSpace(label)))
		if err != nil {
			continue // The header, or one of the architecture's own: "NMI", "LOC".
		}
		if _, ok := wanted[number]; !ok {
			continue
		}
		at := bytes.LastIndex(rest, []byte("  "))
		if at < 0 {
			continue
		}
		name := rest[at+2:]
		if len(name) == 0 || name[len(name)-1] == ' ' || len(bytes.Trim(name, "0123456789 ")) == 0 {
			continue
		}
		wanted[number] = string(bytes.ToValidUTF8(name, []byte("\uFFFD")))
	}
}
