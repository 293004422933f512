package policies_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

const (
	page   = "../docs/policies.md"
	guide  = "../docs/profiles.md"
	schema = "../docs/schema/policy.schema.json"
)

func ruleIDs() []string {
	var ids []string
	for _, r := range audit.Rules() {
		ids = append(ids, r.ID)
	}
	return ids
}

// The generated parts of docs/policies.md, and the schema, say what the program
// does.
func TestGoldenDocs(t *testing.T) {
	catalogue := tuning.Catalogue(settings.All())
	text, err := policies.Schema(catalogue, ruleIDs())
	if err != nil {
		t.Fatal(err)
	}
	current(t, schema, string(text))

	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	doc = between(t, doc, "settings", settingsTable(catalogue))
	doc = between(t, doc, "shipped", shippedTable(t))
	doc = between(t, doc, "conflict", conflict(t, catalogue))
	doc = between(t, doc, "faults", faults(t, catalogue))
	current(t, page, doc)

	if data, err = os.ReadFile(guide); err != nil {
		t.Fatal(err)
	}
	current(t, guide, between(t, string(data), "profiles", shippedTexts(t)))
}

// The examples of the page, and everything shipped, can be used.
func TestDocumentsBind(t *testing.T) {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var documents []policies.Policy
	var checks []policies.CheckPolicy
	var rules []policies.RulePolicy
	for i, rest := range strings.Split(string(data), "<!-- example -->\n```yaml\n") {
		if i == 0 {
			continue // what comes before the first
		}
		example, _, _ := strings.Cut(rest, "```")
		parsed, err := policies.ParseDocuments(page, []byte(example))
		if err != nil {
			t.Fatal(err)
		}
		documents, checks = append(documents, parsed.Policies...), append(checks, parsed.Checks...)
		rules = append(rules, parsed.Rules...)
	}
	if len(documents) == 0 || len(checks) == 0 || len(rules) == 0 {
		t.Fatal("no example")
	}
	if err := policies.BindChecks(checks, append(ruleIDs(), policies.RuleIDs(rules)...)); err != nil {
		t.Error(err)
	}
	shipped, err := policies.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policies.Bind(append(documents, shipped...), tuning.Catalogue(settings.All())); err != nil {
		t.Error(err)
	}
}

