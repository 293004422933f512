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

// A kind of lab tests is known by its build tag: "//go:build lab" in *_lab_test.go.
type kind string

const (
	inGuest kind = "lab"     // run inside a VM
	onHost  kind = "labhost" // boot VMs and cut their power
)

// hostProfile stands for the host among the profiles: no VM, the tests of kind onHost.
const hostProfile = "host"

func (k kind) suffix() string { return "_" + string(k) + "_test.go" }

// A labPackage is a package with lab tests, compiled.
type labPackage struct {
	path, dir, binary string
	kind              kind
	tests             []labTest // top-level tests of its files of that kind
}

// on is the package with the tests that run on a profile.
func (p labPackage) on(profile string) *labPackage {
	p.tests = slices.DeleteFunc(slices.Clone(p.tests), func(test labTest) bool {
		return len(test.profiles) > 0 && !slices.Contains(test.profiles, profile)
	})
	return &p
}

// seconds is how long its tests take, as far as they say so.
func (p labPackage) seconds() (sum int) {
	for _, test := range p.tests {
		sum += test.seconds
	}
	return sum
}

// share is the package with its tests on so many machines that none of them is busy for much longer than
// machineSeconds: each test, the longest first, goes to the machine that has least to do.
func (p labPackage) share() []*labPackage {
	shares := make([]*labPackage, 1+p.seconds()/machineSeconds)
	for i := range shares {
		of := p
		of.tests = nil
		shares[i] = &of
	}
	for _, test := range slices.SortedStableFunc(slices.Values(p.tests), func(a, b labTest) int { return b.seconds - a.seconds }) {
		least := slices.MinFunc(shares, func(a, b *labPackage) int { return a.seconds() - b.seconds() })
		least.tests = append(least.tests, test)
	}
	return slices.DeleteFunc(shares, func(p *labPackage) bool { return len(p.tests) == 0 })
}

// machineSeconds is how long the tests of one package may keep one machine before another one takes a part of them.
// Another one costs a boot.
const machineSeconds = 250

// A testRun is one call of "lab/vm test".
type testRun struct {
	options
	profiles       []string
	match          *regexp.Regexp // top-level tests
	run            string         // as given
	verbose        bool
	packageTimeout time.Duration
	coverdir       string
	scratch        string // where the compiled tests are
	parallel       int
	everyProfile   bool
	guest, host    []*labPackage
	terminal       io.Writer
	terminalMu     sync.Mutex
}

// runTests compiles the lab tests of each package once, then boots each profile for each
// package with tests for it, several times where they take long, and runs them in it. A test that ran on none is a
// failure. Tests that boot VMs by themselves run beside them, on the host.
func runTests(ctx context.Context, args []string) (int, error) {
	t := testRun{terminal: os.Stdout}
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	t.register(fs)
	everyProfile := strings.Join(append(profileNames(), hostProfile), ",")
	fs.StringVar(&t.profile, "p", everyProfile, "`profiles` to boot, with commas between; host is no VM but the tests that boot their own")
	fs.BoolVar(&t.verbose, "v", false, "print what every test says, not only those that fail")
	fs.StringVar(&t.run, "run", "", "run only the tests that match this `regexp`, as in go test")
	fs.DurationVar(&t.packageTimeout, "package-timeout", 30*time.Minute, "longest time for the tests of one package")
	fs.StringVar(&t.coverdir, "coverdir", "", "write coverage data to this `folder`, for go tool covdata")
	fs.IntVar(&t.parallel, "j", 1, "`number` of machines at a time (some tests on the host boot two)")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	patterns := fs.Args()
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	t.profiles, t.everyProfile = strings.Split(t.profile, ","), t.profile == everyProfile
	var err error
	if t.match, err = regexp.Compile(first(t.run)); err != nil {
		return 2, fmt.Errorf("-run: %w", err)
	}
	if t.scratch, err = os.MkdirTemp("", "lab-test-"); err != nil {
		return exitFailed, err
	}
	defer os.RemoveAll(t.scratch)
	if t.coverdir != "" {
		if t.coverdir, err = filepath.Abs(t.coverdir); err != nil {
			return exitFailed, err
		}
		if err := os.MkdirAll(t.coverdir, 0o755); err != nil {
			return exitFailed, err
		}
	}
	if t.guest, err = t.packages(ctx, inGuest, patterns); err != nil {
		return exitFailed, err
	}
	if slices.Contains(t.profiles, hostProfile) {
		if t.host, err = t.packages(ctx, onHost, patterns); err != nil {
			return exitFailed, err
		}
	}
	if len(t.guest)+len(t.host) == 0 {
		return exitFailed, fmt.Errorf("no lab tests in %s: they live in *%s with //go:build %s", strings.Join(patterns, " "), inGuest.suffix(), inGuest)
	}
	reports, err := t.runAll(ctx)
	if err != nil {
		return exitFailed, err
	}
	if len(reports) == 0 {
		return exitFailed, fmt.Errorf("no lab tests for %s in %s", strings.Join(t.profiles, " and "), strings.Join(patterns, " "))
	}
	failed := slices.ContainsFunc(reports, func(r *report) bool { return r.failed })
	if t.everyProfile && !failed {
		for _, name := range neverRun(slices.Concat(t.guest, t.host), reports) {
			fmt.Fprintf(t.terminal, "FAIL\t%s: skipped on every profile\n", name)
			failed = true
		}
	}
	t.times(reports)
	if failed {
		return 1, nil
	}
	return 0, nil
}

