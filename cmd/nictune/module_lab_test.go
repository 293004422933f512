//go:build lab

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory/module"
	"github.com/nictune/nictune/lab/labtest"
)

// shownModule is what nictune module show says of one, and how it ended.
func shownModule(t *testing.T, args ...string) (*module.Module, string, int) {
	t.Helper()
	stdout, stderr, exit := nictune(t, append([]string{"module", "show", "-o", "json"}, args...)...)
	var shown []plugged
	if err := json.Unmarshal([]byte(stdout), &shown); err != nil || len(shown) != 1 {
		t.Fatalf("%v: exit %d, %s\n%s", args, exit, stderr, stdout)
	}
	return shown[0].Module, stderr, exit
}

// withoutFlags is the same module where nobody read what reading clears.
func withoutFlags(m *module.Module) *module.Module {
	if m.Standard == module.SFF8472 {
		return m
	}
	if m.State != nil {
		m.State.FirmwareFault, m.State.DataPathFault = nil, nil
	}
	for i := range m.Observables {
		m.Observables[i].Flags = nil
	}
	none := func(monitors ...*module.Monitor) {
		for _, v := range monitors {
			if v != nil {
				v.Flags = nil
			}
		}
	}
	if m.DOM != nil {
		none(m.DOM.Temperature, m.DOM.Voltage)
		for i := range m.DOM.Lanes {
			l := &m.DOM.Lanes[i]
			none(l.Bias, l.TXPower, l.RXPower)
			l.TXFault, l.TXLossOfSignal, l.TXLossOfLock, l.TXEqualizerFail, l.RXLossOfSignal, l.RXLossOfLock = nil, nil, nil, nil, nil, nil
		}
	}
	return m
}

