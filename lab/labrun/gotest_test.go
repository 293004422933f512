package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestScriptAndReport runs the script that a guest would run, with shell scripts for test
// binaries, and reads what the report makes of it.
func TestScriptAndReport(t *testing.T) {
	dir := t.TempDir()
	binary := func(name, script string) *labPackage {
		path := filepath.Join(dir, name+".test")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		return &labPackage{path: "example/" + name, dir: dir, binary: path, kind: inGuest, tests: []string{"TestA", "TestB"}}
	}
	good := binary("good", `printf -- '--- PASS: TestA (0.00s)\n--- SKIP: TestB (0.00s)\n'; echo "$@" >args`)
	bad := binary("bad", `printf -- '--- FAIL: TestA (0.00s)\nthe reason'; exit 1`)
	run := testRun{packageTimeout: time.Minute, run: "TestA/sub"}
	packages := []*labPackage{good, bad, good}

	r := &report{profile: "hub", token: "token", packages: packages, out: &bytes.Buffer{}}
	var out bytes.Buffer
	r.out = &out
	c := exec.CommandContext(t.Context(), "sh", "-c", run.script(packages, r.token))
	c.Stdout, c.Stderr = r, r
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	r.finish(0, nil)

	got := regexp.MustCompile(`\d+\.\d{3}s`).ReplaceAllString(out.String(), "Ns")
	want := "ok  \texample/good\tNs\t[hub]\n--- FAIL: TestA (0.00s)\nthe reason\nFAIL\texample/bad\tNs\t[hub]\nok  \texample/good\tNs\t[hub]\n"
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if !r.failed {
		t.Error("a failed package is no failure")
	}
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil || !strings.Contains(string(args), "-test.run=^(TestA|TestB)$/sub") {
		t.Errorf("arguments %q %v", args, err)
	}
	if got := neverRun([]*labPackage{good}, []*report{r}); len(got) != 1 || got[0] != "example/good.TestB" {
		t.Errorf("never run: %v, want TestB", got)
	}
}

func TestReportOfAVMThatDied(t *testing.T) {
	var out bytes.Buffer
	r := &report{profile: "nics", token: "token", packages: []*labPackage{{path: "a"}, {path: "b"}}, out: &out}
	r.Write([]byte("\ntoken 0 0 1500\nhalf a li"))
	r.Write([]byte("ne"))
	r.finish(exitFailed, errors.New("no more power"))
	want := "ok  \ta\t1.500s\t[nics]\nhalf a line\nFAIL\tb\t[nics] no more power\n"
	if !strings.HasSuffix(out.String(), want) || !r.failed {
		t.Errorf("failed %t, got %q, want at its end %q", r.failed, out.String(), want)
	}
}

func TestTestsOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a_lab_test.go")
	source := `package a
func TestOne() {}
func helper() { labtest.Require(t, "hub") }
func (x) TestMethod() {}
func TestMain() {}
func TestTwo() { labtest.Require(t, "nics", "numa"); more() }
func TestAny() { labtest.Require(t) }
func TestLater() { more(); labtest.Require(t, "hub") }
func TestSaid() { labtest.Require(t, machine) }
`
	if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := testsOf(path)
	want := []labTest{{name: "TestOne"}, {"TestTwo", []string{"nics", "numa"}}, {name: "TestAny"}, {name: "TestLater"}, {name: "TestSaid"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v %v", got, err)
	}
	p := labPackage{only: map[string][]string{}}
	for _, test := range got {
		p.tests, p.only[test.name] = append(p.tests, test.name), test.profiles
	}
	if got := p.on("numa").tests; len(got) != 5 {
		t.Errorf("on numa: %v", got)
	}
	if got := p.on("hub").tests; len(got) != 4 || slices.Contains(got, "TestTwo") || len(p.tests) != 5 {
		t.Errorf("on hub: %v", got)
	}
	if err := os.WriteFile(path, []byte("package"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := testsOf(path); err == nil {
		t.Error("no error for a file that is no Go")
	}
}
