package report

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/nictune/nictune/audit"
)

// every is reports of all sorts: one with all there is, an empty one, hostile ones.
func every(t *testing.T) []*audit.HostReport {
	t.Helper()
	all := []*audit.HostReport{recorded(t), {}}
	for _, s := range hostile {
		all = append(all, with(s))
	}
	return all
}

// SARIF is what OASIS' schema takes.
func TestSARIFSchema(t *testing.T) {
	file, err := os.Open("testdata/schemas/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	doc, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("sarif.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range every(t) {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(rendered(t, SARIF, r))))
		if err == nil {
			err = schema.Validate(value)
		}
		if err != nil {
			t.Errorf("%q: %v", r.Host.Name, err)
		}
	}
}

// JUnit's XML is what the schema of Jenkins' xUnit plugin takes.
func TestJUnitSchema(t *testing.T) {
	xmllint, err := exec.LookPath("xmllint")
	if err != nil {
		const missing = "no xmllint in the PATH: make setup installs it"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	dir := t.TempDir()
	args := []string{"--noout", "--nonet", "--schema", "testdata/schemas/junit-10.xsd"}
	for i, r := range every(t) {
		path := filepath.Join(dir, fmt.Sprintf("%d.xml", i))
		if err := os.WriteFile(path, []byte(rendered(t, forms()["xml"], r)), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	if out, err := exec.CommandContext(t.Context(), xmllint, args...).CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
