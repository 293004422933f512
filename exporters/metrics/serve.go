package metrics

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
)

// server serves an exporter's metrics. promhttp counts the scrapes and
// writes the metrics of the program itself; those of the host, which may be a
// hundred thousand, stand before them, in pieces that are kept from scrape to
// scrape.
type server struct {
	exporter *Exporter
	own      http.Handler // promhttp's
	failed   func(error)

	pages   pages
	last    *collection // under the exporter's mutex
	buffers sync.Pool   // to send from
}

// Handler serves the exporter's metrics together with those that gatherer has of the
// program, and counts its scrapes in registry: as text, OpenMetrics and protobuf, plain and
// compressed by gzip or zstd.
//
// The parameters collect[] and exclude[] choose collectors, as with node_exporter,
// and name[] metrics, as with every exporter. Scrapes that come at the same time
// share one collection, and one rendering if they want the same.
//
// What goes wrong costs itself and is told to failed.
func (e *Exporter) Handler(gatherer prometheus.Gatherer, registry prometheus.Registerer, failed func(error)) http.Handler {
	return promhttp.InstrumentMetricHandler(registry, e.server(gatherer, registry, failed))
}

func (e *Exporter) server(gatherer prometheus.Gatherer, registry prometheus.Registerer, failed func(error)) *server {
	own := promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorHandling:      promhttp.ContinueOnError,
		ErrorLog:           logger(failed),
		Registry:           registry,
		DisableCompression: true, // it comes after
		AcceptedFormats:    accepted(),
	})
	return &server{exporter: e, own: own, failed: failed, buffers: sync.Pool{New: func() any { return new([joinedPart + smallPart]byte) }}}
}

// accepted are the formats that a scrape can have. Whoever takes any, as a person
// does, gets the first.
func accepted() []expfmt.Format {
	return []expfmt.Format{expfmt.FmtText, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1, expfmt.FmtProtoDelim}
}

// ServeHTTP implements [http.Handler].
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	query := r.URL.Query()
	asked, err := s.exporter.filter(query["collect[]"], query["exclude[]"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	names := query["name[]"]
	want := request{asked: asked.key(s.exporter.names), names: key(names)}
	want.kind.coding = negotiate(r.Header["Accept-Encoding"])
	negotiated := expfmt.NegotiateAccept(r.Header, accepted()...)
	want.contentType = string(negotiated)
	switch negotiated.FormatType() {
	case expfmt.TypeOpenMetrics:
		want.kind.format = openMetrics
	case expfmt.TypeProtoDelim:
		want.kind.format = protobuf
	}
	p, mine := s.pages.join(want, began)
	defer s.pages.leave(p)
	if mine {
		s.render(p, asked, names, r)
	}
	if err := p.wait(r.Context()); err != nil {
		if r.Context().Err() == nil {
			s.failed(err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		return
	}
	header := w.Header()
	header.Set("Content-Type", want.contentType)
	header["Vary"] = []string{"Accept", "Accept-Encoding"}
	header.Set("Content-Length", strconv.Itoa(p.assembled.length))
	if want.kind.coding != identity {
		header.Set("Content-Encoding", want.kind.coding.String())
	}
	buffer := s.buffers.Get().(*[joinedPart + smallPart]byte) //nolint:errcheck // nothing else is put there
	defer s.buffers.Put(buffer)
	_ = p.assembled.send(w, buffer[:]) // else whoever asked has gone
}

// String is the coding as HTTP calls it.
func (c coding) String() string {
	return [...]string{"identity", "gzip", "zstd"}[c]
}

// recorder is a response that is kept.
type recorder struct {
	header http.Header
	body   bytes.Buffer
	code   int
}

// Header implements [http.ResponseWriter].
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(code int) { r.code = code }

// Write implements [http.ResponseWriter].
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// filter is what the parameters of a scrape ask for. Nobody writes on it.
func (e *Exporter) filter(collect, exclude []string) (Asked, error) {
	if len(collect) == 0 && len(exclude) == 0 {
		return e.all, nil
	}
	if len(collect) > 0 && len(exclude) > 0 {
		return nil, badRequest("Combined collect and exclude queries are not allowed.")
	}
	known := Collectors()
	for _, name := range slices.Concat(collect, exclude) {
		if !slices.ContainsFunc(known, func(c CollectorInfo) bool { return c.Name == name }) {
			return nil, badRequest("missing collector: " + name)
		}
	}
	asked := Asked{}
	for _, name := range e.names {
		asked[name] = !slices.Contains(exclude, name)
		if len(collect) > 0 {
			asked[name] = name == scrapeCollector
		}
	}
	for _, name := range collect {
		if !slices.Contains(e.names, name) {
			return nil, badRequest("disabled collector: " + name)
		}
		asked[name] = true
	}
	for name, on := range asked {
		if !on {
			delete(asked, name)
		}
	}
	return asked, nil
}

// badRequest is an error in what a scrape asks for.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// key is the same for the same collectors.
func (a Asked) key(names []string) string {
	var b strings.Builder
	for _, name := range names {
		if a[name] {
			b.WriteString(name)
			b.WriteByte(',')
		}
	}
	return b.String()
}

func key(names []string) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	return fmt.Sprintf("%q", names)
}

// negotiate chooses among what a scrape takes, as promhttp does: what it likes
// best, and of equals the first of identity, gzip and zstd.
func negotiate(accepted []string) coding {
	best, quality := identity, 0.0
	for c := range codings {
		for one := range strings.SplitSeq(strings.Join(accepted, ","), ",") {
			name, parameters, _ := strings.Cut(one, ";")
			if name = strings.TrimSpace(name); name != c.String() && name != "*" {
				continue
			}
			q := 1.0
			if value, ok := strings.CutPrefix(strings.TrimSpace(parameters), "q="); ok {
				q, _ = strconv.ParseFloat(value, 64) // 0 where it is no number: not taken
			}
			if q > quality {
				best, quality = c, q
			}
		}
	}
	return best
}

// logger is promhttp's over a function.
type logger func(error)

// Println implements [promhttp.Logger].
func (l logger) Println(v ...any) { l(fmt.Errorf("rendering metrics: %v", v)) }
