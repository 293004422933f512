package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:generate go test -run TestGolden -update .

var update = flag.Bool("update", false, "rewrite the golden files")

// nictune runs the program on arguments.
func nictune(t *testing.T, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	var out, errs bytes.Buffer
	exit = run(t.Context(), args, &out, &errs)
	return out.String(), errs.String(), exit
}

// labHost is a recording of the lab's profile nics with two VFs, a bond, a
// bridge and a VLAN.
const labHost = "testdata/hosts/lab-nics.txtar"

// numaHost is one of the profile numa: two nodes, and a switch.
const numaHost = "testdata/hosts/lab-numa.txtar"

// vfsHost is one of the profile nics with four VFs: one in a namespace, one held by
// a process through vfio-pci, one in a bond, one without a driver.
const vfsHost = "testdata/hosts/lab-vfs.txtar"

func TestGolden(t *testing.T) {
	for name, args := range map[string][]string{
		"inventory.txt":           {"--host", labHost, "inventory"},
		"inventory-wide.txt":      {"--host", labHost, "inventory", "-o", "wide"},
		"inventory-tree.txt":      {"--host", labHost, "inventory", "-o", "tree"},
		"inventory-tree-numa.txt": {"--host", numaHost, "inventory", "-o", "tree"},
		"inventory-igb.json":      {"--host", labHost, "inventory", "-o", "json", "eth1"},
		"inventory-br.yaml":       {"--host", labHost, "inventory", "-o", "yaml", "br0"},
		"inventory-vfs.txt":       {"--host", vfsHost, "inventory", "--vfs"},
		"inventory-vfs-wide.txt":  {"--host", vfsHost, "inventory", "--vfs", "-o", "wide", "eth1"},
		"inventory-vfs-tree.txt":  {"--host", vfsHost, "inventory", "--vfs", "-o", "tree"},
		"inventory-vfs-of.txt":    {"--host", vfsHost, "inventory", "--vfs", "-o", "tree", "eth7", "0000:01:10.6"},
		"inventory-vfs.yaml":      {"--host", vfsHost, "inventory", "--vfs", "-o", "yaml", "01:10.2"},
		"inventory-vf.txt":        {"--host", labHost, "inventory", "--kind", "vf,pf"},
		"check-pcie.txt":          {"--host", numaHost, "check", "pcie"},
		"check-all.txt":           {"--host", numaHost, "check", "--all", "link", "eth1"},
		"check-explain.txt":       {"check", "--explain", "link/module-alarm"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, exit := nictune(t, args...)
			if exit != exitOK || stderr != "" {
				t.Fatalf("exit %d, standard error %q", exit, stderr)
			}
			golden := filepath.Join("testdata/golden", name)
			if *update {
				if err := os.WriteFile(golden, []byte(stdout), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if stdout != string(want) {
				t.Errorf("differs from %s (go generate rewrites it):\n%s", golden, stdout)
			}
		})
	}
}

func TestJSONAgreesWithItsSchemaAndWithYAML(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../docs/schema/inventory.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--host", labHost, "inventory"}, {"--host", vfsHost, "inventory", "--vfs"}} {
		agree(t, schema, args)
	}
}

func agree(t *testing.T, schema *jsonschema.Schema, args []string) {
	t.Helper()
	stdout, _, _ := nictune(t, append(args, "-o", "json")...)
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(stdout))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(document); err != nil {
		t.Error(err)
	}
	inYAML, _, _ := nictune(t, append(args, "-o", "yaml")...)
	back, err := yaml.YAMLToJSON([]byte(inYAML))
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	if err := json.Compact(&a, []byte(stdout)); err != nil {
		t.Fatal(err)
	}
	if err := json.Compact(&b, back); err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() {
		t.Errorf("%v: the YAML form does not say the same as the JSON form", args)
	}
}

func TestInventoryOfWhatIsNotThere(t *testing.T) {
	whole, err := os.ReadFile(labHost)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.txtar")
	if err := os.WriteFile(cut, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--host", labHost, "inventory", "eth9"}, `no network device matches "eth9"`},
		{[]string{"--host", labHost, "inventory", "eth["}, `device pattern "eth["`},
		{[]string{"--host", labHost, "inventory", "--kind", "fp"}, `unknown kind "fp": use pf,`},
		{[]string{"--host", labHost, "inventory", "-o", "xml"}, `unknown output format "xml": use one of table,`},
		{[]string{"--host", "nowhere.txtar", "inventory"}, "nowhere.txtar: no such file"},
		{[]string{"--host", cut, "inventory"}, "cut.txtar"},
		{[]string{"--root", t.TempDir(), "inventory"}, "it has no directory sys"},
		{[]string{"--host", labHost, "--root", "/", "inventory"}, "host root"},
		{[]string{"inventry"}, `unknown command "inventry" for "nictune"; did you mean "inventory"?`},
		{[]string{"policy", "lst"}, `unknown command "lst" for "nictune policy"; did you mean "list"?`},
	} {
		stdout, stderr, exit := nictune(t, test.args...)
		if exit != exitError || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%v: exit %d, %q, standard error %q; want %q", test.args, exit, stdout, stderr, test.want)
		}
	}
}

func TestARecordingReplaysItself(t *testing.T) {
	name := filepath.Join(t.TempDir(), "host.txtar")
	if _, stderr, exit := nictune(t, "--host", labHost, "record", "-o", name); exit != exitOK {
		t.Fatalf("exit %d: %s", exit, stderr)
	}
	first, _, _ := nictune(t, "--host", labHost, "inventory", "-o", "json")
	// The second recording was made just now; everything else is the same.
	second, _, _ := nictune(t, "--host", name, "inventory", "-o", "json")
	strip := func(s string) string {
		before, after, _ := strings.Cut(s, `"collectedAt"`)
		_, after, _ = strings.Cut(after, "\n")
		return before + after
	}
	if strip(first) != strip(second) || first == "" {
		t.Error("the recording of a recording tells of another host")
	}
}