// times says where the time went, what used most first.
func (t *testRun) times(reports []*report) {
	if len(reports) < 2 {
		return
	}
	var wall, used time.Duration
	slices.SortStableFunc(reports, func(a, b *report) int { return cmp.Compare(b.used, a.used) })
	fmt.Fprintf(t.terminal, "\n%8s %8s\n", "wall s", "CPU s")
	for _, r := range reports {
		wall, used = wall+r.took, used+r.used
		fmt.Fprintf(t.terminal, "%8.0f %8.0f  %s [%s] from %.0f s on\n", r.took.Seconds(), r.used.Seconds(), r.packages[0].path, r.machine, r.began.Seconds())
	}
	fmt.Fprintf(t.terminal, "%8.0f %8.0f  in all, %d at a time\n", wall.Seconds(), used.Seconds(), t.parallel)
	t.longest(reports)
}

// longest names the tests that took longest, and what they say of it.
func (t *testRun) longest(reports []*report) {
	type duration struct {
		seconds float64
		said    int
		test    string
	}
	var all []duration
	for _, r := range reports {
		for _, p := range r.packages {
			for _, test := range p.tests {
				if seconds, ok := r.ran[p.path+"."+test.name]; ok {
					all = append(all, duration{seconds, test.seconds, p.path + "." + test.name + " [" + r.machine + "]"})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b duration) int { return cmp.Compare(b.seconds, a.seconds) })
	fmt.Fprintf(t.terminal, "\n%8s %8s\n", "wall s", "it says")
	for _, d := range all[:min(20, len(all))] {
		fmt.Fprintf(t.terminal, "%8.0f %8d  %s\n", d.seconds, d.said, d.test)
	}
}

// runAll runs the tests of each package on each profile, so many machines at a time. What takes longest begins: it
// decides when all is done.
func (t *testRun) runAll(ctx context.Context) (reports []*report, err error) {
	for _, p := range slices.Concat(t.host, t.guest) {
		for _, name := range t.profiles {
			if (name == hostProfile) != (p.kind == onHost) {
				continue
			}
			// A VM for each package: what one leaves of a NIC's settings is no other's.
			shares := p.on(name).share()
			for i, share := range shares {
				r := &report{profile: name, machine: name, token: rand.Text(), packages: []*labPackage{share}, verbose: t.verbose}
				if len(shares) > 1 {
					r.machine = fmt.Sprintf("%s %d/%d", name, i+1, len(shares))
				}
				reports = append(reports, r)
			}
		}
	}
	slices.SortStableFunc(reports, func(a, b *report) int { return b.packages[0].seconds() - a.packages[0].seconds() })

	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, max(1, t.parallel))
	start := time.Now()
	for _, r := range reports {
		run := t.onHost
		if r.profile != hostProfile {
			v, err := t.machine(r.profile)
			if err != nil {
				return nil, err
			}
			run = func(ctx context.Context, r *report) (int, error) {
				defer func() { r.used = v.used }()
				return v.run(ctx, t.script(r.packages, r.token), r)
			}
		}
		slots <- struct{}{}
		r.began = time.Since(start)
		wg.Go(func() {
			defer func() { <-slots }()
			defer t.show(r)()
			r.finish(run(ctx, r))
			r.took = time.Since(start) - r.began
		})
	}
	return reports, nil
}

// onHost runs tests that boot VMs by themselves.
func (t *testRun) onHost(ctx context.Context, r *report) (int, error) {
	c := exec.CommandContext(ctx, "sh", "-c", t.script(r.packages, r.token))
	c.Env = append(os.Environ(), "NICTUNE_LAB="+hostProfile)
	for _, p := range t.guest {
		if p.path == r.packages[0].path {
			c.Env = append(c.Env, "NICTUNE_LAB_TESTS="+p.binary) // for those that run tests of the package in their VMs
		}
	}
	c.Stdout, c.Stderr = r, r
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	err := c.Run()
	r.used = cpuTime(c)
	return c.ProcessState.ExitCode(), err
}

// show lets a report write to the terminal: as it goes when it is alone, else at its end.
func (t *testRun) show(r *report) (end func()) {
	if t.parallel <= 1 {
		r.out = t.terminal
		return func() {}
	}
	var whole bytes.Buffer
	r.out = &whole
	return func() {
		t.terminalMu.Lock()
		defer t.terminalMu.Unlock()
		io.Copy(t.terminal, &whole)
	}
}

// machine is the VM of a profile with the module, the tests and the coverage folder in it.
func (t *testRun) machine(profile string) (*vm, error) {
	v, err := t.vm(profile)
	if err != nil {
		return nil, err
	}
	v.forTests()
	dirs := []string{t.scratch}
	if t.coverdir != "" {
		dirs = append(dirs, t.coverdir)
	}
	for _, p := range t.guest {
		dirs = append(dirs, moduleRoot(p.dir))
	}
	for _, d := range dirs {
		if err := v.show(d); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// first is the part of a -run expression that matches top-level tests.
func first(run string) string { s, _, _ := strings.Cut(run, "/"); return s }

// packages asks Go for the packages, reads the names of their lab tests and compiles them.
func (t *testRun) packages(ctx context.Context, k kind, patterns []string) ([]*labPackage, error) {
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-tags", string(k), "-json=Dir,ImportPath,TestGoFiles,XTestGoFiles"}, patterns...)...)
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
		lp := &labPackage{path: p.ImportPath, dir: p.Dir, kind: k}
		for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			if !strings.HasSuffix(name, k.suffix()) {
				continue
			}
			tests, err := testsOf(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			for _, test := range tests {
				if t.match.MatchString(test.name) {
					lp.tests = append(lp.tests, test)
				}
			}
		}
		if len(lp.tests) == 0 {
			continue
		}
		lp.binary = filepath.Join(t.scratch, fmt.Sprintf("%s%d.test", k, len(packages)))
		if err := t.compile(ctx, lp); err != nil {
			return nil, err
		}
		packages = append(packages, lp)
	}
	return packages, nil
}

// A labTest is a top-level test, with the profiles that it names.
type labTest struct {
	name     string
	profiles []string // of a labtest.Require that stands in it by itself; none: it may run on each
	seconds  int      // how long it takes, of a comment "//lab:seconds 90" above it
}

// shortSeconds is how long a test takes that doesn't say so.
const shortSeconds = 3

// testsOf are the top-level tests of one file.
func testsOf(path string) (tests []labTest, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && fn.Name.Name != "TestMain" {
			seconds, err := takes(fn)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			tests = append(tests, labTest{fn.Name.Name, required(fn), seconds})
		}
	}
	return tests, nil
}

// takes is how long a test takes, by its comment.
func takes(fn *ast.FuncDecl) (seconds int, err error) {
	if fn.Doc != nil {
		for _, line := range fn.Doc.List {
			if said, ok := strings.CutPrefix(line.Text, "//lab:seconds "); ok {
				if seconds, err = strconv.Atoi(said); err != nil || seconds <= 0 {
					return 0, fmt.Errorf("%s: %q is no number of seconds", fn.Name.Name, line.Text)
				}
				return seconds, nil
			}
		}
	}
	return shortSeconds, nil
}

// required are the profiles of labtest.Require(t, "nics", ...) where that is a test's first
// statement: on the others it skips itself, and a machine with nothing but skips need not boot.
func required(fn *ast.FuncDecl) (profiles []string) {
	if fn.Body == nil || len(fn.Body.List) == 0 {
		return nil
	}
	first, _ := fn.Body.List[0].(*ast.ExprStmt)
	if first == nil {
		return nil
	}
	call, _ := first.X.(*ast.CallExpr)
	if call == nil || len(call.Args) < 2 {
		return nil
	}
	var name *ast.Ident // package labtest itself calls it by its own name
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		name = f.Sel
	case *ast.Ident:
		name = f
	}
	if name == nil || name.Name != "Require" {
		return nil
	}
	for _, arg := range call.Args[1:] {
		literal, _ := arg.(*ast.BasicLit)
		if literal == nil {
			return nil
		}
		name, err := strconv.Unquote(literal.Value)
		if err != nil {
			return nil
		}
		profiles = append(profiles, name)
	}
	return profiles
}

