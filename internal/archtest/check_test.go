package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// Each check takes one file (or the files of one package) and returns its complaints, "file:line: what and why".

// roomOf finds the innermost room a folder belongs to.
func roomOf(dir string) (room, bool) {
	var best room
	for _, r := range rooms {
		if within(dir, r.path) && len(r.path) > len(best.path) {
			best = r
		}
	}
	return best, best.path != ""
}

// within says whether a path is root or lies below it.
func within(p, root string) bool {
	return p == root || strings.HasPrefix(p, root+"/")
}

// checkRooms holds a file's imports of our own packages against the import table. Tests may import more (a fixture,
// the bench), but never a room that stands above the one they test.
func checkRooms(s source) []string {
	own, ok := roomOf(s.dir())
	if !ok {
		return []string{fmt.Sprintf("%s: folder %q belongs to no room: add a row to internal/archtest and docs/ARCHITECTURE.md", s.path, s.dir())}
	}
	if s.isTest() || slices.Contains(own.imports, "*") {
		return nil
	}
	var out []string
	for spec, p := range s.imports() {
		if !within(p, module) {
			continue
		}
		dir := strings.TrimPrefix(strings.TrimPrefix(p, module), "/")
		other, ok := roomOf(dir)
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("%s: imports %s, which belongs to no room", s.at(spec), p))
		case other.path != own.path && !slices.Contains(own.imports, other.path):
			out = append(out, fmt.Sprintf("%s: %s may not import %s (only %v)", s.at(spec), own.path, other.path, own.imports))
		}
	}
	return out
}

// checkOwnedImports holds a file's other imports against the list of who owns which library.
func checkOwnedImports(s source) []string {
	if s.isTest() {
		return nil
	}
	own, _ := roomOf(s.dir())
	var out []string
	for spec, p := range s.imports() {
		for _, o := range ownedImports {
			if within(p, o.path) && !slices.Contains(o.rooms, own.path) {
				out = append(out, fmt.Sprintf("%s: %s may not import %s: %s", s.at(spec), own.path, p, o.why))
			}
		}
	}
	return out
}

// checkOwnedCalls finds uses (calls, and functions passed as values) of the functions in ownedCalls, and paths
// under /sys and /proc handed to them outside the seam.
func checkOwnedCalls(s source) []string {
	if s.isTest() {
		return nil
	}
	own, _ := roomOf(s.dir())
	names := make(map[string]string) // what this file calls a package -> its import path
	for _, c := range ownedCalls {
		if name := s.nameOf(c.pkg); name != "" {
			names[name] = c.pkg
		}
	}
	var out []string
	find := func(e ast.Expr) (ownedCall, string, bool) {
		sel, ok := e.(*ast.SelectorExpr)
		if !ok {
			return ownedCall{}, "", false
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok || id.Obj != nil { // a local variable that happens to have the package's name
			return ownedCall{}, "", false
		}
		for _, c := range ownedCalls {
			if names[id.Name] == c.pkg && slices.Contains(c.funcs, sel.Sel.Name) {
				return c, c.pkg + "." + sel.Sel.Name, true
			}
		}
		return ownedCall{}, "", false
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if c, name, ok := find(n); ok && !slices.Contains(c.rooms, own.path) {
				out = append(out, fmt.Sprintf("%s: %s may not use %s: %s", s.at(n), own.path, name, c.why))
			}
		case *ast.CallExpr:
			_, name, ok := find(n.Fun)
			if !ok || slices.Contains(kernelFiles, own.path) {
				return true
			}
			if name == "os.StartProcess" {
				if len(n.Args) == 0 || kernelPath(n.Args[0]) != ownBinary {
					out = append(out, fmt.Sprintf("%s: %s of another program than %s: %s", s.at(n), name, ownBinary, "a root agent that runs no programs is easy to trust"))
				}
				return true
			}
			for _, arg := range n.Args {
				if p := kernelPath(arg); p != "" {
					out = append(out, fmt.Sprintf("%s: %s with %q: only internal/kernel reads and writes /sys and /proc", s.at(n), name, p))
				}
			}
		}
		return true
	})
	return out
}

// kernelPath gives the first string below an expression that is a path under /sys or /proc, or "".
func kernelPath(e ast.Expr) (found string) {
	ast.Inspect(e, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && found == "" {
			if p, err := strconv.Unquote(lit.Value); err == nil && (within(p, "/sys") || within(p, "/proc")) {
				found = p
			}
		}
		return true
	})
	return found
}

