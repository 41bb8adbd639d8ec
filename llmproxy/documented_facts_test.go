package llmproxy

import (
	"go/ast"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/check"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// The table of errors has every code that the gateway can send, and no other.
func TestDocumentedErrorCodes(t *testing.T) {
	t.Parallel()
	var folders []string
	for name := range floor {
		if strings.HasPrefix(name, "llmproxy/internal/") && !strings.HasPrefix(name, "llmproxy/internal/fakellm") {
			folders = append(folders, name)
		}
	}
	sent := map[string]bool{}
	for _, p := range sources(t, folders...) {
		for _, f := range p.files {
			ast.Inspect(f, func(n ast.Node) bool {
				for _, code := range codesIn(n) {
					sent[code] = true
				}
				return true
			})
		}
	}
	wantSame(t, "error codes", slices.Collect(maps.Keys(sent)), tableColumn(t, "api.md", "Errors", 1))
}

// codesIn returns the string literals that a node sets a field Code to.
func codesIn(n ast.Node) (codes []string) {
	add := func(value ast.Expr) {
		if lit, ok := value.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if code, err := strconv.Unquote(lit.Value); err == nil && code != "" {
				codes = append(codes, code)
			}
		}
	}
	switch n := n.(type) {
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
			add(n.Value)
		}
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			if s, ok := left.(*ast.SelectorExpr); ok && s.Sel.Name == "Code" && len(n.Lhs) == len(n.Rhs) {
				add(n.Rhs[i])
			}
		}
	}
	return codes
}

func TestDocumentedVerdicts(t *testing.T) {
	t.Parallel()
	var verdicts []string
	for v := router.OK; v <= router.ClientClosed; v++ {
		verdicts = append(verdicts, v.String())
	}
	wantSame(t, "verdicts", verdicts, tableColumn(t, "failover.md", "Verdicts", 0))
}

func TestDocumentedStates(t *testing.T) {
	t.Parallel()
	var states []string
	for s := replica.Up; s <= replica.Stuck; s++ {
		states = append(states, s.String())
	}
	wantSame(t, "states", states, tableColumn(t, "health.md", "States of a replica", 0))
}

func TestDocumentedKinds(t *testing.T) {
	t.Parallel()
	var kinds []string
	for _, k := range upstream.Kinds {
		kinds = append(kinds, k.Name)
	}
	wantSame(t, "kinds", kinds, tableColumn(t, "upstreams.md", "Kinds", 0))
}

func TestDocumentedFeatures(t *testing.T) {
	t.Parallel()
	for _, name := range router.FeatureNames {
		if !strings.Contains(read(t, "../docs/capabilities.md"), "`"+name+"`") {
			t.Errorf("docs/capabilities.md does not have the feature %s", name)
		}
	}
}

func TestDocumentedPolicies(t *testing.T) {
	t.Parallel()
	for _, name := range tableColumn(t, "models.md", "Options", 0) {
		if strings.Contains(name, " ") || name == "local_only" { // subdirectives
			continue
		}
		if _, err := router.ParsePolicy(name); err != nil {
			t.Error(err)
		}
	}
}

func TestDocumentedEndpoints(t *testing.T) {
	t.Parallel()
	for _, row := range tableColumn(t, "api.md", "Endpoints", 0) {
		_, path, found := strings.Cut(row, " ")
		if !found {
			path = row // another path of the method before
		}
		_, simple := gateway.SimpleChatEndpoint(path) // at a site that has simple_chat
		if _, ok := gateway.TaskOf(path); !ok && !simple {
			t.Errorf("docs/api.md has the endpoint %s, which is not served", path)
		}
	}
}

// docs/admin.md has every command and every flag. A command with a page of its own has its flags there.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	page := read(t, "../docs/admin.md")
	for _, c := range commands() {
		parent := &cobra.Command{Use: c.Name}
		c.CobraFunc(parent)
		commands := parent.Commands()
		if own, err := os.ReadFile("../docs/" + strings.TrimPrefix(c.Name, "llm-") + ".md"); err == nil {
			page += string(own)
		}
		if len(commands) == 0 {
			if !strings.Contains(page, "`caddy "+c.Name) {
				t.Errorf("docs/admin.md does not have the command caddy %s", c.Name)
			}
			checkFlags(t, page, parent)
		}
		for _, sub := range commands {
			if name := "caddy " + c.Name + " " + sub.Name(); !strings.Contains(page, "`"+name) {
				t.Errorf("docs/admin.md does not have the command %s", name)
			}
			checkFlags(t, page, sub)
		}
	}
}

