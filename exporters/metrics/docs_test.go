package metrics

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

//go:generate go test -run TestGolden -update .

var update = flag.Bool("update", false, "rewrite the golden files")

const reference = "../../docs/metrics.md"

// The table in docs/metrics.md says what the program exports.
func TestGoldenDocs(t *testing.T) {
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- catalogue -->\n", "<!-- end -->"
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the catalogue", reference)
	}
	want := before + begin + table() + end + after
	if *update {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(data) != want {
		t.Errorf("%s is stale: run go generate ./exporters/metrics", reference)
	}
}

func table() string {
	var b strings.Builder
	b.WriteString("| metric | collector | type | unit | labels | meaning | source | series |\n|---|---|---|---|---|---|---|---|\n")
	devices := 0
	for _, m := range Catalogue() {
		if m.Series == perDevice {
			devices++
		}
		labels := "none"
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s | %s |\n", m.Name, cmp.Or(m.Collector, "always"), m.Type, cmp.Or(m.Unit, "none"), labels, m.Help, m.Source, m.Series)
	}
	fmt.Fprintf(&b, "\n%d metrics have one series for each device; the others have as many as their column says, which of a software device is mostly none.\n", devices)
	b.WriteString("\n| collector | shows | default |\n|---|---|---|\n")
	for _, c := range Collectors() {
		on := "on"
		if !c.Default {
			on = "off"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Name, c.Doc, on)
	}
	return b.String()
}

// What the catalogue says is what is gathered: names, types, help and labels.
func TestCatalogueIsWhatIsExported(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(BuildInfo("v1", "abc"))
	families, err := prometheus.Gatherers{registry, everything(t, whole)}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]Metric{}
	for _, m := range Catalogue() {
		if _, twice := listed[m.Name]; twice {
			t.Errorf("%s is listed twice", m.Name)
		}
		if m.Help == "" || m.Source == "" || m.Series == "" {
			t.Errorf("%s is not explained", m.Name)
		}
		listed[m.Name] = m
	}
	for _, f := range families {
		m, ok := listed[f.GetName()]
		delete(listed, f.GetName())
		if !ok || m.Help != f.GetHelp() || m.Type != strings.ToLower(f.GetType().String()) {
			t.Errorf("the catalogue has %+v for %s, %s: %s", m, f.GetName(), f.GetType(), f.GetHelp())
		}
		for _, one := range f.GetMetric() {
			if len(one.GetLabel()) != len(m.Labels) {
				t.Errorf("%s: %v, the catalogue says %q", f.GetName(), one, m.Labels)
			}
		}
	}
	for name := range listed {
		t.Errorf("%s is listed, and the example has none: let it", name)
	}
}
