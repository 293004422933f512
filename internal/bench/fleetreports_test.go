package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet"
	"github.com/nictune/nictune/inventory"
)

// BenchmarkFleetReports streams the audit reports of many hosts through nictune fleet
// report, and measures its memory: it must not grow with how many there are, but for
// what tells two hosts apart.
func BenchmarkFleetReports(b *testing.B) {
	program := build(b)
	s := newReportFleet(b)
	var least float64
	for _, hosts := range []int{1000, 10000, 100000} {
		b.Run(fmt.Sprint(hosts, "-hosts"), func(b *testing.B) {
			var peak, used, bytes float64
			for b.Loop() {
				cmd := exec.CommandContext(b.Context(), program, "fleet", "report", "--reports", "-", "--max-age", "0", "-o", "json", "--spool-dir", b.TempDir())
				input, err := cmd.StdinPipe()
				if err != nil {
					b.Fatal(err)
				}
				var out strings.Builder
				cmd.Stdout, cmd.Stderr = &out, os.Stderr
				if err := cmd.Start(); err != nil {
					b.Fatal(err)
				}
				written, err := s.write(input, hosts)
				if err != nil {
					b.Error(err)
				}
				input.Close()
				if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 2 {
					b.Fatalf("findings make it exit with 2: %v", err)
				}
				usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
				if !ok {
					b.Fatal("no account of the program's memory")
				}
				peak = max(peak, float64(usage.Maxrss)/1024)
				used += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
				bytes += float64(written)
				s.check(b, out.String(), hosts)
			}
			b.ReportMetric(peak, "peak-MiB")
			b.ReportMetric(used/float64(b.N), "cpu-s/op")
			b.ReportMetric(bytes/float64(b.N)/(1<<20), "input-MiB/op")
			b.ReportMetric(float64(hosts), "hosts")
			if least == 0 {
				least = peak
			} else {
				b.Logf("%d hosts: %.0f MiB at most, %.0f more than 1,000 need", hosts, peak, peak-least)
			}
		})
	}
}

// reportFleet makes audit reports of hosts with four NICs of 8 VFs each, varied and
// always the same.
type reportFleet struct {
	kinds  [][][]byte // reports without the host's name, in pieces
	counts []map[findings.Status]int
}

// hostKinds is how many different hosts there are, but for their names.
const hostKinds = 64

const nameless = "@@HOST@@"

// newReportFleet varies the report of a host of the lab: four of its NICs, whose
// models, firmware, links, modules and findings are others on each kind of host.
func newReportFleet(tb testing.TB) *reportFleet {
	tb.Helper()
	text, err := os.ReadFile("../../audit/testdata/reports/lab-nics.json")
	if err != nil {
		tb.Fatal(err)
	}
	s := &reportFleet{}
	random := rand.New(rand.NewPCG(6, 6))
	for range hostKinds {
		var r audit.HostReport
		if err := json.Unmarshal(text, &r); err != nil {
			tb.Fatal(err)
		}
		vary(&r, random)
		counts := map[findings.Status]int{}
		for _, f := range r.Findings {
			counts[f.Status]++
		}
		r.Counts = counts
		text, err := json.Marshal(r)
		if err != nil {
			tb.Fatal(err)
		}
		s.kinds = append(s.kinds, bytes.Split(append(text, '\n'), []byte(nameless)))
		s.counts = append(s.counts, counts)
	}
	return s
}