// docs/check.md has every check, and no other.
func TestDocumentedChecks(t *testing.T) {
	t.Parallel()
	documented := strings.FieldsFunc(strings.Join(tableColumn(t, "check.md", "What is checked", 0), ","), func(r rune) bool { return strings.ContainsRune(" ,`", r) })
	slices.Sort(documented)
	names := slices.Sorted(slices.Values(check.Names))
	if diff := cmp.Diff(names, documented); diff != "" {
		t.Errorf("docs/check.md (-checks +documented):\n%s", diff)
	}
}

func checkFlags(t *testing.T, page string, cmd *cobra.Command) {
	t.Helper()
	for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(cmd.LocalFlags().FlagUsages(), -1) {
		if !strings.Contains(page, "`"+flag) {
			t.Errorf("the documentation does not have %s of %s", flag, cmd.CommandPath())
		}
	}
}

// docs/architecture.md lists every package.
func TestDocumentedPackages(t *testing.T) {
	t.Parallel()
	_, tree, found := strings.Cut(read(t, "../docs/architecture.md"), "## The packages\n\n```\n")
	if !found {
		t.Fatal("docs/architecture.md has no list of packages")
	}
	tree, _, _ = strings.Cut(tree, "```")
	var listed, above []string
	for line := range strings.Lines(tree) {
		name := strings.Fields(line)[0]
		depth := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		above = append(above[:depth], strings.TrimSuffix(name, "/"))
		folder := strings.Join(above, "/")
		switch _, isPackage := floor[folder]; {
		case name == "plugin.go":
			listed = append(listed, "")
		case isPackage:
			listed = append(listed, folder)
		case folder != "llmproxy/internal" && folder != "e2e": // a folder of packages, another module
			t.Errorf("docs/architecture.md lists %s, which is not a package", folder)
		}
	}
	wantSame(t, "packages", slices.Collect(maps.Keys(floor)), listed)
}

// Each arrow between packages in docs/architecture.md is an import.
func TestDocumentedImports(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, root+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[[2]string]bool{} // by the last elements of their paths
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for _, imported := range fields[1:] {
			if strings.HasPrefix(imported, root) {
				imports[[2]string{path.Base(fields[0]), path.Base(imported)}] = true
			}
		}
	}
	_, picture, found := strings.Cut(read(t, "../docs/architecture.md"), "flowchart TD\n")
	if !found {
		t.Fatal("docs/architecture.md has no picture of the imports")
	}
	picture, _, _ = strings.Cut(picture, "```")
	label := regexp.MustCompile(`\["[^"]*"\]`)
	arrows := 0
	for line := range strings.Lines(label.ReplaceAllString(picture, "")) {
		steps := strings.Split(strings.TrimSpace(line), " --> ")
		for i := range steps[1:] {
			for _, from := range strings.Split(steps[i], " & ") {
				for _, to := range strings.Split(steps[i+1], " & ") {
					if arrows++; !imports[[2]string{from, to}] {
						t.Errorf("docs/architecture.md has an arrow from %s to %s, which is not an import", from, to)
					}
				}
			}
		}
	}
	if arrows < 20 {
		t.Errorf("only %d arrows were found", arrows)
	}
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// tableColumn returns what is written as code in a column of the tables below a heading of a page.
func tableColumn(t *testing.T, page, heading string, column int) (list []string) {
	t.Helper()
	_, text, found := strings.Cut(read(t, "../docs/"+page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/%s has no heading %q", page, heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, " "), "|")
		if len(cells) < column+3 {
			continue
		}
		for _, span := range codeSpan.FindAllStringSubmatch(cells[column+1], -1) {
			list = append(list, span[1])
		}
	}
	if len(list) == 0 {
		t.Fatalf("docs/%s has no table below %q", page, heading)
	}
	return list
}

// wantSame fails unless both lists have the same elements, in any order and number.
func wantSame(t *testing.T, what string, code, documented []string) {
	t.Helper()
	for _, list := range []*[]string{&code, &documented} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	if diff := cmp.Diff(code, documented); diff != "" {
		t.Errorf("%s (-code +documentation):\n%s", what, diff)
	}
}
