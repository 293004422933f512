package bench

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nictune/nictune/tuning"
)

// convergedCount is the host that applies nothing: as many NICs as fit a large
// machine.
const convergedCount = 64

// converged is what the NICs of this benchmark have already, of every knob that
// a veth has and ethtool shows.
const converged = `apiVersion: nictune/v1
kind: TuningPolicy
name: converged
match: {driver: veth}
settings:
  channels: {rx: 1, tx: 1}
  features: {gro: on, tso: on, sg: on, rx-checksumming: on}
`

// reading is the script that reads the knobs of that policy.
const reading = `for nic; do
	ethtool -l $nic && ethtool -k $nic || exit 1
done
`

// BenchmarkApply measures, side by side in one run, what it costs to find that
// 64 NICs are as their policy wants them: nictune apply, which writes nothing,
// and a script that reads the same knobs with ethtool.
func BenchmarkApply(b *testing.B) {
	names := devices(b, convergedCount)
	program := build(b)
	dir := b.TempDir()
	policy := filepath.Join(dir, "converged.yaml")
	if err := os.WriteFile(policy, []byte(converged), 0o600); err != nil {
		b.Fatal(err)
	}
	// Once for real, so that there is nothing left to do.
	apply(b, program, policy, dir)
	var script time.Duration

	b.Run("ethtool", func(b *testing.B) { script = benchmarkScript(b, names) })

	b.Run("nictune", func(b *testing.B) {
		var used time.Duration
		for b.Loop() {
			cost, result := apply(b, program, policy, dir)
			used += cost
			if result.Transaction != nil {
				b.Fatalf("a converged host was changed: %+v", result.Transaction.Steps)
			}
		}
		compare(b, "nictune apply", convergedCount, used/time.Duration(b.N), script)
	})
}

// benchmarkScript runs the script, and returns the CPU time of the shell and of all
// that it started.
func benchmarkScript(b *testing.B, names []string) time.Duration {
	var used time.Duration
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), "sh", append([]string{"-c", reading, "sh"}, names...)...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		used += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	used /= time.Duration(b.N)
	reportCPU(b, used)
	b.ReportMetric(float64(2*len(names)), "processes/op")
	return used
}

// apply runs nictune apply and returns its CPU time and what it says it did.
func apply(b *testing.B, program, policy, dir string) (time.Duration, tuning.Result) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), program, "apply", "-f", policy, "--allow", "nic-reset",
		"--state-dir", filepath.Join(dir, "state"), "-o", "json")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var result tuning.Result
	if err := errors.Join(err, json.Unmarshal(out, &result)); err != nil {
		b.Fatal(err)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), result
}
