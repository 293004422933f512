package inventory

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseInterrupts(t *testing.T) {
	const x86 = `           CPU0       CPU1       
 24:          1          0  IO-APIC   5-edge      ACPI:Ged
 27:          0          0  IO-APIC   7-edge    
 28:          0          0  IO-APIC   8-fasteoi 
 30:          0          0  IR-IO-APIC   16-fasteoi   ehci_hcd:usb1, eth0
 38:          0      16615 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
 39:      15185          0 PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0
 40:          3          0  IR-PCI-MSI 524288-edge      my driver's queue 1
 41:          3          0     None   
NMI:          0          0   Non-maskable interrupts
LOC:     250722     231586   Local timer interrupts
`
	const arm64 = `           CPU0       CPU1       
 13:        101        202     GICv3  27 Level     arch_timer
 50:          7          0   ITS-MSI 524289 Edge      eth0-rx-0
 51:          7          0   ITS-MSI 524290 Edge    
IPI0:         1          2       Rescheduling interrupts
`
	for _, c := range []struct {
		what, in string
		want     map[int]string
	}{
		{"x86", x86, map[int]string{
			24: "ACPI:Ged", 27: "", 28: "", 30: "ehci_hcd:usb1, eth0", 38: "virtio2-input.0", 40: "my driver's queue 1", 41: "", 99: "",
		}},
		{"arm64", arm64, map[int]string{13: "arch_timer", 50: "eth0-rx-0", 51: ""}},
		{"nothing", "", map[int]string{1: ""}},
		{"only counts", " 7:          1          2\n", map[int]string{7: ""}},
		{"no blanks", "7:x\n8\n", map[int]string{7: "", 8: ""}},
	} {
		got := map[int]string{}
		for n := range c.want {
			got[n] = ""
		}
		parseInterrupts([]byte(c.in), got)
		same(t, c.what, got, c.want)
	}
}

func TestParseInterruptsOfThousandsOfCPUs(t *testing.T) {
	var table strings.Builder
	for irq := range 20 {
		fmt.Fprintf(&table, "%4d:%s PCI-MSIX-0000:3b:00.0 %5d-edge      eth0-TxRx-%d\n", irq, strings.Repeat(" 4294967295", 4096), irq, irq)
	}
	got := map[int]string{3: "", 19: ""}
	parseInterrupts([]byte(table.String()), got)
	same(t, "names", got, map[int]string{3: "eth0-TxRx-3", 19: "eth0-TxRx-19"})
}

// A function without MSI has its interrupt line, or the kernel's or firmware's
// ways to say that it has none.
func TestInterruptLine(t *testing.T) {
	for line, want := range map[string][]IRQ{
		"11": {{Number: 11, Kind: "intx"}}, "312": {{Number: 312, Kind: "intx"}}, // as on a large arm64 machine
		"0": nil, "255": nil, "2147483648": nil, "none": nil,
	} {
		h := newMapHost(map[string]string{"/proc/interrupts": ""})
		h.pciDevice("pci0000:00/0000:00:03.0", igbAlias, "irq", line+"\n")
		s := h.survey(pciNIC(2, "eth0", "0000:00:03.0"))
		readPlaces(t.Context(), s)
		same(t, line, s.nics[0].IRQs, want)
	}
}

func FuzzParseInterrupts(f *testing.F) {
	f.Add([]byte(" 38:          0      16615 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0\n"))
	f.Add([]byte("38:  \n38:\n:  x\n"))
	f.Fuzz(func(t *testing.T, table []byte) {
		names := map[int]string{38: "", 40: ""}
		parseInterrupts(table, names)
		if len(names) != 2 || strings.ContainsAny(names[38], "\n") {
			t.Fatal(names)
		}
	})
}
