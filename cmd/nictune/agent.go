package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/spf13/cobra"

	"github.com/nictune/nictune/agent"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/tuning"
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
	match     matching
	reconcile string
	allow     string
	state     string
	disrupt   []string
	gates     gateFlags
	lean      bool // without the metrics of the agent itself
	cpus      int

	collectors collectorFlags
	exporter   metrics.Options // what they come to, and whose own counters are read, and which
	countersOf func(*inventory.NIC) bool
	counter    func(name string) bool
}

func newAgentCommand(app *app) *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Export the host's NICs as Prometheus metrics",
		Long: `Serve metrics for Prometheus until told to stop, and where that was asked for put
right what has drifted from the policies.

The agent listens on loopback unless told otherwise; TLS and authentication are
set up by --web.config.file, as with every Prometheus exporter.

The facts of a device are read anew when the kernel tells of a change in it, those
of all devices once every --interval, counters for each scrape; --timeout is for one
such reading. VFs are asked for, modules read and the host judged as by nictune check
when the facts have changed or are old, never for a scrape. Without a tuning policy
among those of --policy the host is compared with each of the shipped ones by itself;
check and rule policies among them weigh what is found, waive it, and judge by rules
of your own.

--reconcile decides what becomes of drift:

  off      nothing is compared with the host
  report   drift is shown in the metrics; the agent only reads, and needs no
           privilege (the default)
  enforce  what drifted from the policies of --policy is put right, one NIC at a
           time, as nictune apply does: through the journal, and only if its impact
           is within --allow. Needs root. An agent that stops undoes nothing. What an
           apply --confirm changed and nobody confirmed in time it takes back.

enforce tries again ever more seldom what fails. A field that somebody else sets
again and again is left to them after three times in an hour: the log and the
metrics name it, and who runs here that may do it.`,
		Example: `  nictune agent
  nictune agent --web.listen-address=:9810 --web.config.file=/etc/nictune/web.yml
  nictune agent --reconcile=enforce -f /etc/nictune/policies --allow link-flap
  nictune agent --no-collector.policy --collector.device-exclude='^(veth|docker)'
  curl -s localhost:9810/metrics | grep nictune_nic_info
  curl -sg 'localhost:9810/metrics?collect[]=link'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			enforcing := f.reconcile == agent.Enforce
			for _, name := range []string{"allow", "disrupt", "gate-tcp", "gate-timeout"} {
				if !enforcing && cmd.Flags().Changed(name) {
					return fmt.Errorf("--%s is for --reconcile=enforce: the agent changes nothing otherwise", name)
				}
			}
			if enforcing && !cmd.Flags().Changed("pause") {
				f.pause = time.Second // drift is to be put right soon
			}
			if err := cmp.Or(f.settle(cmd), f.check()); err != nil {
				return err
			}
			if cmd.Flags().Changed("runtime.gomaxprocs") || os.Getenv("GOMAXPROCS") == "" {
				defer runOn(f.cpus)()
			}
			return app.serve(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.addresses, "web.listen-address", []string{"127.0.0.1:9810"}, "listen on these `ADDRESSES`")
	flags.StringVar(&f.config, "web.config.file", "", "`FILE` with TLS and authentication settings (the exporter-toolkit's format)")
	flags.BoolVar(&f.systemd, "web.systemd-socket", false, "use the socket that systemd hands over instead of an address")
	flags.StringVar(&f.path, "web.telemetry-path", "/metrics", "serve the metrics under this `PATH`")
	flags.BoolVar(&f.lean, "web.disable-exporter-metrics", false, "leave out the metrics of the agent itself (go_*, process_*, promhttp_*)")
	flags.IntVar(&f.cpus, "runtime.gomaxprocs", 1, "use at most so `MANY` CPUs at a time (also GOMAXPROCS in the environment)")
	flags.DurationVar(&f.interval, "interval", 5*time.Minute, "read the facts of all devices at least this often (0: only when the kernel tells of a change)")
	flags.DurationVar(&f.pause, "pause", 30*time.Second, "read the facts of all devices, and compare them with the policies, at most this often (with --reconcile=enforce 1s)")
	f.match.labelFlags(cmd)
	flags.StringSliceVarP(&f.match.policies, "policy", "f", nil, "the policies in these `FILES` or directories, of all kinds: compare the host with the tuning policies instead of the shipped ones, judge it by the others")
	flags.StringVar(&f.reconcile, "reconcile", agent.Report, "what becomes of drift from the policies: `MODE` off, report or enforce")
	flags.StringVar(&f.allow, "allow", string(tuning.Seamless), "enforce changes of up to this `IMPACT`: seamless, link-flap, nic-reset")
	flags.StringSliceVar(&f.disrupt, "disrupt", nil, "enforce also what disturbs the use of these `NICS`: default route, XDP")
	f.gates.add(cmd)
	stateFlag(cmd, &f.state)
	f.collectors.add(cmd)
	return cmd
}

// runOn has the agent use at most so many CPUs at a time, until what it returns is called.
// More than one make a scrape no faster, and cost a fifth more: each piece of work that
// could be shared wakes another.
func runOn(cpus int) (restore func()) {
	before := runtime.GOMAXPROCS(cpus)
	return func() { runtime.GOMAXPROCS(before) }
}

// settle takes what the flags about collectors come to.
func (f *agentFlags) settle(cmd *cobra.Command) (err error) {
	if f.exporter, err = f.collectors.options(cmd); err != nil {
		return err
	}
	f.countersOf, f.counter, err = f.collectors.driverCounters(f.exporter.Devices)
	return err
}

// check refuses what the server would panic on, listen wider than anybody meant,
// or end at once.
func (f agentFlags) check() error {
	switch {
	case len(f.addresses) == 0 || slices.Contains(f.addresses, ""):
		return errors.New("--web.listen-address is empty; 127.0.0.1:9810 is this host only, :9810 is every network")
	case !strings.HasPrefix(f.path, "/") || path.Clean(f.path) != f.path || strings.ContainsAny(f.path, "{} ") || strings.HasPrefix(f.path, "/-/"):
		return fmt.Errorf("--web.telemetry-path %q is no path for the metrics; it starts with a slash and doesn't end with one, as /metrics does, and /-/ is taken", f.path)
	case f.cpus < 1:
		return fmt.Errorf("--runtime.gomaxprocs %d: it takes one CPU at least", f.cpus)
	case f.interval < 0:
		return fmt.Errorf("--interval %s is negative", f.interval)
	case f.pause < 0:
		return fmt.Errorf("--pause %s is negative", f.pause)
	case !slices.Contains([]string{agent.Off, agent.Report, agent.Enforce}, f.reconcile):
		return fmt.Errorf("--reconcile %q is none of off, report and enforce", f.reconcile)
	}
	return nil
}

func (a *app) serve(ctx context.Context, f agentFlags) error {
	reader, err := a.open()
	if err != nil {
		return err
	}
	defer reader.Close()
	// However this ends, what runs beside the server ends before the host is let
	// go of.
	var beside sync.WaitGroup
	defer beside.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	options, err := a.observing(reader, f)
	if err != nil {
		return err
	}
	if f.reconcile == agent.Enforce {
		enforcer, err := a.enforcement(ctx, reader, f)
		if err != nil {
			return err
		}
		enforcer.into(&options)
		beside.Go(func() { a.takeBackInTime(ctx, reader, f.state, &enforcer.busy) })
	}
	if reader.live != nil {
		if options.Changes, err = agent.Watch(ctx, reader.live); err != nil {
			return err
		}
	}
	options.Heavy = new(thrift).begin
	keeper := agent.New(reader, options)
	handler, err := a.handler(keeper, f)
	if err != nil {
		return err
	}
	beside.Go(func() { _ = keeper.Run(ctx) }) // it ends with ctx, and says just that
	return a.listen(ctx, handler, f)
}

// observing are the options of an agent that looks at a host and changes nothing.
func (a *app) observing(reader host, f agentFlags) (agent.Options, error) {
	options := agent.Options{
		Meter:    inventory.MeterOptions{VFs: sriov.Counters, Driver: f.countersOf, Counter: f.counter},
		Sysfs:    f.collectors.enabled(f.exporter)("netclass"),
		Interval: f.interval,
		Pause:    f.pause,
		Timeout:  a.timeout,
		Failed: func(err error) {
			if kernel.ReasonOf(err) == kernel.Denied {
				a.log.Warn("a privilege is missing", "err", err)
				return
			}
			a.log.Error("reading the host failed", "err", err)
		},
	}
	var documents policies.Documents
	labels, err := a.hostLabels(f.match)
	if err == nil && len(f.match.policies) > 0 {
		documents, err = loadDocuments(f.match.policies)
	}
	if err != nil {
		return options, err
	}
	if f.reconcile == agent.Enforce && len(documents.Policies) == 0 && len(f.match.policies) > 0 {
		return options, fmt.Errorf("--reconcile=enforce: no document of kind %s in %s", policies.Kind, strings.Join(f.match.policies, ", "))
	}
	options.Beside = f.beside(documents, labels)
	if f.collectors.enabled(f.exporter)("module") {
		options.Beside.Modules = a.modules(reader, inventory.LeaveFlags, true)
	}
	if f.reconcile != agent.Off {
		// The shipped ones are alternatives.
		wanted, comparer := documents.Policies, agent.Comparer
		if len(wanted) == 0 {
			comparer = agent.ComparerOfEach
			if wanted, err = bindPolicies(policies.Shipped()); err != nil {
				return options, err
			}
		}
		options.Compare = comparer(agent.Sparing(reader), settings.All(), wanted, labels, pastOf(f.state))
	}
	return options, nil
}

// listen serves until ctx ends and what is under way then has its answer.
func (a *app) listen(ctx context.Context, handler http.Handler, f agentFlags) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		// A page is kept for as long as somebody reads it.
		WriteTimeout: max(time.Minute, 2*a.timeout),
		ErrorLog:     slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(patience); err != nil {
			a.log.Warn("scrapes were broken off", "err", err)
			_ = server.Close()
		}
	}()
	// It returns as soon as the server is told to stop, or could not start.
	err := web.ListenAndServe(server, &web.FlagConfig{
		WebListenAddresses: &f.addresses,
		WebSystemdSocket:   &f.systemd,
		WebConfigFile:      &f.config,
	}, a.log)
	cancel()
	<-stopped
	switch {
	case errors.Is(err, http.ErrServerClosed):
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: does another agent run? --web.listen-address takes another address", err)
	}
	return err
}

// handler serves the metrics, the health endpoints that Prometheus itself has,
// and a page for a person who opens the address in a browser.
func (a *app) handler(keeper *agent.Agent, f agentFlags) (http.Handler, error) {
	telemetry := f.path
	registry := prometheus.NewRegistry()
	exporter, err := metrics.New(keeper.Snapshot, f.exporter)
	if err != nil {
		return nil, err
	}
	registry.MustRegister(metrics.BuildInfo(buildVersion()))
	instruments, own := prometheus.Registerer(registry), prometheus.Gatherer(registry)
	if f.lean {
		instruments = prometheus.NewRegistry() // that nobody gathers
		// What is left never changes: gathering it again took more than rendering it.
		own = prometheus.GathererFunc(sync.OnceValues(registry.Gather))
	} else {
		registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	mux := http.NewServeMux()
	mux.Handle(telemetry, exporter.Handler(own, instruments, func(err error) { a.log.Error("rendering metrics failed", "err", err) }))
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
	if telemetry == "/" {
		return mux, nil
	}
	v, _ := buildVersion()
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "nictune",
		Description: html.EscapeString(a.shown()),
		Version:     v,
		Profiling:   "false", // the links to it: there is none
		Links: []web.LandingLinks{
			{Address: telemetry, Text: "Metrics"},
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

// shown says whose NICs these are.
func (a *app) shown() string {
	if source := cmp.Or(a.host, a.root); source != "" {
		return "The NICs of the host in " + source + ", for Prometheus"
	}
	return "The NICs of this host, for Prometheus"
}
