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

// converged is a host of one kind of NIC, and what its NICs have already of every knob
// that they have and ethtool shows.
type converged struct {
	kind     string
	add      string // for ip -batch, with the NIC's name
	settings string
	groups   []string // ethtool's options that read them
}

var convergedHosts = []converged{
	{
		"veth", veths,
		"  channels: {rx: 1, tx: 1}\n  features: {gro: on, tso: on, sg: on, rx-checksumming: on}\n",
		[]string{"-l", "-k"},
	},
	{
		"tap", "tuntap add %s mode tap\ntuntap add %s mode tap\n",
		"  features: {gro: on, tx-nocache-copy: off}\n  coalesce: {rx-frames: 12}\n  link: {speed: 10000, duplex: full}\n",
		[]string{"-k", "-c", ""},
	},
}

func (f converged) policy() string {
	return "apiVersion: nictune/v1\nkind: TuningPolicy\nname: converged\nmatch: {name: 'nic*'}\nsettings:\n" + f.settings
}

// BenchmarkApply measures, side by side in one run, what it costs to find that
// 64 NICs are as their policy wants them: nictune apply, which writes nothing,
// and a script that reads the same knobs with ethtool.
func BenchmarkApply(b *testing.B) {
	program := build(b)
	for _, host := range convergedHosts {
		b.Run(host.kind, func(b *testing.B) {
			names := devices(b, convergedCount, host.add)
			defer remove(b, names)
			dir := b.TempDir()
			policy := filepath.Join(dir, "converged.yaml")
			if err := os.WriteFile(policy, []byte(host.policy()), 0o600); err != nil {
				b.Fatal(err)
			}
			// Once for real, so that there is nothing left to do.
			apply(b, program, policy, dir)
			var script time.Duration

			b.Run("ethtool", func(b *testing.B) { script = benchmarkScript(b, names, host.groups) })

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
		})
	}
}

// benchmarkScript runs the script, and returns the CPU time of the shell and of all
// that it started.
func benchmarkScript(b *testing.B, names, groups []string) time.Duration {
	script := "for nic; do\n"
	for _, group := range groups {
		script += "\tethtool " + group + " $nic || exit 1\n"
	}
	script += "done\n"
	var used time.Duration
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), "sh", append([]string{"-c", script, "sh"}, names...)...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		used += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	used /= time.Duration(b.N)
	reportCPU(b, used)
	b.ReportMetric(float64(len(groups)*len(names)), "processes/op")
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
