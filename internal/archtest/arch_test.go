package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestHouse applies every rule to every file of the module.
func TestHouse(t *testing.T) {
	packages := make(map[string][]source)
	for _, s := range moduleSources(t) {
		packages[s.dir()] = append(packages[s.dir()], s)
		for _, check := range []func(source) []string{checkRooms, checkOwnedImports, checkOwnedCalls, checkInit} {
			report(t, check(s))
		}
	}
	for _, files := range packages {
		report(t, checkPackage(files))
		report(t, checkVariables(files))
	}
}

func report(t *testing.T, complaints []string) {
	t.Helper()
	for _, c := range complaints {
		t.Error(c)
	}
}

// TestRulesBite shows for each rule that it refuses what it is there to refuse, and lets its neighbour pass.
func TestRulesBite(t *testing.T) {
	perFile := func(check func(source) []string) func([]source) []string {
		return func(files []source) []string {
			var out []string
			for _, f := range files {
				out = append(out, check(f)...)
			}
			return out
		}
	}
	const ours = `"` + module + "/"
	for _, test := range []struct {
		name  string
		check func([]source) []string
		path  string
		text  string
		want  string // part of the only complaint; "" for none
	}{
		{"kernel imports nothing of ours", perFile(checkRooms), "internal/kernel/a.go", `import ` + ours + `inventory"`, "internal/kernel may not import inventory"},
		{"inventory imports the seam", perFile(checkRooms), "inventory/a.go", `import ` + ours + `internal/kernel"`, ""},
		{"a folder below a room is that room", perFile(checkRooms), "inventory/a.go", `import ` + ours + `internal/kernel/netlink"`, ""},
		{"the inner room counts, not the outer", perFile(checkRooms), "inventory/module/a.go", `import ` + ours + `inventory"`, "inventory/module may not import inventory"},
		{"policies stay off the kernel", perFile(checkRooms), "policies/a.go", `import ` + ours + `internal/kernel"`, "policies may not import internal/kernel"},
		{"the engine knows no knob", perFile(checkRooms), "tuning/a.go", `import ` + ours + `tuning/settings"`, "tuning may not import tuning/settings"},
		{"nobody imports cmd", perFile(checkRooms), "exporters/a.go", `import ` + ours + `cmd/nictune"`, "exporters may not import cmd"},
		{"cmd imports all", perFile(checkRooms), "cmd/nictune/a.go", `import ` + ours + `audit"`, ""},
		{"a similar name is no room", perFile(checkRooms), "inventoryx/a.go", ``, "belongs to no room"},
		{"a test may import a fixture", perFile(checkRooms), "policies/a_test.go", `import ` + ours + `internal/kernel"`, ""},

		{"x/sys behind the seam", perFile(checkOwnedImports), "internal/kernel/a.go", `import "golang.org/x/sys/unix"`, ""},
		{"x/sys elsewhere", perFile(checkOwnedImports), "inventory/a.go", `import "golang.org/x/sys/unix"`, "inventory may not import golang.org/x/sys/unix"},
		{"slog in a library", perFile(checkOwnedImports), "tuning/a.go", `import "log/slog"`, "only cmd logs"},
		{"slog in cmd", perFile(checkOwnedImports), "cmd/nictune/a.go", `import "log/slog"`, ""},
		{"exec in cmd", perFile(checkOwnedImports), "cmd/nictune/a.go", `import "os/exec"`, "runs no programs"},
		{"exec in a test", perFile(checkOwnedImports), "inventory/a_test.go", `import "os/exec"`, ""},
		{"client_golang in a library", perFile(checkOwnedImports), "audit/a.go", `import "github.com/prometheus/client_golang/prometheus"`, "only exporters and cmd"},
		{"ebpf's limits", perFile(checkOwnedImports), "xdpcheck/a.go", `import "github.com/cilium/ebpf/rlimit"`, "in every command"},
		{"ebpf outside the probe", perFile(checkOwnedImports), "audit/a.go", `import "github.com/cilium/ebpf/link"`, "only the probe"},

		{"environment in a library", perFile(checkOwnedCalls), "audit/a.go", `import "os"; var a = os.Getenv("A")`, "only cmd reads the environment"},
		{"a renamed import", perFile(checkOwnedCalls), "audit/a.go", `import sys "os"; var a = sys.Getenv("A")`, "only cmd reads the environment"},
		{"a function as a value", perFile(checkOwnedCalls), "audit/a.go", `import "os"; var read = os.ReadFile`, "audit may not use os.ReadFile"},
		{"reading a file in the inventory", perFile(checkOwnedCalls), "inventory/a.go", `import "os"; var b, _ = os.ReadFile("x")`, "inventory may not use os.ReadFile"},
		{"a type of package os is fine", perFile(checkOwnedCalls), "inventory/a.go", `import "os"; var e = os.ErrNotExist`, ""},
		{"the journal's own file", perFile(checkOwnedCalls), "tuning/a.go", `import "os"; var b, _ = os.ReadFile("x")`, ""},
		{"sysfs from cmd", perFile(checkOwnedCalls), "cmd/nictune/a.go", `import "os"; var b, _ = os.ReadFile("/sys/class/net/" + "x")`, "only internal/kernel reads and writes"},
		{"sysfs behind the seam", perFile(checkOwnedCalls), "internal/kernel/a.go", `import "os"; var b, _ = os.ReadFile("/sys/class/net")`, ""},
		{"our own binary from cmd", perFile(checkOwnedCalls), "cmd/nictune/a.go", `import "os"; var p, _ = os.StartProcess("/proc/self/exe", nil, nil)`, ""},
		{"another program from cmd", perFile(checkOwnedCalls), "cmd/nictune/a.go", `import "os"; var p, _ = os.StartProcess("/bin/ip", nil, nil)`, "runs no programs"},
		{"a program that is not written out", perFile(checkOwnedCalls), "cmd/nictune/a.go", `import "os"; func f(s string) { _, _ = os.StartProcess(s, nil, nil) }`, "runs no programs"},
		{"our own binary from a library", perFile(checkOwnedCalls), "tuning/a.go", `import "os"; var p, _ = os.StartProcess("/proc/self/exe", nil, nil)`, "tuning may not use os.StartProcess"},
		{"a local variable called os", perFile(checkOwnedCalls), "audit/a.go", `import "os"; var _ = os.ErrExist; func f(os x) { os.Getenv() }`, ""},

		{"init", perFile(checkInit), "audit/a.go", `func init() {}`, "init()"},
		{"a method called init", perFile(checkInit), "audit/a.go", `func (x) init() {}`, ""},

		{"a package called util", checkPackage, "audit/a.go", `util`, "name it after what lives there"},
		{"no package comment", checkPackage, "audit/a.go", `nocomment`, "no package comment"},

		{"a table", checkVariables, "audit/a.go", `var table = map[string]int{"a": 1}; func f() int { return table["a"] }`, ""},
		{"a written table", checkVariables, "audit/a.go", `var table = map[string]int{"a": 1}; func f() { table["b"] = 2 }`, "package variable table is written"},
		{"a counter", checkVariables, "audit/a.go", `var n int; func f() { n++ }`, "package variable n is written"},
		{"a field", checkVariables, "audit/a.go", `var c struct{ on bool }; func f() { c.on = true }`, "package variable c is written"},
		{"an address", checkVariables, "audit/a.go", `var c int; func f() *int { return &c }`, "package variable c is written"},
		{"a local of the same name", checkVariables, "audit/a.go", `var n = 1; func f() int { n := 2; n = 3; return n }`, ""},
		{"a lock", checkVariables, "audit/a.go", `import "sync"; var mu sync.Mutex`, "package variable of sync.Mutex"},
		{"an atomic pointer", checkVariables, "audit/a.go", `import "sync/atomic"; var p atomic.Pointer[int]`, "package variable of atomic.Pointer"},
		{"a table computed once", checkVariables, "audit/a.go", `import "sync"; var t = sync.OnceValue(f)`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := "// Package audit judges.\npackage audit\n" + test.text
			switch test.text {
			case "util":
				text = "// Package util is anything.\npackage util\n"
			case "nocomment":
				text = "package audit\n"
			}
			got := test.check([]source{parse(t, test.path, text)})
			if test.want == "" {
				if len(got) != 0 {
					t.Errorf("refused: %q", got)
				}
				return
			}
			if len(got) != 1 || !strings.Contains(got[0], test.want) {
				t.Errorf("got %q, want one complaint with %q", got, test.want)
			}
		})
	}
}

