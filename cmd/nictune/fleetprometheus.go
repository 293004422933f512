package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/config"
	"github.com/spf13/cobra"

	"github.com/nictune/nictune/fleet"
	"github.com/nictune/nictune/fleet/promql"
)

// fleetServer is the server that a fleet's report is asked of.
type fleetServer struct {
	address, http, token string
	selector, at         string
	identity             []string
	since, window        time.Duration
	shards               int
}

func (f *fleetServer) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.address, "prometheus", "", "ask the server at `URL` (Prometheus, Thanos, Mimir, VictoriaMetrics) in place of reading reports")
	flags.StringVar(&f.http, "http.config.file", "", "`FILE` with TLS, credentials, headers and proxy for that server (the format of promtool's option of this name)")
	flags.StringVar(&f.token, "bearer-token-file", "", "`FILE` with a bearer token for that server")
	flags.StringVar(&f.selector, "selector", "", "only hosts whose metrics have these `LABELS`, as in PromQL: 'cluster=\"eu\",env=~\"prod|canary\"'")
	flags.StringSliceVar(&f.identity, "identity", []string{"cluster"}, "the `LABELS` that tell hosts apart beside job and instance")
	flags.StringVar(&f.at, "at", "", "report on this `TIME` of the past, 2026-07-01T12:00:00Z, in place of now")
	flags.DurationVar(&f.since, "since", 24*time.Hour, "a host that reported within this time before and doesn't now is missing; 0 to ask only for those that can't be scraped")
	flags.DurationVar(&f.window, "window", 24*time.Hour, "count links lost within this time; 0 for since each device was made")
	flags.IntVar(&f.shards, "shards", 2, "ask for so many groups of hosts at the same time, `N`")
	for _, only := range []string{"http.config.file", "bearer-token-file", "selector", "identity", "at", "since", "window", "shards"} {
		cmd.MarkFlagsMutuallyExclusive("reports", only)
	}
	cmd.MarkFlagsMutuallyExclusive("reports", "prometheus")
	cmd.MarkFlagsMutuallyExclusive("http.config.file", "bearer-token-file")
}

// labelName is what Prometheus takes for a label.
const labelName = `^[a-zA-Z_][a-zA-Z0-9_]*$`

// fleet is the fleet as the server knows it, at a moment.
func (f *fleetServer) fleet(now time.Time) (*fleet.Prometheus, error) {
	address, err := promql.Parse(f.address)
	if err != nil {
		return nil, fmt.Errorf("--prometheus: %w", err)
	}
	if f.at != "" {
		if now, err = time.Parse(time.RFC3339, f.at); err != nil {
			return nil, fmt.Errorf("--at %q is no time such as 2026-07-01T12:00:00Z", f.at)
		}
	}
	switch {
	case f.since < 0:
		return nil, fmt.Errorf("--since %s is negative", f.since)
	case f.window < 0:
		return nil, fmt.Errorf("--window %s is negative", f.window)
	case f.shards < 1:
		return nil, fmt.Errorf("--shards %d: at least one group is asked for", f.shards)
	}
	name := regexp.MustCompile(labelName)
	for _, l := range f.identity {
		if !name.MatchString(l) {
			return nil, fmt.Errorf("--identity %q is no name of a label", l)
		}
	}
	client, err := f.client()
	if err != nil {
		return nil, err
	}
	return &fleet.Prometheus{
		Server: &promql.Server{URL: address, HTTP: client}, At: now,
		Selector: strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(f.selector), "{"), "}")),
		Identity: f.identity, Since: f.since, Window: f.window, Shards: f.shards,
	}, nil
}

// client connects as the files say.
func (f *fleetServer) client() (*http.Client, error) {
	c := config.DefaultHTTPClientConfig
	switch {
	case f.http != "":
		loaded, _, err := config.LoadHTTPConfigFile(f.http)
		if err != nil {
			return nil, fmt.Errorf("--http.config.file %s: %w", f.http, err)
		}
		c = *loaded
	case f.token != "":
		c.Authorization = &config.Authorization{Type: "Bearer", CredentialsFile: f.token}
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("--http.config.file %s: %w", f.http, err)
	}
	v, _ := buildVersion()
	client, err := config.NewClientFromConfig(c, "nictune", config.WithUserAgent("nictune/"+v))
	if err != nil {
		return nil, fmt.Errorf("--http.config.file %s: %w", f.http, err)
	}
	return client, nil
}

// read asks the server for the fleet.
func readPrometheus(ctx context.Context, p *fleet.Prometheus, into *fleet.Aggregate) error {
	err := p.Read(ctx, into)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: --timeout gives more time, --selector asks for fewer hosts", err)
	}
	return err
}
