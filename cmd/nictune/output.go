package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
)

// outputFlag adds -o to a command, with the formats that it has; the first is
// the default.
func outputFlag(cmd *cobra.Command, format *string, formats ...string) {
	cmd.Flags().StringVarP(format, "output", "o", formats[0], "output `FORMAT`: "+strings.Join(formats, ", "))
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return formats, cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc("output", complete); err != nil {
		panic(err) // the flag was added above
	}
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains(formats, *format) {
			return fmt.Errorf("unknown output format %q: use one of %s", *format, strings.Join(formats, ", "))
		}
		return nil
	}
}

// writeJSON writes v as indented JSON.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeInventory writes what writeJSON would, one NIC at a time: of a thousand it
// would hold 12 MB of text, several times over.
func writeInventory(w io.Writer, inv *sriov.Inventory) error {
	const none = "\n  \"nics\": []"
	rest := *inv
	rest.NICs = []inventory.NIC{}
	var text bytes.Buffer
	if err := writeJSON(&text, rest); err != nil {
		return err
	}
	// Strings in JSON hold no newline, so this is the list and nothing else.
	before, after, found := bytes.Cut(text.Bytes(), []byte(none))
	if !found || len(inv.NICs) == 0 {
		_, err := w.Write(text.Bytes())
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	_, _ = out.Write(before) // Flush returns the first error
	_, _ = out.WriteString(strings.TrimSuffix(none, "]"))
	var nic bytes.Buffer
	encoder := json.NewEncoder(&nic)
	encoder.SetIndent("    ", "  ")
	encoder.SetEscapeHTML(false)
	for i := range inv.NICs {
		if i > 0 {
			_ = out.WriteByte(',')
		}
		nic.Reset()
		if err := encoder.Encode(&inv.NICs[i]); err != nil {
			return err
		}
		_, _ = out.WriteString("\n    ")
		_, _ = out.Write(bytes.TrimSuffix(nic.Bytes(), []byte("\n")))
	}
	_, _ = out.WriteString("\n  ]")
	_, _ = out.Write(after)
	return out.Flush()
}

// writeYAML writes v's JSON form as YAML, so that both have the same keys in the
// same order.
func writeYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if b, err = yaml.JSONToYAML(b); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
