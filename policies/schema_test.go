package policies

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var someRules = []string{"link/eee", "link/down", "pcie/too-narrow"}

func TestGoldenSchema(t *testing.T) {
	text, err := Schema(steering(), someRules)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "schema.golden", string(text))
}

// The schema and the parser agree about every document of these tests: the
// schema refuses nothing that the parser takes, and what it can see it refuses.
func TestSchemaAgrees(t *testing.T) {
	text, err := Schema(steering(), someRules)
	if err != nil {
		t.Fatal(err)
	}
	schema := compile(t, text)

	taken := []string{
		in("{vendor: 8086, device: [10c9, \"10*\"], subsystem: \"8086:*\", speed: [25000, \">=40000\"], numaNode: 0, firmware: 1.5, linkState: up, labels: {role: edge, tier: [1, 2]}, where: nic.index > 3}",
			"{rings: {rx: 50%, tx: \"min(local-cpus, 16)\", rx-mini: default, rx-buf-len: \">=2048\", rx-jumbo: \"<=max(50%, cpus)\"}, flows: [{proto: udp4, queue: 50%, cpus: [1, 2]}, {dst-port: 53}]}") +
			"optional: true\nclamp: [rings, flows]\n",
		in("{}", fine),
		in("{driver: igb, pci: [\"8086:*\"], kind: [pf, vf], name: \"e*\", permanentMac: 52:54:00:12:34:56}", "{rings: {rx: 1, tx: max}}"),
		checkHead + "rules: {link/eee: \"off\", \"link/*\": info}\nwaivers:\n  - {rule: [link/down, link/eee], reason: moved, owner: jane, expires: \"2027-01-31\"}\n",
		checkHead + "rules: {user/mtu: \"off\", \"user/*\": info}\nwaivers:\n  - {rule: user/mtu, reason: moved, owner: jane, expires: \"2027-01-31\"}\n",
		rulesHead + "description: x\nrules: {user/mtu: " + fineRule + ", user/kernel-6: {subject: host, severity: critical, title: t, why: w, remedy: r, sources: [a, b], expect: host.kernel == \"x\"}}\n",
		head + "description: x\npriority: -3\nmatch: {}\nsettings: {features: {lro: off, tso: on, rx-gro: true, x: \"yes\"}, rings: {tcp-data-split: auto, mode: fast}}\n",
	}
	for _, text := range taken {
		documents, err := ParseDocuments("t.yaml", []byte(text))
		if err == nil {
			_, err = Bind(documents.Policies, steering())
		}
		if err == nil {
			err = BindChecks(documents.Checks, append(someRules, "user/mtu"))
		}
		if err != nil {
			t.Errorf("not taken: %v", err)
		}
		if err := validate(t, schema, text); err != nil {
			t.Errorf("the schema refuses what the parser takes: %v\n%s", err, text)
		}
	}

	// These faults lie in the reading of the text, beyond any schema.
	unseen := []string{
		"broken glob", "a shell's glob", "PCI id as in sysfs", "PCI id too short", "PCI address without function", "MAC too short",
		"alias and field disagree", "vendor as in sysfs", "condition with unknown facts", "condition of another type", "condition with types that differ", "optional names another setting", "optional names a part of a list", "hexadecimal", "octal", "number too large", "anchors and aliases", "merge key", "tag",
		"two documents of one name", "two checks of one name", "a rule that is no condition", "a rule about unknown facts", "a rule on the host about a NIC", "two rules of one id", "duplicate key", "complex key", "a list of addresses without quotes", "text the parser would lose",
	}
	for _, c := range faultCases() {
		var value any
		if yaml.Unmarshal([]byte(c.yaml), &value) != nil || slices.Contains(unseen, c.name) {
			continue
		}
		if validate(t, schema, c.yaml) == nil {
			t.Errorf("%s: the schema takes it:\n%s", c.name, c.yaml)
		}
	}
}

func compile(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("policy.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("policy.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validate reads YAML the way an editor does, as 1.2: on is a word.
func validate(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if value, err = jsonschema.UnmarshalJSON(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return schema.Validate(value)
}