// Every setting and field can be explained: it says what it is, by which command
// or file, and its example can be used.
func TestExplained(t *testing.T) {
	catalogue := tuning.Catalogue(settings.All())
	for _, name := range catalogue.Names() {
		s, fields, err := catalogue.Find(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.ContainsAny(s.Doc, ".") || !regexp.MustCompile(`ethtool|ip link|ip maddr|/proc/|/sys/|/run/|sysctl|bridge |devlink|tc `).MatchString(s.Doc) {
			t.Errorf("%s names no command or file: %s", s.Name, s.Doc)
		}
		if len(fields) == 0 {
			fields = s.Fields
		}
		if impact := tuning.ImpactOf(settings.All(), s.Name, fields0(fields)); impact == "" {
			t.Errorf("%s has no impact", name)
		}
		for _, f := range fields {
			if f.Doc == "" && s.Open == nil {
				t.Errorf("%s.%s: nothing says what it is", s.Name, f.Name)
			}
			example := s.Example(f)
			if example == "" {
				continue
			}
			document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: x\nmatch: {}\nsettings:\n  " + strings.ReplaceAll(example, "\n", "\n  ") + "\n"
			parsed, err := policies.Parse("example", []byte(document))
			if err == nil {
				_, err = policies.Bind(parsed, catalogue)
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, want := range map[string]string{
		"ring": `did you mean "rings"?`, "combined": "did you mean channels.combined?", "rings.rxmini": `did you mean "rx-mini"?`, "zzzzz": "there are sysctl, private-flags, ", "rings.": `rings has no field ""`,
	} {
		if _, _, err := catalogue.Find(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func fields0(fields []policies.Field) string {
	if len(fields) == 0 {
		return ""
	}
	return fields[0].Name
}

// current compares a generated file, or writes it with -update, the flag of the
// package's other tests.
func current(t *testing.T, path, want string) {
	t.Helper()
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is stale: run go generate ./policies (%v)", path, err)
	}
}

// between replaces what stands between a marker and the next end.
func between(t *testing.T, doc, marker, text string) string {
	t.Helper()
	begin := "<!-- " + marker + " -->\n"
	before, rest, ok := strings.Cut(doc, begin)
	_, after, ended := strings.Cut(rest, "<!-- end -->")
	if !ok || !ended {
		t.Fatalf("%s: no %q", page, begin)
	}
	return before + begin + text + "<!-- end -->" + after
}

func settingsTable(catalogue policies.Catalogue) string {
	var b strings.Builder
	for i, s := range catalogue {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "### `%s`\n\n%s\n\n", s.Name, s.Doc)
		if s.Open != nil {
			fmt.Fprintf(&b, "Any name takes %s.%s", s.Open.Takes(), prefixed(" ", s.Open.Doc))
			known := aliases(s)
			if len(known) > 0 {
				b.WriteString(" ethtool's own names stand for the kernel's:\n\n| name | sets |\n|---|---|")
			}
			b.WriteByte('\n')
			for _, alias := range known {
				fmt.Fprintf(&b, "| %s | %s |\n", alias[0], alias[1])
			}
			continue
		}
		if s.Host {
			b.WriteString("It is the host's, not a NIC's.\n\n")
		}
		if s.List {
			b.WriteString("It is a list: each item, behind a dash, has these fields.\n\n")
		}
		b.WriteString("| field | takes | what it is |\n|---|---|---|\n")
		inside := ""
		for _, f := range s.Fields {
			if outer, _, ok := strings.Cut(f.Name, "."); ok && s.List { // a mapping that has a setting's fields
				if inside != outer {
					fmt.Fprintf(&b, "| `%s` | a mapping, as under [`%s`](#%s) | the same, of this item alone |\n", outer, outer, outer)
				}
				inside = outer
				continue
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, f.Takes(), f.Doc)
		}
	}
	return b.String()
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// aliases are the names that stand for the same fields, and these fields.
func aliases(s policies.Setting) (rows [][2]string) {
	sets := map[string][]string{}
	var order []string
	for _, f := range s.Fields {
		for _, a := range f.Aliases {
			if sets[a] == nil {
				order = append(order, a)
			}
			sets[a] = append(sets[a], "`"+f.Name+"`")
		}
	}
	rowOf := map[string]int{}
	for _, a := range order {
		fields := strings.Join(sets[a], ", ")
		if row, ok := rowOf[fields]; ok {
			rows[row][0] += ", `" + a + "`"
			continue
		}
		rowOf[fields] = len(rows)
		rows = append(rows, [2]string{"`" + a + "`", fields})
	}
	return rows
}

// shippedTexts are the shipped policies: the comment on top of each as prose, and the
// rest as it is.
func shippedTexts(t *testing.T) string {
	t.Helper()
	all, err := policies.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range all {
		text, err := policies.ShippedDocument(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		top, rest, found := strings.Cut(string(text), "apiVersion:")
		if !found {
			t.Fatalf("%s has no apiVersion", p.Name)
		}
		top = strings.TrimPrefix(strings.ReplaceAll(top, "\n#", "\n"), "#")
		top = strings.TrimSpace(strings.ReplaceAll(top, "\n ", "\n"))
		fmt.Fprintf(&b, "## %s\n\n%s.\n\n%s\n\n```yaml\napiVersion:%s```\n\n", p.Name, p.Description, top, rest)
	}
	return b.String()
}

func shippedTable(t *testing.T) string {
	t.Helper()
	shipped, err := policies.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| policy | what it does |\n|---|---|\n")
	for _, p := range shipped {
		fmt.Fprintf(&b, "| [%s](../policies/%s) | %s |\n", p.Name, p.Source.File, p.Description)
	}
	return b.String()
}

func conflict(t *testing.T, catalogue policies.Catalogue) string {
	t.Helper()
	const document = `apiVersion: nictune/v1
kind: TuningPolicy
name: %s
match: {%s}
settings:
  rings: {rx: %s}
`
	var all []policies.Policy
	for _, d := range [][4]string{{"10-all.yaml", "all", "", "1024"}, {"20-edge.yaml", "edge", "driver: igb", "max"}} {
		p, err := policies.Parse(d[0], fmt.Appendf(nil, document, d[1], d[2], d[3]))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p...)
	}
	all, err := policies.Bind(all, catalogue)
	if err != nil {
		t.Fatal(err)
	}
	igb := &inventory.Driver{Name: "igb"}
	_, _, err = policies.Resolve(all, policies.Host{}, []inventory.NIC{{Name: "eth0", Function: inventory.PF, Driver: igb}, {Name: "eth1", Function: inventory.PF, Driver: igb}})
	if err == nil {
		t.Fatal("no conflict")
	}
	return "```\n" + err.Error() + "\n```\n"
}

func faults(t *testing.T, catalogue policies.Catalogue) string {
	t.Helper()
	all, err := policies.Parse("edge.yaml", []byte(`apiVersion: nictune/v1
kind: TuningPolicy
name: edge
match: {drvier: igb}
settings:
  rings: {rx: max}
`))
	if all != nil || err == nil {
		t.Fatal("no fault")
	}
	text := "```\n" + err.Error() + "\n```\n\nWhat can be read is then held against the settings above:\n\n"
	all, err = policies.Parse("20-rings.yaml", []byte(`apiVersion: nictune/v1
kind: TuningPolicy
name: rings
match: {driver: igb}
settings:
  rings: {rx: on, rxmini: max}
`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = policies.Bind(all, catalogue); err == nil {
		t.Fatal("no fault")
	}
	return text + "```\n" + err.Error() + "\n```\n"
}