func (t *testRun) compile(ctx context.Context, p *labPackage) error {
	// Without what only a debugger reads: linked in half the time, and a third less for a guest to load. make lint vets.
	args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-tags", string(p.kind), "-o", p.binary}
	if t.coverdir != "" {
		args = append(args, "-cover", "-coverpkg=./...")
	}
	c := exec.CommandContext(ctx, "go", append(args, p.path)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0") // the guest has another C library
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: its lab tests do not compile: %w", p.path, err)
	}
	return nil
}

// script is a shell script that runs the packages. A line with the token stands after each one's output.
func (t *testRun) script(packages []*labPackage, token string) string {
	var s strings.Builder
	s.WriteString("now() { read up idle </proc/uptime; echo ${up%.*}${up#*.}0; }\n") // ms since boot
	for i, p := range packages {
		var names []string
		for _, test := range p.tests {
			names = append(names, test.name)
		}
		filter := "^(" + strings.Join(names, "|") + ")$"
		if _, sub, ok := strings.Cut(t.run, "/"); ok {
			filter += "/" + sub
		}
		fmt.Fprintf(&s, "t=$(now); cd %s && %s -test.v -test.paniconexit0 -test.timeout=%s -test.run=%s", quote(p.dir), quote(p.binary), t.packageTimeout, quote(filter))
		if t.coverdir != "" {
			fmt.Fprintf(&s, " -test.gocoverdir=%s", quote(t.coverdir))
		}
		fmt.Fprintf(&s, "; rc=$?; printf '\\n%%s %d %%d %%d\\n' %s $rc $(($(now) - t))\n", i, token)
	}
	return s.String()
}