// What a driver shows of a module, page by page through the kernel, is what its dump
// says: of an SFP with A2h, a QSFP with pages, and CMIS modules with pages and banks.
func TestModuleShowSaysWhatDecodeSays(t *testing.T) {
	labtest.Require(t, "nics")
	paths, err := filepath.Glob(moduleDumps + "*.hex")
	if err != nil || len(paths) < 7 {
		t.Fatalf("%v, %v", paths, err)
	}
	// No dump has banks: this one has its page 11h again, as lanes 9 to 16.
	banked := labtest.ModuleDump(t, moduleDumps+"edited-cmis-200g-fr4.hex")
	page := func(bank, number uint8) labtest.ModulePage {
		return labtest.ModulePage{Address: 0x50, Bank: bank, Number: number, Upper: true}
	}
	advertised := banked[page(0, 1)]
	advertised[142-128] = advertised[142-128]&^3 | 1
	advertised[127] = 0
	for _, b := range advertised[2:127] {
		advertised[127] += b
	}
	banked[page(1, 0x11)], banked[page(1, 0x13)] = slices.Clone(banked[page(0, 0x11)]), slices.Clone(banked[page(0, 0x13)])
	banked[page(1, 0x11)][186-128] = 0x11 // the received power of lane 9
	path := filepath.Join(t.TempDir(), "banked.hex")
	if err := os.WriteFile(path, banked.Dump(), 0o600); err != nil {
		t.Fatal(err)
	}
	paths = append(paths, path)
	ports := labtest.Netdevsim(t, 23, len(paths))
	for i, path := range paths {
		labtest.Plug(t, ports[i], labtest.ModuleDump(t, path), false)
		stdout, stderr, _ := nictune(t, "module", "decode", "-o", "json", path)
		decode := func() *module.Module {
			var m module.Module
			if err := json.Unmarshal([]byte(stdout), &m); err != nil {
				t.Fatalf("%s: %v, %s", path, err, stderr)
			}
			m.Pages = nil
			return &m
		}
		if path == paths[len(paths)-1] && len(decode().DOM.Lanes) != 16 {
			t.Errorf("%d lanes in two banks", len(decode().DOM.Lanes))
		}
		for _, test := range []struct {
			flags []string
			want  *module.Module
		}{{nil, withoutFlags(decode())}, {[]string{"--flags"}, decode()}} {
			got, stderr, exit := shownModule(t, append(test.flags, ports[i])...)
			got.Pages = nil
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("%s %v:\n%s\nwant\n%s", path, test.flags, asJSON(t, got), asJSON(t, test.want))
			}
			// A page that its publisher left out of a dump, and the module advertises, is told of.
			if exit != exitOK && !strings.Contains(stderr, "no such page") {
				t.Errorf("%s: exit %d, %s", path, exit, stderr)
			}
			t.Logf("%s %v: %d lanes, exit %d %s", filepath.Base(path), test.flags, lanesOf(got), exit, stderr)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func lanesOf(m *module.Module) int {
	if m.DOM == nil {
		return 0
	}
	return len(m.DOM.Lanes)
}

// checkedLink is what nictune check link says of a device, by rule, and its exit status.
func checkedLink(t *testing.T, args ...string) (map[string]findings.Finding, int) {
	t.Helper()
	stdout, stderr, exit := nictune(t, append([]string{"check", "link", "--all", "-o", "json"}, args...)...)
	var r struct {
		Findings []findings.Finding `json:"findings"`
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v: exit %d, %s\n%s", err, exit, stderr, stdout)
	}
	all := map[string]findings.Finding{}
	for _, f := range r.Findings {
		all[f.Rule] = f
	}
	return all, exit
}

// The rules about light and heat, on a module that a driver shows: as it is all pass,
// and with what it measures changed each one fails.
func TestModuleRulesInTheLab(t *testing.T) {
	labtest.Require(t, "nics")
	sfp := labtest.ModuleDump(t, moduleDumps+"sfp-10g-sr-finisar-ftlx8571d3bcl-mup0wb0.hex")
	qsfp := labtest.ModuleDump(t, moduleDumps+"qsfp-40g-sr4-finisar-ftl410qe3c.hex")
	a0, a2 := labtest.ModulePage{Address: 0x50}, labtest.ModulePage{Address: 0x51}
	set := func(memory labtest.ModuleMemory, p labtest.ModulePage, offset int, data ...byte) labtest.ModuleMemory {
		memory = memory.Clone()
		copy(memory[p][offset:], data)
		return memory
	}
	const rx = 104
	good := func(m labtest.ModuleMemory) labtest.ModuleMemory {
		return set(m, a2, 96, 30, 0, 0x80, 0xe8, 0x10, 0x00, 0x16, 0x00, 0x10, 0x00) // 30 degrees, 3.3 V, 8.2 mA, 0.56 and 0.41 mW
	}
	lit := good(sfp)
	clear(lit[a2][110:118])                                                 // no flags of its own
	quiet := set(set(qsfp, a0, 3, make([]byte, 19)...), a0, 52, 0x13, 0x88) // no flag
	lost := set(quiet, a0, 3, 0x02)                                         // RX LOS of lane 2
	cases := []struct {
		name   string
		memory labtest.ModuleMemory
		goesOn bool
		args   []string
		want   map[string]findings.Status
		fails  bool
	}{
		{"as it should be", lit, false, nil, map[string]findings.Status{
			"link/module-checksum": findings.Pass, "link/module-alarm": findings.Pass, "link/module-warning": findings.Pass,
			"link/module-margin": findings.Pass, "link/module-dark": findings.Pass, "link/module-signals": findings.Pass,
		}, false},
		{"too hot", set(lit, a2, 96, 79, 0), false, nil, map[string]findings.Status{"link/module-alarm": findings.Fail}, true},
		{"warm", set(lit, a2, 96, 75, 0), false, nil, map[string]findings.Status{"link/module-alarm": findings.Pass, "link/module-warning": findings.Fail}, true},
		{"close to it", set(lit, a2, 96, 71, 0), false, nil, map[string]findings.Status{"link/module-warning": findings.Pass, "link/module-margin": findings.Fail}, false},
		{"little light", set(lit, a2, rx, 0, 0x50), false, nil, map[string]findings.Status{"link/module-alarm": findings.Fail, "link/module-dark": findings.Pass}, true},
		{"no light", set(lit, a2, rx, 0, 1), false, nil, map[string]findings.Status{"link/module-dark": findings.Fail}, true},
		{"RX LOS of an SFP", set(lit, a2, 110, 2), false, nil, map[string]findings.Status{"link/module-signals": findings.Fail}, true},
		{"a checksum that does not hold", set(lit, a0, 40, 'X'), false, nil, map[string]findings.Status{"link/module-checksum": findings.Fail, "link/module-alarm": findings.Unknown}, true},
		{"flags that nobody asked for", lost, true, nil, map[string]findings.Status{"link/module-signals": findings.Unknown}, false},
		{"flags of now", lost, true, []string{"--flags"}, map[string]findings.Status{"link/module-signals": findings.Fail}, true},
		{"flags of the past", lost, false, []string{"--flags"}, map[string]findings.Status{"link/module-signals": findings.Pass}, false},
	}
	ports := labtest.Netdevsim(t, 24, len(cases))
	for i, c := range cases {
		name := ports[i]
		labtest.Run(t, "ip", "link", "set", name, "up")
		labtest.Eventually(t, "a carrier", func() bool {
			b, _ := os.ReadFile("/sys/class/net/" + name + "/carrier")
			return strings.TrimSpace(string(b)) == "1"
		})
		labtest.Ethtool(t, "-s", name, "speed", "10000", "duplex", "full", "autoneg", "off") // which all of them can do
		labtest.Plug(t, name, c.memory, c.goesOn)
		all, exit := checkedLink(t, append(c.args, name)...)
		for rule, want := range c.want {
			f := all[rule]
			t.Logf("%s: %s %s: %s", c.name, rule, f.Status, f.Seen)
			if f.Status != want {
				t.Errorf("%s: %s is %s, want %s", c.name, rule, f.Status, want)
			}
		}
		if fails := exit == exitDifferences; fails != c.fails {
			t.Errorf("%s: exit %d", c.name, exit)
			for rule, f := range all {
				if f.Status == findings.Fail {
					t.Logf("%s: %s", rule, f.Seen)
				}
			}
		}
	}
}

// An agent's metrics of a module are what the module says, and processes on one host
// share what they read of it: one by one, what is measured once a minute, another
// module at once.
func TestModuleMetricsAndProcesses(t *testing.T) {
	labtest.Require(t, "nics")
	name := labtest.Netdevsim(t, 25, 1)[0]
	labtest.Run(t, "ip", "link", "set", name, "up")
	memory := labtest.ModuleDump(t, moduleDumps+"qsfp-40g-sr4-finisar-ftl410qe3c.hex")
	lower := labtest.ModulePage{Address: 0x50}
	memory[lower][22], memory[lower][23] = 33, 0
	labtest.Plug(t, name, memory, false)

	begun := time.Now()
	s := startInProcess(t, "--reconcile=off", "--pause=1s")
	base := "http://" + s.address(t)
	var page string
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if _, page = get(t, base+"/metrics"); strings.Contains(page, `nictune_module_temperature_celsius{device="`+name+`"`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no module within a minute:\n%s\n%s", s.log, strings.Join(regexp.MustCompile("(?m)^nictune_.*module.*$").FindAllString(page, -1), "\n"))
		}
	}
	shown, _, _ := shownModule(t, name)
	value := func(labels string) float64 {
		t.Helper()
		found := regexp.MustCompile(`(?m)^nictune_module_` + regexp.QuoteMeta(labels) + ` (\S+)$`).FindStringSubmatch(page)
		if found == nil {
			t.Fatalf("no %s", labels)
		}
		v, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	near("temperature", value(`temperature_celsius{device="`+name+`"}`), 33)
	near("voltage", value(`voltage_volts{device="`+name+`"}`), shown.DOM.Voltage.Value)
	for _, l := range shown.DOM.Lanes {
		if l.RXPower.Light == "" {
			near("received light", value(fmt.Sprintf(`rx_power_watts{device=%q,lane="%d"}`, name, l.Number)), l.RXPower.Value/1000)
		}
	}
	near("a threshold", value(`temperature_threshold_celsius{device="`+name+`",threshold="high-alarm"}`), shown.DOM.Thresholds.Temperature.HighAlarm.Value)

	// It is hotter now, and others are asked within the minute.
	process := func() *module.Module {
		t.Helper()
		cmd := exec.Command("/proc/self/exe", "module", "show", "-o", "json", name)
		cmd.Env = append(os.Environ(), asProgram+"=1")
		stdout, err := cmd.Output()
		var shown []plugged
		if err != nil || json.Unmarshal(stdout, &shown) != nil || len(shown) != 1 {
			t.Fatalf("%v: %s", err, stdout)
		}
		return shown[0].Module
	}
	memory[lower][22] = 44
	labtest.Plug(t, name, memory, false)
	// A machine that is too busy may take more than that minute to get here.
	if got := process().DOM.Temperature.Value; got != 33 && (got != 44 || time.Since(begun) < time.Minute) {
		t.Errorf("%v degrees within a minute, 33 were read", got)
	}
	if err := os.RemoveAll(sharedFolder); err != nil {
		t.Fatal(err)
	}
	if got := process().DOM.Temperature.Value; got != 44 {
		t.Errorf("%v degrees where nothing is shared", got)
	}
	memory[labtest.ModulePage{Address: 0x50, Upper: true}][196-128] = 'X' // another serial number
	memory[lower][22] = 55
	labtest.Plug(t, name, memory, false)
	if got := process().DOM; got == nil || got.Temperature.Value != 55 {
		t.Errorf("%+v of another module", got)
	}
}
