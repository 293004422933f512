package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nictune/nictune/inventory"
)

func compiled(t testing.TB, text string) *Condition {
	t.Helper()
	c, err := conditions(t).Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func conditions(t testing.TB) *Conditions {
	t.Helper()
	c, err := NewConditions()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What is not known is neither true nor false, whatever is built around it; what
// does not need it is decided.
func TestConditions(t *testing.T) {
	nic := &nics()[0]
	nic.Link = inventory.Link{Admin: "up", MTU: new(1500)}
	nic.NUMA = &inventory.NUMA{Node: new(0)}
	nic.Offloads.Features = map[string]inventory.Feature{"rx-gro": {Active: true}}
	nic.IRQs = []inventory.IRQ{{Number: 30}, {Number: 31}}
	nic.PCI.SRIOV = &inventory.SRIOV{TotalVFs: 8}
	nic.Unread = []inventory.Unread{
		{Fact: "link.speedMbps", Reason: inventory.Denied}, {Fact: "offloads.tunables", Reason: inventory.Failed}, {Fact: "queues.coalesce", Reason: inventory.Unsupported},
		{Fact: "link.protoDown", Reason: inventory.Failed},
	}
	host := &Host{Host: inventory.Host{Hostname: "web1", Kernel: "6.18.0"}, Labels: map[string]string{"role": "edge"}, Unread: []inventory.Unread{{Fact: "machine", Reason: inventory.Denied}}}
	for text, want := range map[string]string{
		`nic.driver.name == "igb"`:                                "true",
		`nic.function == "pf" && nic.index == 2`:                  "true",
		`nic.link.mtu >= 1500 && nic.link.mtu < 1500.5`:           "true",
		`nic.numa.node == 0`:                                      "true",
		`"uplink" in nic.altNames`:                                "true",
		`nic.altNames.exists(n, n.startsWith("enp"))`:             "true",
		`nic.irqs.map(i, i.number).exists(n, n == 31)`:            "true",
		`size(nic.irqs) == 2 && nic.irqs[1].number == 31`:         "true",
		`nic.offloads.features["rx-gro"].active`:                  "true",
		`nic.name.matches("^eth[0-9]$")`:                          "true",
		`host.kernel.startsWith("6.") && host.hostname == "web1"`: "true",
		`host.labels.role == "edge" && host.labels["role"] != ""`: "true",
		`nic.pci.sriov.totalVfs > 8`:                              "false",
		`nic.pci.sriov.numVfs == 0`:                               "true", // a zero that the kernel said
		// not known
		`nic.link.speedMbps > 1000`:                   "nic.link.speedMbps is not known (denied)",
		`!(nic.link.speedMbps > 1000)`:                "nic.link.speedMbps is not known (denied)",
		`nic.link.speedMbps != 1000`:                  "nic.link.speedMbps is not known (denied)",
		`nic.link.speedMbps > 1000 ? true : true`:     "nic.link.speedMbps is not known (denied)",
		`nic.link.speedMbps > 1000 && nic.index == 2`: "nic.link.speedMbps is not known (denied)",
		`!nic.link.protoDown`:                         "nic.link.protoDown is not known (failed)",
		`nic.link.duplex == "full"`:                   "nic.link.duplex is not known",
		`nic.link.duplex != "full"`:                   "nic.link.duplex is not known",
		`nic.driver.firmware != ""`:                   "nic.driver.firmware is not known",
		`nic.devlink.fixed["fw"] == "1"`:              "nic.devlink.fixed is not known",
		`nic.queues.coalesce.values["rx-usecs"] > 3`:  "nic.queues.coalesce.values is not known (unsupported)",
		`size(nic.offloads.tunables) == 0`:            "nic.offloads.tunables is not known (failed)",
		`nic.offloads.features["rx-lro"].active`:      `the key "rx-lro" is not known`,
		`nic.irqs[7].number == 1`:                     "the item 7 is not known",
		`nic.irqs.exists(i, i.affinity == "0")`:       "nic.irqs[].affinity is not known",
		`host.labels.rack == "r1"`:                    `the key "rack" is not known`,
		`host.machine.vendor == "x"`:                  "host.machine.vendor is not known (denied)",
		`host.distribution.contains("x")`:             "host.distribution is not known",
		// decided all the same
		`nic.link.speedMbps > 1000 || nic.index == 2`:                  "true",
		`nic.index == 3 && nic.link.speedMbps > 1000`:                  "false",
		`nic.link.speedMbps > 1000 && nic.index == 3`:                  "false",
		`!(nic.link.speedMbps > 1000 && nic.index == 3)`:               "true",
		`has(nic.link.speedMbps)`:                                      "false",
		`!has(nic.link.speedMbps) || nic.link.speedMbps > 1000`:        "true",
		`has(nic.link.speedMbps) && nic.link.speedMbps > 1000`:         "false",
		`has(nic.link.protoDown) || has(nic.queues.coalesce.values)`:   "false",
		`has(nic.pci) && has(nic.pci.sriov) && has(nic.link)`:          "true",
		`has(nic.devlink.fixed) || has(nic.devlink) || has(nic.alias)`: "false",
		`has(nic.offloads.features) && has(nic.link.mtu)`:              "true",
		`has(host.labels.rack) || "rack" in host.labels`:               "false",
		`"rx-lro" in nic.offloads.features`:                            "false",
		`size(nic.multicast.memberships) == 0`:                         "true", // asked, and none
		`nic.?link.?speedMbps.orValue(10) == 10`:                       "true",
		`nic.?devlink.?fixed.hasValue()`:                               "false",
		`nic.?pci.?sriov.?totalVfs.orValue(0) == 8`:                    "true",
		`host.labels[?"rack"].orValue("none") == "none"`:               "true",
		// errors
		`1 / (nic.index - 2) == 1`: "division by zero",
		`[1,2,3,4].all(a,[1,2,3,4].all(b,[1,2,3,4].all(c,[1,2,3,4].all(d,[1,2,3,4].all(e,[1,2,3,4].all(f,[1,2,3,4].all(g,[1,2,3,4].all(h,a+b+c+d>0))))))))`: "it takes more than 100000 steps",
	} {
		holds, err := compiled(t, text).Holds(nic, host)
		got := strconv.FormatBool(holds)
		if err != nil {
			got = err.Error()
			var unknown *UnknownError
			if errors.As(err, &unknown) != strings.Contains(want, "not known") {
				t.Errorf("%s: %#v", text, err)
			}
			if holds {
				t.Errorf("%s holds with an error", text)
			}
		}
		if got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}

// What is wrong with a condition, and the characters that it points at.
func TestConditionFaults(t *testing.T) {
	c := conditions(t)
	for text, want := range map[string]string{
		`nic.drvier.name == "x"`:               `4+6 unknown fact "drvier"; did you mean "driver"?`,
		`nic.link.speed > 1`:                   `9+5 unknown fact "speed"`,
		`nic.irqs[0].num == 1`:                 `12+3 unknown fact "num"`,
		`nics.name == "x"`:                     `0+4 unknown name "nics"; did you mean "nic"?`,
		`nic.name.startWith("x")`:              `18+1 unknown name "startWith"; did you mean "startsWith"?`,
		`nic.name == 3`:                        `9+1 there is no == for (string, int)`,
		`nic.name`:                             `0+8 a condition is true or false, and this is string`,
		`nic.pci == null`:                      `11+4 no fact is null: has(nic.pci) says whether it is known`,
		`nic.pci != nic.pci`:                   `8+2 PCI is a group of facts: compare them one by one`,
		`[nic.pci] == [nic.pci]`:               `10+2 PCI is a group of facts`,
		`nic.irqs[0] in nic.irqs`:              `12+2 IRQ is a group of facts`,
		`dyn(nic.devlink) != 3`:                `17+2 dyn is a group of facts`,
		`nic.name.matches("[")`:                `17+1 this is no regular expression`,
		`nic.name ==`:                          `11+1 the condition ends too early`,
		`"größe" == nic.nme`:                   `15+3 unknown fact "nme"; did you mean "name"?`,
		"nic.index == 2 &&\n  nic.nme == \"\"": `24+3 unknown fact "nme"; did you mean "name"?`,
		strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200): "0+1 expression recursion limit exceeded: 32",
		strings.Repeat("a", maxCondition+1):                          "0+1 a condition of more than 4096 bytes",
	} {
		condition, err := c.Compile(text)
		if condition != nil || err == nil {
			t.Errorf("%s: no fault", text)
			continue
		}
		var fault *ConditionError
		if !errors.As(err, &fault) {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := fmt.Sprintf("%d+%d %s", fault.Offset, fault.Width, fault.Problem); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// Every fact of the inventory's JSON form is in conditions, under its name there
// and with its value.
func TestEveryFact(t *testing.T) {
	nic, host := &inventory.NIC{}, &Host{}
	next := 0
	populate(reflect.ValueOf(nic).Elem(), &next)
	populate(reflect.ValueOf(&host.Host).Elem(), &next)
	host.Labels = map[string]string{"role": "edge"}
	nic.Unread = nil
	var equalities []string
	for variable, v := range map[string]any{"nic": nic, "host": host} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var facts map[string]any
		if err := json.Unmarshal(text, &facts); err != nil {
			t.Fatal(err)
		}
		equalities = append(equalities, leaves(variable, facts)...)
	}
	if len(equalities) < 250 {
		t.Errorf("only %d facts", len(equalities))
	}
	c := conditions(t)
	for _, text := range equalities {
		condition, err := c.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if holds, err := condition.Holds(nic, host); !holds || err != nil {
			t.Errorf("%s: %v %v", text, holds, err)
		}
	}
	t.Logf("%d facts", len(equalities))
}

// populate gives every field a value of its own.
func populate(v reflect.Value, next *int) {
	*next++
	switch kind := v.Kind(); {
	case kind == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		populate(v.Elem(), next)
	case kind == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				populate(v.Field(i), next)
			}
		}
	case kind == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		populate(v.Index(0), next)
		populate(v.Index(1), next)
	case kind == reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		populate(value, next)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf(fmt.Sprintf("key-%d", *next)), value)
	case kind == reflect.String:
		v.SetString(fmt.Sprintf("text %d", *next))
	case kind == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(int64(*next % 100))
	case v.CanUint():
		v.SetUint(uint64(*next % 100))
	case v.CanFloat():
		v.SetFloat(float64(*next) + 0.5)
	}
}

// leaves are a JSON value's facts, each as an equality.
func leaves(path string, v any) []string {
	var out []string
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if strings.HasPrefix(key, "key-") {
				out = append(out, leaves(fmt.Sprintf("%s[%q]", path, key), inner)...)
			} else {
				out = append(out, leaves(path+"."+key, inner)...)
			}
		}
	case []any:
		for i, inner := range v {
			out = append(out, leaves(fmt.Sprintf("%s[%d]", path, i), inner)...)
		}
	case string:
		out = append(out, fmt.Sprintf("%s == %q", path, v))
	default:
		out = append(out, fmt.Sprintf("%s == %v", path, v))
	}
	return out
}

