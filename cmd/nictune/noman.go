//go:build !man

package main

import "github.com/spf13/cobra"

// forPackagers is empty in the program that is built for use; see man.go.
func forPackagers() []*cobra.Command { return nil }
