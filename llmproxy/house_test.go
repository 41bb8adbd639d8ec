package llmproxy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A sourcePackage is a package as its source says, without tests.
type sourcePackage struct {
	name  string // below the module
	files []*ast.File
	paths []string
	fset  *token.FileSet
}

// sources parses the packages below some folders of the module.
func sources(t *testing.T, folders ...string) (list []sourcePackage) {
	t.Helper()
	for _, folder := range folders {
		paths, err := filepath.Glob("../" + folder + "/*.go")
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", folder, err)
		}
		p := sourcePackage{name: folder, fset: token.NewFileSet()}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "_other.go") {
				continue
			}
			f, err := parser.ParseFile(p.fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			p.files, p.paths = append(p.files, f), append(p.paths, filepath.Base(path))
		}
		list = append(list, p)
	}
	return list
}

// steps are the packages of the pipeline that do not write to a client.
var steps = []string{
	"llmproxy/internal/access", "llmproxy/internal/catalog", "llmproxy/internal/delivery", "llmproxy/internal/gateway",
	"llmproxy/internal/reqbody", "llmproxy/internal/upstream",
}

// Only exchange and relay write to a client. What the cache puts in front of a client is one itself, and passes writes on.
func TestOnlyExchangeAndRelayWrite(t *testing.T) {
	t.Parallel()
	writing := map[string]bool{"WriteHeader": true, "FlushError": true, "NewResponseController": true, "SetWriteDeadline": true, "ErrorEvent": true}
	for _, p := range sources(t, append(steps, "llmproxy/internal/answercache")...) {
		for _, f := range p.files {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if s, ok := call.Fun.(*ast.SelectorExpr); ok && writing[s.Sel.Name] {
					t.Errorf("%s: %s writes to a client", p.fset.Position(call.Pos()), s.Sel.Name)
				}
				return true
			})
		}
	}
}

// No step replaces the writer or the request under another one's feet: wrappers are passed down.
func TestNothingReassignsWriterOrRequest(t *testing.T) {
	t.Parallel()
	for _, p := range sources(t, append(steps, "llmproxy/internal/answercache", "llmproxy/internal/exchange")...) {
		for _, f := range p.files {
			ast.Inspect(f, func(n ast.Node) bool {
				assign, ok := n.(*ast.AssignStmt)
				if !ok || assign.Tok != token.ASSIGN {
					return true
				}
				for _, left := range assign.Lhs {
					switch x := left.(type) {
					case *ast.Ident:
						if x.Name == "w" {
							t.Errorf("%s: w is replaced", p.fset.Position(x.Pos()))
						}
					case *ast.SelectorExpr:
						if x.Sel.Name == "Request" || x.Sel.Name == "Writer" || x.Sel.Name == "client" {
							if owner, ok := x.X.(*ast.Ident); ok && owner.Name == "w" && p.name == "llmproxy/internal/exchange" {
								continue // the Writer sets up itself
							}
							t.Errorf("%s: %s is replaced", p.fset.Position(x.Pos()), x.Sel.Name)
						}
					}
				}
				return true
			})
		}
	}
}

// serve.go is the table of contents: it names every step of the way, in their order.
func TestServeNamesEveryStep(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("internal/gateway/serve.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"Access.Authenticate(", "Access.Admit(", "g.readBody(", "Access.Reserve(", "g.plan(", "g.deliver(", "Access.Settle("} {
		_, rest, found := bytes.Cut(text, []byte(step))
		if !found {
			t.Fatalf("serve.go does not call %s, or not in its place", step)
		}
		text = rest
	}
}

// widestCircle is how many files of a package may need each other in a circle.
const widestCircle = 6

// widerCircles are the packages whose files need more of each other, and how many.
var widerCircles = map[string]int{
	"llmproxy/internal/upstream": 21, // a kind has functions that ask a server, and the table of kinds names them all
	"llmproxy/internal/fakellm":  15, // likewise, and one file for each API
}

// No two files of a package need each other in a circle wider than a few.
func TestNoWideCircles(t *testing.T) {
	t.Parallel()
	exports := exportData(t)
	for _, p := range sources(t, slices.Sorted(maps.Keys(floor))...) {
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
		config := types.Config{Importer: importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
		if _, err := config.Check(root+p.name, p.fset, p.files, info); err != nil {
			t.Fatal(err)
		}
		needs := make([]map[int]bool, len(p.files))
		for i := range needs {
			needs[i] = map[int]bool{}
		}
		fileOf := func(pos token.Pos) int {
			return slices.IndexFunc(p.files, func(f *ast.File) bool { return f.FileStart <= pos && pos < f.FileEnd })
		}
		for ident, object := range info.Uses {
			if object.Pkg() == nil || object.Pkg().Path() != root+p.name {
				continue
			}
			if from, to := fileOf(ident.Pos()), fileOf(object.Pos()); to >= 0 && from != to {
				needs[from][to] = true
			}
		}
		for _, circle := range circles(needs) {
			if len(circle) > max(widestCircle, widerCircles[p.name]) {
				var names []string
				for _, i := range circle {
					names = append(names, p.paths[i])
				}
				t.Errorf("%s: %d files need each other: %s", p.name, len(circle), strings.Join(names, ", "))
			}
		}
	}
}

// exportData finds what the compiler says of each package that the module needs.
func exportData(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", root+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		var path, file string
		if n, _ := fmt.Sscan(line, &path, &file); n == 2 {
			files[path] = file
		}
	}
	return files
}

// circles are the sets of more than one node that reach each other.
func circles(needs []map[int]bool) (found [][]int) {
	reach := make([][]bool, len(needs))
	for i := range needs {
		reach[i] = make([]bool, len(needs))
		var walk func(int)
		walk = func(n int) {
			for next := range needs[n] {
				if !reach[i][next] {
					reach[i][next] = true
					walk(next)
				}
			}
		}
		walk(i)
	}
	seen := make([]bool, len(needs))
	for i := range needs {
		circle := []int{i}
		for j := i + 1; j < len(needs) && !seen[i]; j++ {
			if reach[i][j] && reach[j][i] {
				circle, seen[j] = append(circle, j), true
			}
		}
		if len(circle) > 1 {
			found = append(found, circle)
		}
	}
	return found
}
