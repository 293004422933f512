//go:build labhost

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/lab/nstest"
)

// BenchmarkExportersInTheLab does what BenchmarkExporters does on NICs with virtual
// functions: it runs itself once more in a machine of the lab, beside the programs that it
// built here.
func BenchmarkExportersInTheLab(b *testing.B) {
	if labtest.Profile() != "" {
		exportersOfNICs(b)
		return
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	vm := labtest.VM{Files: []string{build(b), buildNodeExporter(b), self}}
	out, code := vm.Run(b, fmt.Sprintf("cd /tmp && /lab/%s -test.run '^$' -test.bench '^%s$' -test.benchtime 1x", filepath.Base(self), b.Name()))
	if code != 0 {
		b.Fatalf("exit code %d:\n%s", code, out)
	}
	_, _ = os.Stdout.WriteString(out) // a benchmark's log is cut
}

// exportersOfNICs has the programs scraped that are in /lab: each igb has as many virtual
// functions as it can have, and they have igbvf.
func exportersOfNICs(b *testing.B) {
	const vfs = 7
	for _, pf := range labtest.NICs(b, "igb", 2) {
		if err := os.WriteFile("/sys/class/net/"+pf+"/device/sriov_numvfs", fmt.Appendln(nil, vfs), 0); err != nil {
			b.Fatal(err)
		}
	}
	labtest.NICs(b, "igbvf", 2*vfs)
	nstest.IP(b, "link set lo up")
	names := listed(b)
	for _, name := range names {
		nstest.IP(b, "link set "+name+" up")
	}
	labtest.LinksSettle(b) // for each that comes later an agent reads the facts anew, which is no part of a scrape
	traffic := newTraffic(b)
	results := map[string]scraping{}
	for _, one := range exporters("/lab/nictune", "/lab/node_exporter") {
		b.Run(one.name, func(b *testing.B) {
			results[one.name] = scrape(b, one, len(names), traffic)
			results[one.name].report(b)
		})
	}
	for _, one := range barely() {
		b.Run(one.name, func(b *testing.B) {
			bare := benchmarkCalls(b, one, len(names), results[one.of].length, traffic)
			reportCPU(b, bare)
			b.ReportMetric(float64(len(names)), "devices")
			results[one.of].judge(b, one.of, results["node_exporter-default"], results["node_exporter-netlink"], bare)
		})
	}
}
