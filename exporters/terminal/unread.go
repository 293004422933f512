package terminal

import (
	"fmt"
	"io"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
)

// Unread writes a line for each fact that could not be read although it may
// exist, with the devices that it concerns. What the kernel or a driver doesn't
// offer is left out: nothing can be done about it.
func Unread(w io.Writer, inv *sriov.Inventory) error {
	type gap struct {
		fact   string
		reason inventory.Reason
	}
	var order []gap
	devices, details := map[gap][]string{}, map[gap]string{}
	add := func(device string, unread []inventory.Unread) {
		for _, u := range unread {
			if u.Reason == inventory.Unsupported {
				continue
			}
			g := gap{u.Fact, u.Reason}
			if _, ok := details[g]; !ok {
				order = append(order, g)
				details[g] = u.Detail
			}
			devices[g] = append(devices[g], device)
		}
	}
	add("host", inv.Unread)
	for _, n := range inv.NICs {
		add(n.Name, n.Unread)
	}
	for i := range inv.PFs {
		pf := &inv.PFs[i]
		add(pfName(pf), pf.Unread)
		for _, vf := range pf.VFs {
			add(fmt.Sprintf("%s vf %d", pfName(pf), vf.Index), vf.Unread)
		}
	}
	denied := false
	for _, g := range order {
		denied = denied || g.reason == inventory.Denied
		if _, err := fmt.Fprintf(w, "not read (%s): %s of %s: %s\n", g.reason, g.fact, printable(some(devices[g])), printable(details[g])); err != nil {
			return err
		}
	}
	if denied {
		_, err := fmt.Fprintln(w, "What was denied can be read as root.")
		return err
	}
	return nil
}

// some names the first devices and counts the rest.
func some(devices []string) string {
	const shown = 3
	s := ""
	for i, d := range devices {
		if i == shown {
			return fmt.Sprintf("%s and %d more", s, len(devices)-shown)
		}
		if i > 0 {
			s += ", "
		}
		s += d
	}
	return s
}
