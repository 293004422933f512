//go:build labhost

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// everyKnob is what 64 simulated NICs have already, of every knob that ethtool
// shows and they have.
const everyKnob = `apiVersion: nictune/v1
kind: TuningPolicy
name: every-knob
match: {driver: netdevsim}
settings:
  channels: {combined: 4}
  rings: {rx: 1024, tx: 1024}
  coalesce: {rx-usecs: 8, rx-frames: 32, tx-usecs: 16}
  pause: {rx: on, tx: on}
  features: {gro: on, tso: on}
  rss: {equal: 4}
`

// noOp times, in a machine of the lab, a shell script that reads the knobs of the
// policy from each NIC with ethtool, and nictune apply, ten times each. The
// shell's own account of its children says what they used.
const noOp = `
modprobe -a ptp_mock netdevsim && echo "10 64 4" >/sys/bus/netdevsim/new_device || exit 1
nics=$(ls /sys/bus/netdevsim/devices/netdevsim10/net)
apply='/lab/nictune apply -f /lab/every-knob.yaml --allow nic-reset --state-dir /tmp/state'
$apply >/tmp/first 2>&1 || { cat /tmp/first; exit 1; }
cat >/tmp/script <<'SCRIPT'
for nic in $(ls /sys/bus/netdevsim/devices/netdevsim10/net); do
	for group in -l -g -c -a -k -x; do ethtool $group $nic || exit 1; done
done
SCRIPT
set -- $nics; echo "nics $#"
used() { n=0; ( while [ $n -lt $1 ]; do eval "$3" >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }; n=$((n+1)); done; times >/tmp/times ); sed -n "\$s/^/$2 /p" /tmp/times; }
used 2 script 'sh /tmp/script'
used 10 apply "$apply"
cat /tmp/out
/lab/nictune history --state-dir /tmp/state
`

// BenchmarkApplyInTheLab measures what BenchmarkApply does on NICs that have
// more knobs than a veth, in a machine of the lab.
func BenchmarkApplyInTheLab(b *testing.B) {
	policy := filepath.Join(b.TempDir(), "every-knob.yaml")
	if err := os.WriteFile(policy, []byte(everyKnob), 0o600); err != nil {
		b.Fatal(err)
	}
	vm := labtest.VM{Files: []string{build(b), policy}}
	for b.Loop() {
		out, code := vm.Run(b, noOp)
		script, ok1 := childrenTime(out, "script")
		apply, ok2 := childrenTime(out, "apply")
		if code != 0 || !ok1 || !ok2 {
			b.Fatalf("exit code %d:\n%s", code, out)
		}
		b.Log(out)
		script, apply = script/2, apply/10
		b.ReportMetric(script, "script-cpu-s")
		b.ReportMetric(apply, "apply-cpu-s")
		b.ReportMetric(script/apply, "x-less-cpu-than-ethtool")
	}
}

// childrenTime reads the second line of the shell's times: user and system time
// of its children, as 0m1.230s.
func childrenTime(out, what string) (seconds float64, ok bool) {
	m := regexp.MustCompile(`(?m)^` + what + ` (\d+)m([\d.]+)s (\d+)m([\d.]+)s`).FindStringSubmatch(out)
	if m == nil {
		return 0, false
	}
	for i, unit := range []float64{60, 1, 60, 1} {
		n, err := strconv.ParseFloat(m[i+1], 64)
		if err != nil {
			panic(fmt.Sprint("the expression lets through ", m[i+1]))
		}
		seconds += n * unit
	}
	return seconds, true
}
