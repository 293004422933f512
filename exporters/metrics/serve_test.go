package metrics

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/nictune/nictune/inventory"
)

// served asks a handler for a page and undoes its coding.
func served(tb testing.TB, h http.Handler, query, accept, encoding string) (code int, header http.Header, page string) {
	tb.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics"+query, http.NoBody)
	r.Header.Set("Accept", accept)
	r.Header.Set("Accept-Encoding", encoding)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	header, body := w.Header(), w.Body.Bytes()
	if header.Get("Content-Length") != fmt.Sprint(len(body)) && w.Code == http.StatusOK {
		tb.Errorf("Content-Length %s of %d bytes", header.Get("Content-Length"), len(body))
	}
	switch header.Get("Content-Encoding") {
	case "gzip":
		z, err := stdgzip.NewReader(bytes.NewReader(body))
		if err != nil {
			tb.Fatal(err)
		}
		z.Multistream(false) // one member: not every client looks for a second
		body, err = io.ReadAll(z)
		if err != nil {
			tb.Fatal(err)
		}
	case "zstd":
		z, err := zstd.NewReader(bytes.NewReader(body))
		if err != nil {
			tb.Fatal(err)
		}
		defer z.Close()
		body, err = io.ReadAll(z)
		if err != nil {
			tb.Fatal(err)
		}
	}
	return w.Code, header, string(body)
}

// awkward has label values that have to be escaped, and enough samples for
// several blocks.
func awkward(devices int, random *rand.Rand) Snapshot {
	s := example()
	s.Statistics = nil
	inv := *s.Inventory
	s.Inventory = &inv
	inv.NICs = nil
	for i := range devices {
		n := inventory.NIC{Name: fmt.Sprintf("nic%d", i), Driver: &inventory.Driver{Firmware: "a\"b\\c\nd<\xff>\u00e9" + fmt.Sprint(i%7)}}
		inv.NICs = append(inv.NICs, n)
		one := inventory.Statistics{Name: n.Name, Index: i}
		for j := range 25 {
			v := uint64(0)
			if j < 8 {
				v = random.Uint64() >> random.IntN(64)
			}
			one.Values = append(one.Values, v)
		}
		s.Statistics = append(s.Statistics, one)
	}
	s.Reads[0].Seconds = random.NormFloat64()
	return s
}

func handler(tb testing.TB, e *Exporter) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(BuildInfo("v1", "abc"))
	return e.Handler(registry, registry, func(err error) { tb.Error(err) })
}

const (
	asText        = "text/plain;version=0.0.4"
	asOpenMetrics = "application/openmetrics-text;version=1.0.0"
	asProtobuf    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// Every form of a page says what the Gatherer says, however much is kept from
// the page before.
func TestEveryFormSaysTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var s Snapshot
	e := exporter(t, func() Snapshot { return s })
	h := handler(t, e)
	for round, devices := range []int{3, 3, 520, 520, 513, 512, 0, 2} {
		s = awkward(devices, random)
		want := texts(t, e)
		delete(want, "nictune_scrape_collections_total") // one more each time
		for _, accept := range []string{asText, asOpenMetrics, asProtobuf} {
			for _, coding := range []string{"identity", "gzip", "zstd"} {
				_, header, body := served(t, h, "", accept, coding)
				if got := header.Get("Content-Encoding"); got != coding && coding != "identity" {
					t.Errorf("asked for %s, got %q", coding, got)
				}
				got := decoded(t, header, body)
				for name, samples := range want {
					if !slices.Equal(samples, sampleTexts(got[name])) {
						t.Fatalf("round %d, %s, %s: %s differs: %d samples, want %d", round, accept, coding, name, len(got[name].GetMetric()), len(samples))
					}
				}
				if got["nictune_build_info"] == nil {
					t.Errorf("round %d, %s, %s: the program's own metrics are missing", round, accept, coding)
				}
			}
		}
	}
}

// decoded reads a page as Prometheus does.
func decoded(t *testing.T, header http.Header, body string) map[string]*dto.MetricFamily {
	t.Helper()
	format := expfmt.ResponseFormat(header)
	if strings.HasPrefix(header.Get("Content-Type"), expfmt.OpenMetricsType) {
		if !strings.HasSuffix(body, "# EOF\n") {
			t.Fatalf("the page ends in %q", body[max(0, len(body)-50):])
		}
		body, format = openMetricsAsText(body), expfmt.NewFormat(expfmt.TypeTextPlain)
	}
	all := map[string]*dto.MetricFamily{}
	d := expfmt.NewDecoder(strings.NewReader(body), format)
	for {
		f := &dto.MetricFamily{}
		err := d.Decode(f)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in\n%.2000s", err, body)
		}
		if all[f.GetName()] != nil {
			t.Errorf("%s comes twice", f.GetName())
		}
		all[f.GetName()] = f
	}
}