func vary(r *audit.HostReport, random *rand.Rand) {
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	r.Host.Name, r.Host.MachineID = nameless, "id of "+nameless
	r.CollectedAt = time.Date(2026, 7, 1, 12, random.IntN(60), 0, 0, time.UTC)
	var kept []audit.NICSummary
	ids := map[string]bool{"host": true}
	for _, n := range r.NICs {
		if n.PCI == nil || n.Kind == inventory.VF || len(kept) == 4 {
			continue
		}
		ids[n.ID] = true
		n.PCI.Vendor, n.PCI.Device = "Intel Corporation", pick("Ethernet Controller E810-C", "Ethernet Controller X710", "Ethernet Controller XXV710")
		n.Firmware, n.Driver = pick("4.20 0x8001", "4.30 0x8002", "4.40 0x8003"), pick("ice", "i40e")
		speed, most, total, enabled := 25000, 25000, 64, 8
		if random.IntN(20) == 0 {
			speed = 10000
		}
		downs := uint64(random.IntN(3))
		n.Link.SpeedMbps, n.Link.MaxSpeedMbps, n.Link.Downs = &speed, &most, &downs
		margin, above := float64(random.IntN(80))/10, 5.0
		n.Module = &audit.ModuleBrief{Vendor: "ACME", PartNumber: "SFP28-SR", SerialNumber: fmt.Sprint(random.Uint32())}
		n.Module.Measured = []audit.Measured{{Quantity: "rx-power", Lane: 1, Value: &margin, Unit: "dBm", Verdict: "ok", Margins: &audit.Margins{LowWarning: &margin, HighWarning: &above}}}
		n.SRIOV = &audit.SRIOVSummary{NumVFs: &enabled, TotalVFs: &total}
		for i := range enabled {
			n.SRIOV.VFs = append(n.SRIOV.VFs, audit.VFSummary{Index: i, Address: fmt.Sprintf("0000:3b:01.%d", i), Driver: pick("iavf", "vfio-pci"), IOMMU: &audit.IOMMUGroup{Group: 40 + i}})
		}
		n.Readiness = map[string]string{"l4lb": pick(audit.Ready, audit.NotReady), "af-xdp": pick(audit.Ready, audit.ReadyUnknown)}
		kept = append(kept, n)
		r.Drift = append(r.Drift, audit.DriftSummary{Policy: "edge", NIC: n.ID, Name: n.Name, Setting: "rings", Status: pick(audit.AsWanted, audit.AsWanted, audit.Drifted)})
	}
	r.NICs = kept
	r.Findings = slices.DeleteFunc(r.Findings, func(f findings.Finding) bool { return !ids[f.Subject.ID] })
	for i := range r.Findings {
		f := &r.Findings[i]
		f.Subject.Host = nameless
		if f.Status == findings.Pass && random.IntN(50) == 0 {
			f.Status, f.Why, f.Remedy = findings.Fail, "It matters.", "Mend it."
		}
	}
}

// write writes the reports of so many hosts in lines, and says how long that was.
func (s *reportFleet) write(w io.Writer, hosts int) (n int, err error) {
	out := bufio.NewWriterSize(w, 1<<20)
	for i := range hosts {
		name := fmt.Sprintf("host-%06d", i)
		for j, piece := range s.kinds[i%hostKinds] {
			if j > 0 {
				_, _ = out.WriteString(name) // Flush returns the first error
				n += len(name)
			}
			_, _ = out.Write(piece)
			n += len(piece)
		}
	}
	return n, out.Flush()
}

// check holds the fleet's report against the sum of the hosts'.
func (s *reportFleet) check(b *testing.B, text string, hosts int) {
	b.Helper()
	r, err := fleet.Decode(strings.NewReader(text))
	if err != nil {
		b.Fatal(err)
	}
	want := map[findings.Status]int{}
	for i := range hosts {
		for status, n := range s.counts[i%hostKinds] {
			want[status] += n
		}
	}
	for status, n := range want {
		if r.Counts[status] != n {
			b.Errorf("%d findings %s, want %d", r.Counts[status], status, n)
		}
	}
	if r.Scope.Hosts != hosts || r.Scope.NICs != 4*hosts || r.Scope.VFs != 32*hosts || len(r.Problems.List) > 0 {
		b.Errorf("%d hosts, %d NICs, %d VFs, want %d hosts with 4 of 8; problems %+v", r.Scope.Hosts, r.Scope.NICs, r.Scope.VFs, hosts, r.Problems.List)
	}
}
