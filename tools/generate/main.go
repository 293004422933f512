// Command generate writes the parts of the documentation that follow from the
// code. `make generate` runs it; CI fails when a file it writes is stale.
//
// It lives in the tools module so that what it needs stays out of the product's
// go.mod. Its one argument is the top of the repository.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/invopop/jsonschema"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/fleet"
	"github.com/nictune/nictune/inventory/module"
	"github.com/nictune/nictune/sriov"
)

func main() {
	if err := generate(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(top string) error {
	// The comments' look-up by import path wants paths relative to here.
	if err := os.Chdir(top); err != nil {
		return err
	}
	for _, document := range []struct {
		name, title string
		value       any
		folders     []string // where the types of the document are
	}{
		{"inventory", "nictune inventory", &sriov.Inventory{}, []string{"./inventory", "./sriov"}},
		{"findings", "nictune check", &audit.Report{}, []string{"./audit", "./findings"}},
		{"audit", "nictune audit", &audit.HostReport{}, []string{"./audit", "./findings", "./inventory"}},
		{"fleet", "nictune fleet report", &fleet.Report{}, []string{"./fleet", "./findings"}},
		{"module", "nictune module decode", &module.Module{}, []string{"./inventory/module"}},
	} {
		schema, err := schemaOf(document.name, document.title, document.value, document.folders)
		if err != nil {
			return err
		}
		if err := os.WriteFile("docs/schema/"+document.name+".schema.json", schema, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// schemaOf describes what a command writes with -o json. The descriptions are
// the types' own comments.
func schemaOf(name, title string, value any, folders []string) ([]byte, error) {
	r := jsonschema.Reflector{
		Anonymous: true, // no $id by Go package: the document's is set below
		// A newer nictune may know more: a reader of the schema must not refuse it.
		AllowAdditionalProperties: true,
	}
	for _, folder := range folders {
		if err := r.AddGoComments("github.com/nictune/nictune", folder, jsonschema.WithFullComment()); err != nil {
			return nil, err
		}
	}
	schema := r.Reflect(value)
	schema.ID = jsonschema.ID("https://nictune.github.io/schema/" + name + ".schema.json")
	schema.Title = title
	return indented(schema)
}

func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}