// TestVariablesAcrossFiles shows that a write is found in another file than the declaration.
func TestVariablesAcrossFiles(t *testing.T) {
	files := []source{
		parse(t, "audit/a.go", "package audit\nvar n int\n"),
		parse(t, "audit/b.go", "package audit\nfunc f() { n = 1 }\n"),
	}
	if got := checkVariables(files); len(got) != 1 || !strings.HasPrefix(got[0], "audit/b.go:2: package variable n") {
		t.Errorf("got %q", got)
	}
}

// TestTableIsDocumented keeps the table in docs/ARCHITECTURE.md equal to the one tested here.
func TestTableIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Who may import whom\n")
	if !ok {
		t.Fatal("docs/ARCHITECTURE.md has no section \"Who may import whom\"")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	documented := make(map[string][]string)
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) == 2 && strings.HasPrefix(strings.TrimSpace(cells[0]), "`") {
			documented[quoted(cells[0])[0]] = quoted(cells[1])
		}
	}
	for _, r := range rooms {
		got, ok := documented[r.path]
		if !ok {
			t.Errorf("docs/ARCHITECTURE.md has no row for `%s`", r.path)
			continue
		}
		want := slices.Sorted(slices.Values(r.imports))
		slices.Sort(got)
		if slices.Equal(want, []string{"*"}) {
			want = nil // "all", in words
		}
		if !slices.Equal(got, want) {
			t.Errorf("docs/ARCHITECTURE.md: `%s` may import %v, the test says %v", r.path, got, want)
		}
		delete(documented, r.path)
	}
	for name := range documented {
		t.Errorf("docs/ARCHITECTURE.md has a row for `%s`, the test has none", name)
	}
}

// quoted gives the `words` of a table cell.
func quoted(cell string) []string {
	var out []string
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			out = append(out, part)
		}
	}
	return out
}
