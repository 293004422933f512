package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/tuning"
)

// gateFlags say what must work after a change.
type gateFlags struct {
	tcp     []string
	timeout time.Duration
}

func (f *gateFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.tcp, "gate-tcp", nil, "undo unless these `HOST:PORTS` take a TCP connection afterwards")
	flags.DurationVar(&f.timeout, "gate-timeout", 30*time.Second, "undo unless each carrier, gateway and --gate-tcp is back after this long")
}

func (f *gateFlags) check() error {
	for _, address := range f.tcp {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			return fmt.Errorf("--gate-tcp %q is no HOST:PORT", address)
		}
	}
	if f.timeout <= 0 {
		return fmt.Errorf("--gate-timeout %s leaves no time for a link to come back", f.timeout)
	}
	return nil
}

// safetyFlags are the flags of the commands that change the host which say what
// may be disturbed, what must work afterwards, and why it is done.
type safetyFlags struct {
	gateFlags
	disrupt []string
	reason  string
	confirm time.Duration
	noWait  bool
}

func (f *safetyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.disrupt, "disrupt", nil, "disturb what these `NICS` are used for: default route, SSH session, XDP")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why: `TEXT` for nictune history, such as a ticket's number")
	f.gateFlags.add(cmd)
}

func (f *safetyFlags) addConfirm(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.confirm, "confirm", 0, "undo after this long unless nictune confirm comes first")
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "with --confirm: return at once and leave the undoing to the background")
}

// into checks the flags and notes them in a request.
func (f *safetyFlags) into(r *tuning.Request) error {
	if err := f.check(); err != nil {
		return err
	}
	switch {
	case strings.ContainsFunc(f.reason, unicode.IsControl):
		return fmt.Errorf("--reason %q is more than one line of text", f.reason)
	case f.confirm < 0:
		return fmt.Errorf("--confirm %s is negative", f.confirm)
	case f.noWait && f.confirm == 0:
		return fmt.Errorf("--no-wait is for --confirm")
	}
	if reason := strings.TrimSpace(f.reason); reason != "" {
		r.Reason = fmt.Sprintf("%s (%s)", reason, r.Reason)
	}
	r.Disrupt, r.ConfirmSeconds = f.disrupt, f.confirm.Seconds()
	return nil
}

func (f *gateFlags) gates() tuning.Gates {
	return tuning.Gates{Timeout: f.timeout, TCP: f.tcp, Dial: func(ctx context.Context, address string) error {
		var dialer net.Dialer
		c, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	}}
}
