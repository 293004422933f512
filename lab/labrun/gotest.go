package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tag marks the files whose tests run in the lab: "//go:build lab" in *_lab_test.go.
const tag = "lab"

// A labPackage is a package with lab tests, compiled.
type labPackage struct {
	path, dir, binary string
	tests             []string // top-level tests in *_lab_test.go
}

// runTests compiles the lab tests of each package once, then boots each profile once and runs
// all of them in it, one package after the other. Tests that belong to another profile skip
// themselves there; a test that ran on none is a failure.
func runTests(ctx context.Context, args []string) (int, error) {
	var o options
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	o.register(fs)
	fs.StringVar(&o.profile, "p", strings.Join(profileNames(), ","), "`profiles` to boot, with commas between")
	verbose := fs.Bool("v", false, "print what every test says, not only those that fail")
	only := fs.String("run", "", "run only the tests that match this `regexp`, as in go test")
	perPackage := fs.Duration("package-timeout", 10*time.Minute, "longest time for the tests of one package")
	coverdir := fs.String("coverdir", "", "write coverage data to this `folder`, for go tool covdata")
	parallel := fs.Int("j", 1, "`number` of VMs at a time")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	patterns := fs.Args()
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	match, err := regexp.Compile(first(*only))
	if err != nil {
		return 2, fmt.Errorf("-run: %w", err)
	}

	dir, err := os.MkdirTemp("", "lab-test-")
	if err != nil {
		return exitFailed, err
	}
	defer os.RemoveAll(dir)
	if *coverdir != "" {
		if *coverdir, err = filepath.Abs(*coverdir); err != nil {
			return exitFailed, err
		}
		if err := os.MkdirAll(*coverdir, 0o755); err != nil {
			return exitFailed, err
		}
	}
	packages, err := labPackages(ctx, patterns, match)
	if err != nil {
		return exitFailed, err
	}
	if len(packages) == 0 {
		return exitFailed, fmt.Errorf("no lab tests in %s: they live in *_lab_test.go with //go:build %s", strings.Join(patterns, " "), tag)
	}
	if err := compile(ctx, packages, dir, *coverdir != ""); err != nil {
		return exitFailed, err
	}

	profiles := strings.Split(o.profile, ",")
	results := make([]*report, len(profiles))
	var wg sync.WaitGroup
	var mu sync.Mutex // the terminal
	slots := make(chan struct{}, max(1, *parallel))
	for i, name := range profiles {
		v, err := o.vm(name)
		if err != nil {
			return exitFailed, err
		}
		for _, d := range []string{dir, moduleRoot(packages[0].dir), *coverdir} {
			if d == "" {
				continue
			}
			if err := v.show(d); err != nil {
				return exitFailed, err
			}
		}
		for _, p := range packages {
			if err := v.show(p.dir); err != nil {
				return exitFailed, err
			}
		}
		results[i] = &report{profile: name, packages: packages, verbose: *verbose, out: os.Stdout}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r := results[i]
			var whole bytes.Buffer
			if *parallel > 1 {
				r.out = &whole
			}
			r.token = rand.Text()
			code, err := v.run(ctx, script(packages, r.token, *only, *coverdir, *perPackage), r)
			r.finish(code, err)
			mu.Lock()
			defer mu.Unlock()
			io.Copy(os.Stdout, &whole)
		})
	}
	wg.Wait()

	failed := false
	for _, r := range results {
		failed = failed || r.failed
	}
	if fs.Lookup("p").DefValue == o.profile {
		for _, name := range neverRun(packages, results) {
			fmt.Printf("FAIL\t%s: skipped on every profile\n", name)
			failed = true
		}
	}
	if failed {
		return 1, nil
	}
	return 0, nil
}

// first is the part of a -run expression that matches top-level tests.
func first(run string) string { s, _, _ := strings.Cut(run, "/"); return s }

// labPackages asks Go for the packages and reads the names of their lab tests.
func labPackages(ctx context.Context, patterns []string, match *regexp.Regexp) ([]*labPackage, error) {
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-tags", tag, "-json=Dir,ImportPath,TestGoFiles,XTestGoFiles"}, patterns...)...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []*labPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir, ImportPath           string
			TestGoFiles, XTestGoFiles []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		lp := &labPackage{path: p.ImportPath, dir: p.Dir}
		for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			if !strings.HasSuffix(name, "_lab_test.go") {
				continue
			}
			tests, err := testNames(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			for _, t := range tests {
				if match.MatchString(t) {
					lp.tests = append(lp.tests, t)
				}
			}
		}
		if len(lp.tests) > 0 {
			packages = append(packages, lp)
		}
	}
	return packages, nil
}