// A report turns the guest's output into lines like those of go test.
type report struct {
	profile, token string
	machine        string // profile, and which of several
	packages       []*labPackage
	verbose        bool
	out            io.Writer

	line   []byte       // not complete yet
	held   bytes.Buffer // what the package said so far
	done   int          // packages finished
	failed bool
	ran    map[string]float64 // package and test, those that did not skip themselves, and the seconds that each took

	began, took time.Duration // since the first began, and wall time
	used        time.Duration // CPU time of all its VMs
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

var outcome = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+) \(([\d.]+)s\)`)

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
			r.ran = map[string]float64{}
		}
		r.ran[r.packages[r.done].path+"."+m[2]], _ = strconv.ParseFloat(m[3], 64)
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
	fmt.Fprintf(r.out, "%s\t%s\t%.3fs\t[%s]\n", status, r.packages[i].path, took.Seconds(), r.machine)
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
	fmt.Fprintf(r.out, "FAIL\t%s\t[%s] %v\n", r.packages[min(r.done, len(r.packages)-1)].path, r.machine, err)
}

// neverRun lists the tests that skipped themselves on every profile.
func neverRun(packages []*labPackage, results []*report) (names []string) {
	for _, p := range packages {
		for _, t := range p.tests {
			name := p.path + "." + t.name
			if !slices.ContainsFunc(results, func(r *report) bool { _, ok := r.ran[name]; return ok }) {
				names = append(names, name)
			}
		}
	}
	slices.SortFunc(names, cmp.Compare)
	return names
}
