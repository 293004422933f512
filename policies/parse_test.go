package policies

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nictune/nictune/inventory"
)

const whole = `# A comment before all.
%s
apiVersion: nictune/v1 # and one behind
kind: TuningPolicy
name: "edge-l4lb"
description: >
  Rings as
  large as they go.
priority: -5
match:
  driver: [ice, 'mlx5*']
  pci:
    - 8086:10C9
    - 3b:00.0
  kind: pf
  name: eth*
  permanentMac: 52-54-00-AB-CD-EF
settings:
  rings: {rx: max, tx: 2048}

  features:
    rx-gro: "on"
    rx-lro: off
    rx-checksum: yes
    tx-gso: false
`

func TestParse(t *testing.T) {
	policies, err := Parse("edge.yaml", []byte("\ufeff"+strings.Replace(whole, "%s", "---", 1)+"...\n# end\n---\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(policies) != 1 {
		t.Fatalf("%d policies", len(policies))
	}
	at := func(line, column int) Source {
		return Source{Policy: "edge-l4lb", File: "edge.yaml", Line: line, Column: column}
	}
	field := func(name string, line, column, valueColumn int, v Value) Assignment {
		v.Source = at(line, valueColumn)
		return Assignment{Field: name, Source: at(line, column), Value: v}
	}
	got := policies[0]
	got.text = ""
	want := Policy{
		Name: "edge-l4lb", Description: "Rings as large as they go.", Priority: -5, Source: at(5, 7),
		Match: Match{
			Driver: []string{"ice", "mlx5*"}, PCI: []string{"8086:10c9", "0000:3b:00.0"}, Kind: []inventory.Function{inventory.PF},
			Name: []string{"eth*"}, PermanentMAC: []string{"52:54:00:ab:cd:ef"},
		},
		Settings: []Block{
			{Setting: "rings", Source: at(19, 3), Fields: []Assignment{
				field("rx", 19, 11, 15, WordValue("max", Source{})),
				field("tx", 19, 20, 24, NumberValue(2048, Source{})),
			}},
			{Setting: "features", Source: at(21, 3), Fields: []Assignment{
				field("rx-gro", 22, 5, 13, BoolValue(true, Source{})),
				field("rx-lro", 23, 5, 13, BoolValue(false, Source{})),
				field("rx-checksum", 24, 5, 18, BoolValue(true, Source{})),
				field("tx-gso", 25, 5, 13, BoolValue(false, Source{})),
			}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// The YAML library loses what follows an empty document; policies must not.
func TestDocuments(t *testing.T) {
	one := func(name string) string { return strings.Replace(in("{}", fine), "edge", name, 1) }
	for _, text := range []string{
		one("a") + "---\n" + one("b"),
		"---\n" + one("a") + "---\n" + one("b"),
		"---\n# nothing\n---\n" + one("a") + "--- # next\n" + one("b") + "---\n---",
		one("a") + "...\n" + one("b") + "...",
		strings.ReplaceAll("---\n---\n"+one("a")+"---\n"+one("b"), "\n", "\r\n"),
	} {
		policies, err := Parse("x.yaml", []byte(text))
		if err != nil || len(policies) != 2 || policies[0].Name != "a" || policies[1].Name != "b" {
			t.Errorf("%q: %v %v", text, policies, err)
			continue
		}
		p := policies[1]
		if got := line(text, p.Source.Line); got != "name: b" {
			t.Errorf("%q: b is said to be named on the line %q", text, got)
		}
	}
	for _, text := range []string{"", "\n", "# only\n", "---\n---\n", "...\n"} {
		if policies, err := Parse("x.yaml", []byte(text)); err != nil || len(policies) != 0 {
			t.Errorf("%q: %v %v", text, policies, err)
		}
	}
}

func TestAliases(t *testing.T) {
	policies := parse(t, "a.yaml",
		doc("a", 1, "{}", "{features: {tso: off, lro: off, rx-gro: on}}"),
		doc("b", 0, "{}", "{features: {tx-tcp6-segmentation: on, rx-lro: on}}"),
	)
	wants, _, err := Resolve(policies, Host{}, nics()[:1])
	if err != nil {
		t.Fatal(err)
	}
	const want = `eth0 features.rx-gro=on (a a.yaml:6)
eth0 features.rx-lro=off (a a.yaml:6)
eth0 features.tx-tcp-segmentation=off (a a.yaml:6)
eth0 features.tx-tcp6-segmentation=off (a a.yaml:6)
`
	if got := render(wants); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range faultCases() {
		f.Add([]byte(c.yaml))
	}
	f.Add([]byte(strings.Replace(whole, "%s", "---", 1)))
	entries, err := profiles.ReadDir("profiles")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		data, err := profiles.ReadFile("profiles/" + e.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	devices, catalogue := nics(), testCatalogue()
	f.Fuzz(func(t *testing.T, data []byte) {
		policies, err := Parse("f.yaml", data)
		if err != nil {
			if policies != nil {
				t.Fatal("policies in spite of faults")
			}
			if text := err.Error(); !utf8.ValidString(text) || strings.ContainsRune(text, '\x1b') || len(text) > 64<<10 {
				t.Fatalf("a fault that a terminal can't show: %q", text)
			}
			return
		}
		for _, p := range policies {
			for _, b := range p.Settings {
				for _, a := range b.Fields {
					if at := a.Value.Source; !spells(line(p.text, at.Line), at.Column, a.Value) {
						t.Fatalf("%s:%d:%d is not where %s stands", at.File, at.Line, at.Column, a.Value)
					}
				}
			}
		}
		if bound, err := Bind(policies, catalogue); err == nil {
			_, _, err := Resolve(bound, Host{}, devices)
			_ = err // a conflict is fine
		}
	})
}

// spells says whether a line has, at a column, what could be a value's first
// character.
func spells(line string, column int, v Value) bool {
	runes := []rune(line)
	if column < 1 || column > len(runes) {
		return false
	}
	at := runes[column-1]
	if n, ok := v.Number(); ok {
		return strings.HasPrefix(string(runes[column-1:]), NumberValue(n, Source{}).String())
	}
	if _, ok := v.Bool(); ok {
		return strings.ContainsRune("oOtTyYfFnN'\"|>", at)
	}
	word, isWord := v.Word()
	if !isWord { // a list, in brackets or with its first dash
		return at == '[' || at == '-'
	}
	first, _ := utf8.DecodeRuneInString(word)
	return at == first || strings.ContainsRune("'\"|>", at)
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one := func(name string) string { return strings.Replace(in("{}", fine), "edge", name, 1) }
	names := func(policies []Policy) (names []string) {
		for _, p := range policies {
			names = append(names, p.Name)
		}
		return names
	}

	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "no policies in "+dir) {
		t.Errorf("empty directory: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none.yaml")); err == nil || strings.Count(err.Error(), "no such file") != 1 {
		t.Errorf("no file: %v", err)
	}
	write("20-b.yaml", one("b"))
	write("10-a.yml", one("a"))
	write("30-c.conf", "not read")
	write(".40-d.yaml", "not read")
	write("50-e.txt", one("e"))
	if err := os.Symlink("50-e.txt", filepath.Join(dir, "60-f.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	policies, err := Load(dir)
	if got := strings.Join(names(policies), " "); err != nil || got != "a b e" {
		t.Errorf("%s %v", got, err)
	}
	if policies, err = Load(filepath.Join(dir, "20-b.yaml"), filepath.Join(dir, "10-a.yml")); err != nil || strings.Join(names(policies), " ") != "b a" {
		t.Errorf("%v %v", names(policies), err)
	}

	write("70-again.yaml", one("a"))
	if _, err = Load(dir); err == nil || !strings.Contains(err.Error(), `70-again.yaml:3:7: the policy "a" is already at `+filepath.Join(dir, "10-a.yml")+":3") {
		t.Errorf("one name twice: %v", err)
	}
	write("70-again.yaml", "a: [")
	write("80-bad.yaml", "b")
	if _, err = Load(dir); err == nil || !strings.Contains(err.Error(), "70-again.yaml:1:") || !strings.Contains(err.Error(), "80-bad.yaml:1:1:") {
		t.Errorf("faults of two files: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err = Load(dir); err == nil || !strings.Contains(err.Error(), "dir.yaml is not a regular file") {
		t.Errorf("a directory named as a file: %v", err)
	}
	if _, err = Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a file without end: %v", err)
	}
}