// openMetricsAsText gives counters back the end of their names, for there is no
// other parser of it among the libraries that are used here. (cmd's test has
// Prometheus itself read it.)
func openMetricsAsText(body string) string {
	counters := map[string]bool{}
	lines := strings.SplitAfter(strings.TrimSuffix(body, "# EOF\n"), "\n")
	for _, l := range lines {
		if f := strings.Fields(l); len(f) == 4 && f[1] == "TYPE" && f[3] == "counter" {
			counters[f[2]] = true
		}
	}
	for i, l := range lines {
		if f := strings.Fields(l); len(f) > 3 && f[0] == "#" && counters[f[2]] {
			lines[i] = strings.Replace(l, f[2], f[2]+"_total", 1)
		}
	}
	return strings.Join(lines, "")
}

// texts are the samples that an exporter gathers, by metric.
func texts(t *testing.T, e *Exporter) map[string][]string {
	t.Helper()
	families, err := prometheus.Gatherers{e}.Gather() // which look for what must not be
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, f := range families {
		all[f.GetName()] = sampleTexts(f)
	}
	return all
}

// sampleTexts are a family's help, type and samples, in no order of its own.
func sampleTexts(f *dto.MetricFamily) []string {
	all := []string{f.GetHelp(), f.GetType().String()}
	for _, m := range f.GetMetric() {
		all = append(all, fmt.Sprint(m.GetLabel(), m.GetCounter().GetValue(), m.GetGauge().GetValue()))
	}
	slices.Sort(all[2:])
	return all
}

func TestCollectAndExclude(t *testing.T) {
	var asked Asked
	e, err := New(func(a Asked) Snapshot { asked = a; return example() }, Options{Collectors: allBut("nic", "link", "policy", "statistics")})
	if err != nil {
		t.Fatal(err)
	}
	h := handler(t, e)
	for _, test := range []struct {
		query      string
		code       int
		has, lacks string
		asked      string
	}{
		{"", 200, "nictune_network_mtu_bytes", "nictune_reconcile_info", "map[link:true nic:true policy:true scrape:true statistics:true]"},
		{"?collect[]=link", 200, "nictune_network_mtu_bytes", "nictune_nic_info", "map[link:true scrape:true]"},
		{"?collect[]=link&collect[]=nic", 200, "nictune_nic_info", "receive_packets", "map[link:true nic:true scrape:true]"},
		{"?exclude[]=link", 200, "nictune_nic_info", "nictune_network_mtu_bytes", "map[nic:true policy:true scrape:true statistics:true]"},
		{"?exclude[]=reconcile", 200, "nictune_nic_info", "nictune_reconcile_info", "map[link:true nic:true policy:true scrape:true statistics:true]"},
		{"?name[]=nictune_nic_info", 200, "nictune_nic_info", "nictune_scrape", "map[link:true nic:true policy:true scrape:true statistics:true]"},
		{"?name[]=nictune_build_info", 200, "nictune_build_info", "nictune_nic", "map[link:true nic:true policy:true scrape:true statistics:true]"},
		{"?collect[]=link&exclude[]=nic", 400, "Combined collect and exclude queries are not allowed.", "nictune_", ""},
		{"?collect[]=cpufreq", 400, "missing collector: cpufreq", "nictune_", ""},
		{"?exclude[]=cpufreq", 400, "missing collector: cpufreq", "nictune_", ""},
		{"?collect[]=reconcile", 400, "disabled collector: reconcile", "nictune_", ""},
	} {
		asked = nil
		code, _, body := served(t, h, test.query, asText, "gzip")
		if code != test.code || !strings.Contains(body, test.has) || strings.Contains(body, test.lacks) {
			t.Errorf("%s: %d, has %q: %v, has %q: %v", test.query, code, test.has, strings.Contains(body, test.has), test.lacks, strings.Contains(body, test.lacks))
		}
		if got := fmt.Sprint(asked); got != test.asked && test.code == 200 {
			t.Errorf("%s: asked %s, want %s", test.query, got, test.asked)
		}
	}
}

// allBut switches all collectors off but these.
func allBut(names ...string) map[string]bool {
	off := map[string]bool{}
	for _, c := range Collectors() {
		if !slices.Contains(names, c.Name) {
			off[c.Name] = false
		}
	}
	return off
}

func TestNegotiate(t *testing.T) {
	for accepted, want := range map[string]string{
		"": "identity", "gzip": "gzip", "gzip, zstd": "gzip", "zstd;q=1.0, gzip;q=0.5": "zstd", "gzip;q=0": "identity", "*": "identity",
		"br, deflate": "identity", "gzip;q=nonsense": "identity", " zstd ": "zstd", "gzip;q=0.1,identity": "identity",
	} {
		if got := negotiate([]string{accepted}).String(); got != want {
			t.Errorf("%q: %s, want %s", accepted, got, want)
		}
	}
}

func TestJoinSums(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, length := range []int{0, 1, 2, 100, 1 << 16, 1<<16 + 1} {
		both := make([]byte, 1000+length)
		for i := range both {
			both[i] = byte(random.Uint32())
		}
		got := joinSums(crc32.ChecksumIEEE(both[:1000]), piece{sum: crc32.ChecksumIEEE(both[1000:]), shift: power(8 * uint64(length))})
		if want := crc32.ChecksumIEEE(both); got != want {
			t.Errorf("%d: %#x, want %#x", length, got, want)
		}
	}
}
