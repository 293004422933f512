//go:build man

package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// forPackagers writes the manual pages, which follow from the commands. The program
// that is built for use lacks it: what renders the pages takes 0.4 ms to initialise,
// a tenth of what every command would pay before it begins.
func forPackagers() []*cobra.Command {
	return []*cobra.Command{{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			v, _ := buildVersion()
			return doc.GenManTree(root, &doc.GenManHeader{Section: "8", Manual: "System Administration", Source: "nictune " + v}, args[0])
		},
	}}
}