// A condition in a document: however it is written, its fault stands where it is.
func TestWhere(t *testing.T) {
	document := func(where string) string {
		return head + "match:\n  driver: igb\n  where: " + where + "\nsettings: " + fine + "\n"
	}
	for name, where := range map[string]string{
		"plain":              `nic.foo == "x"`,
		"plain on two lines": "nic.name == \"x\" ||\n    nic.foo == \"x\"",
		"single quotes":      `'nic.name == ''x'' || nic.foo'`,
		"double quotes":      `"nic.name == \"x\" || nic.foo"`,
		"literal":            "|\n    nic.name == \"größe\" ||\n      nic.foo\n",
		"literal, stripped":  "|-\n\n      nic.name == \"x\" &&\n\n        nic.foo",
		"folded":             ">\n    nic.name == \"x\" ||\n    nic.name == \"y\" || nic.foo",
		"spaces at the end":  "|\n    nic.name == \"x\" ||   \n    nic.foo   ",
	} {
		_, err := Parse("w.yaml", []byte(document(where)))
		var fault *Fault
		if !errors.As(err, &fault) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		at := []rune(line(document(where), fault.Source.Line))
		if rest := string(at[fault.Source.Column-1:]); !strings.HasPrefix(rest, "foo") || !strings.Contains(err.Error(), `unknown fact "foo"`) {
			t.Errorf("%s points at %q:\n%v", name, rest, err)
		}
	}
	// Of one whose escapes hide where it stands, the beginning.
	_, err := Parse("w.yaml", []byte(document(`"nic.name == \x22x\x22 || nic.foo"`)))
	var fault *Fault
	if !errors.As(err, &fault) || fault.Source.Line != 6 || fault.Source.Column != 10 {
		t.Errorf("%v", err)
	}
}

