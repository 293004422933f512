package report

import (
	"encoding/csv"
	"io"
	"strings"
	"time"

	"github.com/nictune/nictune/audit"
)

// CSV writes one line for each finding, below one with the columns' names, as RFC 4180
// has it. What a spreadsheet would take for a formula is text: it has an apostrophe in
// front.
func CSV(w io.Writer, r *audit.HostReport) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	row := []string{
		"host", "machine_id", "collected_at", "rule", "severity", "status", "change", "device", "part", "pci_address", "permanent_mac", "subject",
		"title", "seen", "expected", "remedy", "waiver_reason", "waiver_owner", "waiver_expires", "policy",
	}
	if err := c.Write(row); err != nil {
		return err
	}
	is := changes(r)
	for i := range r.Findings {
		f := &r.Findings[i]
		row = append(row[:0], r.Host.Name, r.Host.MachineID, r.CollectedAt.UTC().Format(time.RFC3339), f.Rule, string(f.Severity), string(f.Status), is[i],
			f.Subject.Name, f.Subject.Part, f.Subject.PCIAddress, f.Subject.PermanentMAC, f.Subject.ID, f.Title, f.Seen, f.Expected, f.Remedy)
		if f.Waiver != nil {
			row = append(row, f.Waiver.Reason, f.Waiver.Owner, f.Waiver.Expires)
		} else {
			row = append(row, "", "", "")
		}
		row = append(row, f.Policy)
		for j := range row {
			row[j] = cell(row[j])
		}
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// cell is text that no spreadsheet computes: OWASP, CSV injection. Some skip spaces
// before they look.
func cell(s string) string {
	s = visible(s)
	rest := strings.TrimLeft(s, " \t\n\u00a0")
	// The wide ones are what some take for the others.
	if strings.HasPrefix(s, "\t") || strings.HasPrefix(s, "\n") || strings.IndexAny(rest, "=+-@\uff1d\uff0b\uff0d\uff20") == 0 {
		return "'" + s
	}
	return s
}