// checkInit refuses init functions: what runs before main can't be tested, ordered or refused.
func checkInit(s source) []string {
	var out []string
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			out = append(out, fmt.Sprintf("%s: init(): build it where it is used, or in a constructor", s.at(f)))
		}
	}
	return out
}

// checkPackage looks at the files of one folder together: its name and its package comment.
func checkPackage(files []source) []string {
	var out []string
	commented := false
	tests := true
	for _, s := range files {
		if slices.Contains(forbiddenNames, s.file.Name.Name) {
			out = append(out, fmt.Sprintf("%s: package %s: name it after what lives there", s.path, s.file.Name.Name))
		}
		if s.isTest() {
			continue
		}
		tests = false
		if s.file.Doc != nil && strings.TrimSpace(s.file.Doc.Text()) != "" {
			commented = true
		}
	}
	if !commented && !tests {
		out = append(out, fmt.Sprintf("%s: no package comment: say what the room is for and what it never does", files[0].dir()))
	}
	return out
}

// checkVariables refuses package variables that are ever written after their declaration, and those whose type only
// makes sense when written (locks, pools, atomics). Tables, sentinel errors and embedded files stay: nothing writes
// them. It works on syntax: an identifier counts when no inner scope of its file declares it.
//
// A linter that refuses every package variable (gochecknoglobals) would need an exception per table; this refuses
// what does harm.
func checkVariables(files []source) []string {
	vars := make(map[string]bool)
	var out []string
	for _, s := range files {
		if s.isTest() {
			continue
		}
		for _, d := range s.file.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if !ok {
					continue
				}
				if name := mutableType(v); name != "" {
					out = append(out, fmt.Sprintf("%s: package variable of %s: state belongs to a value with an owner", s.at(v), name))
				}
				for _, id := range v.Names {
					vars[id.Name] = id.Name != "_"
				}
			}
		}
	}
	for _, s := range files {
		if s.isTest() {
			continue
		}
		for _, id := range written(s.file) {
			if vars[id.Name] && !declaredInside(s.file, id) {
				out = append(out, fmt.Sprintf("%s: package variable %s is written: state belongs to a value with an owner", s.at(id), id.Name))
			}
		}
	}
	return out
}

// mutableType names the type of a declaration that holds state by nature, or "".
func mutableType(v *ast.ValueSpec) (name string) {
	look := func(e ast.Expr) {
		if c, ok := e.(*ast.CompositeLit); ok {
			e = c.Type
		}
		if u, ok := e.(*ast.UnaryExpr); ok {
			if c, ok := u.X.(*ast.CompositeLit); ok {
				e = c.Type
			}
		}
		if ix, ok := e.(*ast.IndexExpr); ok { // atomic.Pointer[T]
			e = ix.X
		}
		sel, ok := e.(*ast.SelectorExpr)
		if !ok {
			return
		}
		pkg, ok := sel.X.(*ast.Ident)
		if ok && (pkg.Name == "sync" || pkg.Name == "atomic") {
			name = pkg.Name + "." + sel.Sel.Name
		}
	}
	if v.Type != nil {
		look(v.Type)
	}
	for _, e := range v.Values {
		look(e) // sync.OnceValue(...) is a call, not a literal: a table computed at first use stays
	}
	return name
}

// written collects the identifiers at the root of everything a file assigns to, counts up, takes the address of,
// deletes from or clears.
func written(f *ast.File) []*ast.Ident {
	var out []*ast.Ident
	add := func(e ast.Expr) {
		if id := rootOf(e); id != nil {
			out = append(out, id)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					add(e)
				}
			}
		case *ast.IncDecStmt:
			add(n.X)
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				add(n.Key)
				add(n.Value)
			}
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				add(n.X)
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear" || id.Name == "copy") && len(n.Args) > 0 {
				add(n.Args[0])
			}
		}
		return true
	})
	return out
}

// rootOf follows x.f, x[i], *x and (x) down to x.
func rootOf(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// declaredInside says whether an identifier means something declared in a function of its file. The parser resolves
// names file by file: a name it could not resolve is another file's, and so the package's.
func declaredInside(f *ast.File, id *ast.Ident) bool {
	return id.Obj != nil && f.Scope.Lookup(id.Name) != id.Obj
}