func TestUndecided(t *testing.T) {
	devices := nics()
	devices[0].Link.SpeedMbps = new(25000)
	devices[1].Link.SpeedMbps = new(1000)
	devices[5].Link.SpeedMbps = new(100000)
	policies := parse(t, "a.yaml",
		doc("a", 0, "{where: nic.link.speedMbps >= 25000}", fine),
		doc("b", 0, "{speed: \">=25000\", name: \"[ev]*\"}", fine),
		doc("c", 0, "{where: \"!(nic.link.speedMbps < 25000) || 1/(nic.index - 4) > 5\", name: \"*\"}", fine),
		doc("d", 0, "{where: has(nic.link.speedMbps) && nic.link.speedMbps >= 25000}", fine))
	_, report, err := Resolve(policies, Host{}, devices)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range report.Policies {
		one := m.Policy + ":"
		for _, nic := range m.NICs {
			one += " " + nic.Name
		}
		for _, u := range m.Undecided {
			one += fmt.Sprintf(" (%s %d:%d %v)", u.NIC.Name, u.Source.Line, u.Source.Column, u.Err)
		}
		got = append(got, one)
	}
	unknown := "nic.link.speedMbps is not known"
	want := []string{
		"a: eth0 (eth2 5:16 " + unknown + ") (eth3 5:16 " + unknown + ")",
		"b: eth0 veth0 (eth2 10:7 " + unknown + ") (eth3 10:7 " + unknown + ")",
		"c: eth0 veth0 (eth2 19:16 " + unknown + ") (eth3 19:16 " + unknown + ") (rep0 19:16 " + unknown + ")",
		"d: eth0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Conditions of many policies on many NICs cost what evaluating them costs.
func BenchmarkResolve(b *testing.B) {
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "---\n%s", strings.Replace(in(fmt.Sprintf("{where: nic.driver.name == \"igb\" && nic.link.speedMbps >= %d && \"uplink\" in nic.altNames}", i), fine), "edge", fmt.Sprintf("p%d", i), 1))
	}
	start := time.Now()
	policies, err := Parse("b.yaml", []byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("compiled in %s", time.Since(start))
	devices := make([]inventory.NIC, 1000)
	for i := range devices {
		devices[i] = nics()[0]
		devices[i].Name = fmt.Sprintf("eth%d", i)
		devices[i].Link.SpeedMbps = new(25000)
	}
	for b.Loop() {
		if _, report, err := Resolve(policies, Host{}, devices); err != nil || len(report.Policies[0].NICs) != 1000 {
			b.Fatal(err)
		}
	}
}

// A condition made to exhaust the reader or the evaluation ends like any other.
func TestHostileConditions(t *testing.T) {
	c, nic := conditions(t), &nics()[0]
	many := func(before, text string, n int, after string) string { return before + strings.Repeat(text, n) + after }
	for name, text := range map[string]string{
		"sum":         many("1", "+1", 2000, ">0"),
		"selection":   many("nic", ".pci", 900, "==1"),
		"items":       many("nic.irqs", "[0]", 1300, ""),
		"negation":    many("", "!", 4000, "true"),
		"parentheses": many("", "(", 2000, ""),
		"lists":       many("", "[", 2000, ""),
		"quotes":      many("", "\"", 4000, ""),
		"garbage":     many("", "a b ", 1000, ""),
		"regexp":      many("nic.name.matches('", "(a*)*", 700, "x')"),
		"repetition":  "nic.name.matches('((a{100}){100}){100}')",
		"loops":       many("", "[1,2,3].all(a,", 20, "nic.index > a") + strings.Repeat(")", 20),
		"doubling":    many("['x']", ".map(a, a+a+a+a+a+a+a+a)", 25, "[0] == ''"),
	} {
		condition, err := c.Compile(text)
		if err != nil {
			if len(err.Error()) > 4096 {
				t.Errorf("%s: a message of %d bytes", name, len(err.Error()))
			}
			continue
		}
		if holds, err := condition.Holds(nic, &Host{}); holds && err != nil {
			t.Errorf("%s holds with %v", name, err)
		}
	}
}

func FuzzCondition(f *testing.F) {
	for _, seed := range []string{`nic.name == "eth0"`, `has(nic.pci) && nic.pci.vendorId == "8086"`, `nic.irqs.all(i, i.number > 3)`, `nic.?link.?mtu.orValue(3) > host.cpus`, `nic.nam`, `"`, `(((`, `null`, `nic.name.matches("(a+)+$")`} {
		f.Add(seed)
	}
	c := conditions(f)
	devices := nics()
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return // a document is UTF-8
		}
		condition, err := c.Compile(text)
		if err != nil {
			for _, err := range parts(err) {
				var fault *ConditionError
				if !errors.As(err, &fault) || fault.Offset < 0 || fault.Offset > utf8.RuneCountInString(text) || fault.Width < 1 {
					t.Fatalf("%q: %#v", text, err)
				}
			}
			return
		}
		for i := range devices {
			if holds, err := condition.Holds(&devices[i], &Host{}); holds && err != nil {
				t.Fatalf("%q holds with %v", text, err)
			}
		}
	})
}