// testNames are the top-level tests of one file.
func testNames(path string) (names []string, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && fn.Name.Name != "TestMain" {
			names = append(names, fn.Name.Name)
		}
	}
	return names, nil
}

func compile(ctx context.Context, packages []*labPackage, dir string, cover bool) error {
	for i, p := range packages {
		p.binary = filepath.Join(dir, fmt.Sprintf("%d.test", i))
		args := []string{"test", "-c", "-tags", tag, "-o", p.binary}
		if cover {
			args = append(args, "-cover", "-coverpkg=./...")
		}
		c := exec.CommandContext(ctx, "go", append(args, p.path)...)
		c.Env = append(os.Environ(), "CGO_ENABLED=0") // the guest has another C library
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("%s: does not compile: %w", p.path, err)
		}
	}
	return nil
}

// script runs the packages in the guest. A line with the token stands after each one's output.
func script(packages []*labPackage, token, run, coverdir string, timeout time.Duration) string {
	var s strings.Builder
	s.WriteString("now() { read up idle </proc/uptime; echo ${up%.*}${up#*.}0; }\n") // in ms
	for i, p := range packages {
		filter := "^(" + strings.Join(p.tests, "|") + ")$"
		if _, sub, ok := strings.Cut(run, "/"); ok {
			filter += "/" + sub
		}
		fmt.Fprintf(&s, "t=$(now); cd %s && %s -test.v -test.paniconexit0 -test.timeout=%s -test.run=%s", quote(p.dir), quote(p.binary), timeout, quote(filter))
		if coverdir != "" {
			fmt.Fprintf(&s, " -test.gocoverdir=%s", quote(coverdir))
		}
		fmt.Fprintf(&s, "; rc=$?; printf '\\n%%s %d %%d %%d\\n' %s $rc $(($(now) - t))\n", i, token)
	}
	return s.String()
}

// A report turns the guest's output into lines like those of go test.
type report struct {
	profile, token string
	packages       []*labPackage
	verbose        bool
	out            io.Writer

	line   []byte       // not complete yet
	held   bytes.Buffer // what the package said so far
	done   int          // packages finished
	failed bool
	ran    map[string]bool // package and test, those that did not skip themselves
}

// Write takes a piece of the guest's output.
func (r *report) Write(b []byte) (int, error) {
	r.line = append(r.line, b...)
	for {
		i := bytes.IndexByte(r.line, '\n')
		if i < 0 {
			return len(b), nil
		}
		r.take(string(r.line[:i]))
		r.line = r.line[i+1:]
	}
}

var outcome = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+)`)

func (r *report) take(line string) {
	if rest, ok := strings.CutPrefix(line, r.token+" "); ok {
		f := strings.Fields(rest)
		if len(f) == 3 {
			i, _ := strconv.Atoi(f[0])
			ms, _ := strconv.Atoi(f[2])
			r.endPackage(i, f[1], time.Duration(ms)*time.Millisecond)
			return
		}
	}
	if m := outcome.FindStringSubmatch(line); m != nil && m[1] != "SKIP" && r.done < len(r.packages) {
		if r.ran == nil {
			r.ran = map[string]bool{}
		}
		r.ran[r.packages[r.done].path+"."+m[2]] = true
	}
	if r.verbose {
		fmt.Fprintln(r.out, line)
		return
	}
	fmt.Fprintln(&r.held, line)
}

func (r *report) endPackage(i int, code string, took time.Duration) {
	status := "ok  "
	if code != "0" {
		status, r.failed = "FAIL", true
		r.held.WriteTo(r.out)
	}
	r.held.Reset()
	fmt.Fprintf(r.out, "%s\t%s\t%.3fs\t[%s]\n", status, r.packages[i].path, took.Seconds(), r.profile)
	r.done = i + 1
}

// finish reports a VM that ended before the last package.
func (r *report) finish(code int, err error) {
	if err == nil && r.done == len(r.packages) {
		return
	}
	r.failed = true
	r.take(string(r.line))
	r.held.WriteTo(r.out)
	if err == nil {
		err = fmt.Errorf("the VM ended (exit code %d) in the middle of it", code)
	}
	fmt.Fprintf(r.out, "FAIL\t%s\t[%s] %v\n", r.packages[min(r.done, len(r.packages)-1)].path, r.profile, err)
}

// neverRun lists the tests that skipped themselves on every profile.
func neverRun(packages []*labPackage, results []*report) (names []string) {
	for _, p := range packages {
		for _, t := range p.tests {
			name := p.path + "." + t
			if !slices.ContainsFunc(results, func(r *report) bool { return r.ran[name] }) {
				names = append(names, name)
			}
		}
	}
	slices.SortFunc(names, cmp.Compare)
	return names
}
