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
		return &labPackage{path: "example/" + name, dir: dir, binary: path, kind: inGuest, tests: []labTest{{name: "TestA"}, {name: "TestB"}}}
	}
	good := binary("good", `printf -- '--- PASS: TestA (0.00s)\n--- SKIP: TestB (0.00s)\n'; echo "$@" >args`)
	bad := binary("bad", `printf -- '--- FAIL: TestA (0.00s)\nthe reason'; exit 1`)
	run := testRun{packageTimeout: time.Minute, run: "TestA/sub"}
	packages := []*labPackage{good, bad, good}

	r := &report{profile: "hub", machine: "hub", token: "token", packages: packages, out: &bytes.Buffer{}}
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
	r := &report{profile: "nics", machine: "nics", token: "token", packages: []*labPackage{{path: "a"}, {path: "b"}}, out: &out}
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
// TestOne does one thing.
//
//lab:seconds 90
func TestOne() {}
func helper() { labtest.Require(t, "hub") }
func (x) TestMethod() {}
func TestMain() {}
func TestTwo() { labtest.Require(t, "nics", "numa"); more() }
func TestAny() { labtest.Require(t) }
func TestLater() { more(); labtest.Require(t, "hub") }
func TestSaid() { labtest.Require(t, machine) }
func TestOwn() { Require(t, "numa") }
`
	if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := testsOf(path)
	want := []labTest{
		{name: "TestOne", seconds: 90}, {"TestTwo", []string{"nics", "numa"}, shortSeconds},
		{name: "TestAny", seconds: shortSeconds}, {name: "TestLater", seconds: shortSeconds}, {name: "TestSaid", seconds: shortSeconds},
		{"TestOwn", []string{"numa"}, shortSeconds},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v %v", got, err)
	}
	p := labPackage{tests: got}
	if got := p.on("numa").tests; len(got) != 6 {
		t.Errorf("on numa: %v", got)
	}
	if got := p.on("hub").tests; len(got) != 4 || slices.ContainsFunc(got, func(test labTest) bool { return test.name == "TestTwo" }) || len(p.tests) != 6 {
		t.Errorf("on hub: %v", got)
	}
	for _, wrong := range []string{"package", "package a\n//lab:seconds many\nfunc TestOne() {}", "package a\n//lab:seconds 0\nfunc TestOne() {}"} {
		if err := os.WriteFile(path, []byte(wrong), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := testsOf(path); err == nil {
			t.Errorf("no error for %q", wrong)
		}
	}
}

// TestShare has each test on one machine, and the long ones on several.
func TestShare(t *testing.T) {
	const long = machineSeconds
	p := labPackage{tests: []labTest{{name: "A", seconds: 3}, {name: "B", seconds: long}, {name: "C", seconds: 3}, {name: "D", seconds: long / 2}, {name: "E", seconds: long/2 - 10}}}
	var got []string
	for _, share := range p.share() {
		names := ""
		for _, test := range share.tests {
			names += test.name
		}
		got = append(got, names)
	}
	if want := []string{"B", "DEAC"}; !slices.Equal(got, want) {
		t.Errorf("shares %v, want %v", got, want)
	}
	p.tests = p.tests[:1]
	if got := p.share(); len(got) != 1 || len(got[0].tests) != 1 {
		t.Errorf("of one short test: %v", got)
	}
	p.tests = nil
	if got := p.share(); len(got) != 0 {
		t.Errorf("of none: %v", got)
	}
}
