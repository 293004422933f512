package terminal

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory/module"
)

// Another folder of dumps can be compared:
// go test ./exporters/terminal -run Reference -v -args -dumps DIR
var moreDumps = flag.String("dumps", "", "compare the dumps in this `folder`, too")

// decodeText is what `nictune module decode` prints.
func decodeText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dumps, err := module.ParseDump(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(dumps) != 1 {
		t.Fatalf("%d modules in %s", len(dumps), path)
	}
	m, err := module.Decode(&dumps[0].Image)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := Module(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// referenceFaults are where ethtool 6.1 says something else, and why ours holds.
// A line of the reference that matches is not looked for.
var referenceFaults = []struct{ line, why string }{
	{`: (0m|0km|0nm|0%|0\.00m|0\.000nm|0db|0\.00W|0Mbps|_*)$|:$`, "ethtool prints what the module does not say"},
	{`^Vendor OUI +: 00:00:00$`, "no vendor has this one"},
	{`: 0\.0000 mW / -inf dBm$|: 0\.000 mA$|^Module voltage +: 0\.0000 V$|^Module temperature +: 0\.00 deg`, "zeros of a copper cable, or of a monitor that the module does not have: a value that we print is compared below"},
	{`^Alarm/warning flags implemented +: No$`, "means only that page 03h was not read"},
	{`^BR, Nominal +: 25500Mbps$`, "ffh of byte 140 sends to byte 222 (SFF-8636 6.3.9), which ethtool does not read"},
	{`^Length \(Copper\) +: 10m$`, "byte 18 of an optical module is its reach on OM4, in units of 10 m (SFF-8472 6.5)"},
	{`^Length \(Copper or Active cable\) +: 75m$`, "byte 146 of an optical module is its reach on OM4, in units of 2 m (SFF-8636 6.3.12)"},
	{`^Identifier +: 0x1e \(reserved or unknown\)$`, "QSFP with CMIS, newer than ethtool 6.1"},
	{`^Revision Compliance +: Unallocated$`, "SFF-8636 2.8 and later"},
	{`^Passive Cu cmplnce\.`, "compared by the code below"},
	{`^Extended identifier description +: (3\.5W max|4\.[05]W max)`, "ethtool prints the class of bits 6 and 7 also where bits 0 and 1 replace it"},
	{`FC: Multimode, 50m \(M5\)$`, "a spelling mistake for 50um"},
	{`: 0x07 \(\(256B`, "two parentheses"},
	{`^Transmitter technology +: 0x0a \(Copper cable, unequalized\)$`, "a comma that ethtool has for CMIS and not for SFF-8636"},
	{`^Transceiver type +: 100G Ethernet: 100G Base-LR4$`, "the code is 25GBASE-LR, too"},
	{`^Date code +: .*_$`, "bytes without characters"},
}

// laneFlag is a flag of a CMIS lane. ethtool 6.1 tests the lane's number where
// its bit is meant, and so shows the flags of other lanes.
var laneFlag = regexp.MustCompile(`\(Chan(nel)? \d\) +: (On|Off)$`)

var (
	spaces  = regexp.MustCompile(`\s+`)
	remarks = regexp.MustCompile(` \((unused|dark|(HIGH|LOW)-\w+|dark, \S+)\)$| or more$`)
)

// normal lets lines be compared that differ in blanks and in what we add.
func normal(line string) string {
	line = strings.ReplaceAll(strings.TrimSpace(line), "power(", "power (")
	return remarks.ReplaceAllString(spaces.ReplaceAllString(line, " "), "")
}

// computed are dumps that ethtool 6.1 can't print, since it asks for pages that their
// publishers left out, with what their bytes mean by the standard's formula.
var computed = map[string][]string{
	"qsfpdd-cisco-68-103205-02": {
		"Power class : 8", "Max power : 30.00W", "Module State : 0x03 (ModuleReady)", "Revision compliance : Rev. 4.0",
		"Media type : 0x03 (passive or linear active copper)", "Module temperature : 23.00 degrees C / 73.40 degrees F", "Module voltage : 3.3280 V",
	},
	"qsfpdd-cmis-page11-sonic-sample": {
		"Data path (Channel 1) : 0x04 (DPActivated), application 2", "Data path (Channel 8) : 0x04 (DPActivated), application 2",
		"Rx loss of signal (Channel 2) : No", "Rx loss of signal (Channel 3) : Yes", "Rx loss of signal (Channel 4) : Yes", "Rx loss of signal (Channel 5) : No",
		"Rx loss of lock (Channel 2) : No", "Rx loss of lock (Channel 3) : Yes", "Rx loss of lock (Channel 4) : Yes", "Rx loss of lock (Channel 5) : No",
		"Laser rx power low alarm (Channel 2) : Off", "Laser rx power low alarm (Channel 3) : On", "Laser rx power low warning (Channel 4) : On", "Laser rx power high alarm (Channel 3) : Off",
		"Transmit avg optical power (Channel 1) : 1.9422 mW / 2.88 dBm", "Transmit avg optical power (Channel 2) : 2.0050 mW / 3.02 dBm",
		"Transmit avg optical power (Channel 3) : 1.9480 mW / 2.90 dBm", "Transmit avg optical power (Channel 4) : 1.8684 mW / 2.71 dBm", "Transmit avg optical power (Channel 5) : 0.0000 mW / -inf dBm",
		"Laser tx bias current (Channel 1) : 44.942 mA", "Laser tx bias current (Channel 3) : 47.444 mA", "Laser tx bias current (Channel 4) : 49.946 mA", "Laser tx bias current (Channel 5) : 0.000 mA",
		"Rcvr signal avg optical power (Channel 1) : 1.8259 mW / 2.61 dBm", "Rcvr signal avg optical power (Channel 2) : 1.6373 mW / 2.14 dBm",
		"Rcvr signal avg optical power (Channel 3) : 0.0001 mW / -40.00 dBm", "Rcvr signal avg optical power (Channel 8) : 0.0000 mW / -inf dBm",
	},
	"sfp-EXTCAL-a2only-sonic449": {
		"Calibration : external", "Receiver signal average optical power : 0.0209 mW / -16.80 dBm", "Laser bias current : 32.028 mA",
		"Laser output power : 0.4736 mW / -3.25 dBm", "Module temperature : 64.00 degrees C / 147.20 degrees F", "Module voltage : 3.3020 V",
	},
}

// A dump of which nothing was compared agrees with nothing.
func TestModuleAgreesWithReference(t *testing.T) {
	compared := 0
	folders := []string{"../../inventory/module/testdata"}
	if *moreDumps != "" {
		folders = append(folders, *moreDumps)
	}
	for _, folder := range folders {
		paths, err := filepath.Glob(filepath.Join(folder, "*.expected"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no dumps in %s: %v", folder, err)
		}
		for _, path := range paths {
			t.Run(filepath.Base(path), func(t *testing.T) {
				lines := compareReference(t, path)
				if lines == 0 {
					t.Error("nothing was compared: it has no REFERENCE, and computed doesn't name it")
				}
				compared += lines
			})
		}
	}
	t.Logf("%d lines agree", compared)
}

func compareReference(t *testing.T, path string) (compared int) {
	expected, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(decodeText(t, strings.TrimSuffix(path, ".expected")+".hex")) {
		got = append(got, normal(line))
	}
	name := strings.TrimSuffix(filepath.Base(path), ".expected")
	for _, want := range computed[name] {
		if !slices.Contains(got, want) {
			t.Errorf("by the standard's formula it is %q, which we don't print", want)
		}
		compared++
	}
	cmis := strings.Contains(string(expected), "mode cmis")
next:
	for line := range strings.Lines(string(expected)) {
		if !strings.HasPrefix(line, "\t") || cmis && laneFlag.MatchString(strings.TrimSpace(line)) {
			continue
		}
		want := strings.TrimSpace(line)
		if slices.Contains(got, normal(want)) {
			compared++
			continue
		}
		for _, fault := range referenceFaults {
			if regexp.MustCompile(fault.line).MatchString(want) {
				continue next
			}
		}
		t.Errorf("ethtool prints %q, we don't", want)
	}
	return compared
}

// What the modules at hand do not have is in words, too: the optional monitors of an
// SFP with a cooled laser, and equalizers that failed.
func TestModuleOptionalMonitors(t *testing.T) {
	limit := func(v float64) module.Level { return module.Level{Value: v, Unit: "°C"} }
	m := &module.Module{
		Standard: module.SFF8636,
		DOM: &module.DOM{Lanes: []module.Lane{
			{Number: 1, TXEqualizerFail: new(true)}, {Number: 2, TXEqualizerFail: new(false)}, {Number: 3},
		}},
		Observables: []module.Observable{
			{
				Name: "laser temperature", Value: 57, Unit: "°C", Verdict: "high-warning", Flags: &module.Flags{HighWarning: true},
				Thresholds: &module.Range{HighAlarm: limit(60), LowAlarm: limit(40), HighWarning: limit(55), LowWarning: limit(45)},
			},
			{Name: "TEC current", Value: -40, Unit: "mA"},
		},
	}
	var b strings.Builder
	if err := Module(&b, m); err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(` +`).ReplaceAllString(b.String(), " ")
	for _, want := range []string{
		"Tx adaptive eq fault (Channel 1) : Yes\n", "Tx adaptive eq fault (Channel 2) : No\n", "\tTEC current : -40.000 mA\n",
		"\tlaser temperature : 57.00 degrees C / 134.60 degrees F (HIGH-WARNING), alarm above 60.00 degrees C", ", high warning raised\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "eq fault (Channel 3)") {
		t.Errorf("a fault that is not reported:\n%s", text)
	}
}
