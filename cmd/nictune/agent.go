package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/spf13/cobra"

	"github.com/nictune/nictune/agent"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/tuning/settings"
)

// agentFlags are the flags of nictune agent, named as node_exporter's.
type agentFlags struct {
	addresses []string
	config    string
	systemd   bool
	path      string
	interval  time.Duration
	pause     time.Duration
	policies  []string
}

func newAgentCommand(app *app) *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Export the host's NICs as Prometheus metrics",
		Long: `Serve metrics for Prometheus until told to stop.

The agent reads only, and runs without any privilege. It listens on loopback
unless told otherwise; TLS and authentication are set up by --web.config.file, as
with every Prometheus exporter.

Facts are read anew when the kernel tells of a change and once every --interval,
counters for each scrape. Without --policy the shipped policies are compared with
the host, and nothing is changed.`,
		Example: `  nictune agent
  nictune agent --web.listen-address=:9810 --web.config.file=/etc/nictune/web.yml
  curl -s localhost:9810/metrics | grep nictune_nic_info`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return app.serve(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.addresses, "web.listen-address", []string{"127.0.0.1:9810"}, "listen on these `ADDRESSES`")
	flags.StringVar(&f.config, "web.config.file", "", "`FILE` with TLS and authentication settings (the exporter-toolkit's format)")
	flags.BoolVar(&f.systemd, "web.systemd-socket", false, "use the socket that systemd hands over instead of an address")
	flags.StringVar(&f.path, "web.telemetry-path", "/metrics", "serve the metrics under this `PATH`")
	flags.DurationVar(&f.interval, "interval", 5*time.Minute, "read the facts at least this often")
	flags.DurationVar(&f.pause, "pause", 5*time.Second, "read the facts at most this often, however much changes")
	flags.StringSliceVarP(&f.policies, "policy", "f", nil, "compare the host with the policies in these `FILES` or directories instead of the shipped ones")
	return cmd
}

func (a *app) serve(ctx context.Context, f agentFlags) error {
	reader, err := a.open()
	if err != nil {
		return err
	}
	defer reader.Close()
	wanted, err := loadPolicies(f.policies)
	if err != nil {
		return err
	}
	options := agent.Options{
		Compare:  agent.Comparer(reader, settings.All(), wanted),
		Interval: f.interval,
		Pause:    f.pause,
		Timeout:  a.timeout,
		Failed:   func(err error) { a.log.Error("reading the host failed", "err", err) },
	}
	if reader.live != nil {
		if options.Changes, err = agent.Watch(ctx, reader.live); err != nil {
			return err
		}
	}
	keeper := agent.New(reader, options)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(keeper.Run(ctx)) }()

	handler, err := a.handler(keeper, f.path)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		// Scrapes under way may end; then the listener closes.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			a.log.Error("stopping the server failed", "err", err)
		}
	}()
	err = web.ListenAndServe(server, &web.FlagConfig{
		WebListenAddresses: &f.addresses,
		WebSystemdSocket:   &f.systemd,
		WebConfigFile:      &f.config,
	}, a.log)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// handler serves the metrics, the health endpoints that Prometheus itself has,
// and a page for a person who opens the address in a browser.
func (a *app) handler(keeper *agent.Agent, path string) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		metrics.New(keeper.Snapshot),
		metrics.BuildInfo(buildVersion()),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle(path, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		// One bad metric costs itself and is logged; the others are served.
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      errorLog{a},
		Registry:      registry,
	}))
	mux.HandleFunc("/-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("nictune is healthy.\n"))
	})
	mux.HandleFunc("/-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !keeper.Ready() {
			http.Error(w, "nictune has not read the host yet.", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("nictune is ready.\n"))
	})
	if path == "/" {
		return mux, nil
	}
	v, _ := buildVersion()
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "nictune",
		Description: "The NICs of this host, for Prometheus",
		Version:     v,
		Links: []web.LandingLinks{
			{Address: path, Text: "Metrics"},
			{Address: "/-/healthy", Text: "Healthy", Description: "answers while the agent runs"},
			{Address: "/-/ready", Text: "Ready", Description: "answers 200 once the host has been read"},
		},
	})
	if err != nil {
		return nil, err
	}
	mux.Handle("/", landing)
	return mux, nil
}

// errorLog is promhttp's Logger over the command's.
type errorLog struct{ *app }

func (l errorLog) Println(v ...any) { l.log.Error("rendering metrics failed", "err", v) }
