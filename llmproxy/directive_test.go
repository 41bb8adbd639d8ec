package llmproxy

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/google/go-cmp/cmp"
)

// A row documents one subdirective in a table: its syntax, what it does, and its default.
type row struct{ name, syntax, meaning, byDefault string }

var syntaxCell = regexp.MustCompile("^`([^`]+)`$")

// rowsOf returns the rows of all tables in a text whose first cell is one subdirective.
func rowsOf(text string) (rows []row) {
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.ReplaceAll(strings.TrimSpace(line), `\|`, "\x00"), "|")
		if len(cells) < 4 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
		}
		if m := syntaxCell.FindStringSubmatch(cells[1]); m != nil {
			r := row{strings.Fields(m[1])[0], m[1], cells[2], ""}
			if len(cells) > 4 {
				r.byDefault = cells[len(cells)-2]
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// section returns the part of a page below a heading of the second level.
func section(t *testing.T, page, title string) string {
	t.Helper()
	_, text, found := strings.Cut(page, "\n## "+title+"\n")
	if !found {
		t.Fatalf("no section %q", title)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// Every subdirective has a row with its syntax, its meaning with a link to the page that explains it, and its default. It is also part of the
// example of its block, which TestDocumentedCaddyfilesLoad loads.
func TestDirectiveReference(t *testing.T) {
	t.Parallel()
	page := read(t, "../docs/directive.md")
	outlines := map[string]bool{}
	for _, block := range regexp.MustCompile("(?ms)^```\n(llm_.*?)^```").FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			outlines[withoutBlock(line)] = true
		}
	}
	blocks := map[string][]string{"llm": conditionNames()}
	for name, names := range subdirectiveNames {
		blocks[name] = names
	}
	titles := map[string]string{"key": "key and user", "llm": "The matcher llm"}
	for block, names := range blocks {
		t.Run(block, func(t *testing.T) {
			title := block
			if titles[block] != "" {
				title = titles[block]
			}
			text := section(t, page, title)
			var documented []string
			for _, r := range rowsOf(text) {
				isMatcher := block == "llm"
				if r.meaning == "" || r.byDefault == "" && !isMatcher {
					t.Errorf("%s: no meaning or no default", r.name)
				}
				if !isMatcher && !link.MatchString(r.meaning) {
					t.Errorf("%s: no link to the page that explains it", r.name)
				}
				if strings.HasPrefix(r.name, "@") || strings.HasPrefix(r.name, "<") {
					continue // a matcher, or an argument of the block itself
				}
				documented = append(documented, r.name)
				severalForms := r.name == "model" || r.name == "price"
				if !isMatcher && !severalForms && !outlines[r.syntax] {
					t.Errorf("%s: its syntax differs from that of the outline: %s", r.name, r.syntax)
				}
			}
			slices.Sort(documented)
			if diff := cmp.Diff(names, documented); diff != "" {
				t.Errorf("rows (-parsed +documented):\n%s", diff)
			}
			example := fence.FindStringSubmatch(text)
			if example == nil {
				t.Fatal("no example")
			}
			shown := map[string]bool{}
			for _, line := range outlineOf(uncommentedLines(example[1])) {
				shown[line[0]+" "+line[1]] = true
			}
			for _, name := range names {
				in := block
				if block == "llm" {
					in = "@hard"
				}
				if !shown[in+" "+name] {
					t.Errorf("%s is not part of the example", name)
				}
			}
		})
	}
}

// withoutBlock returns a line of an outline without the block that begins there, with single spaces.
func withoutBlock(line string) string {
	line = strings.Join(strings.Fields(line), " ")
	for _, end := range []string{" { ... }", " {", " ..."} {
		line = strings.TrimSuffix(line, end)
	}
	return line
}

func uncommentedLines(source string) string { return strings.ReplaceAll(source, "# ", "") }

// conditionNames returns the conditions of the matcher llm, sorted.
func conditionNames() (names []string) {
	for field := range reflect.TypeFor[MatchLLM]().Fields() {
		if tag, _, _ := strings.Cut(field.Tag.Get("json"), ","); tag != "" {
			names = append(names, tag)
		}
	}
	slices.Sort(names)
	return names
}

// The defaults in the documentation of the directive and of the JSON are those of the code.
func TestDocumentedDefaults(t *testing.T) {
	t.Parallel()
	const watchdog = "internal/delivery/watchdog.go"
	for _, test := range []struct {
		block, name, file, constant string
		format                      func(int64) string
	}{
		{"upstream", "dial_timeout", "internal/http1/transport.go", "defaultDialTimeout", duration},
		{"upstream", "first_token_timeout", watchdog, "firstTokenTimeout", duration},
		{"upstream", "first_token_timeout", watchdog, "lastFirstTokenTimeout", duration},
		{"upstream", "idle_timeout", watchdog, "idleTimeout", duration},
		{"upstream", "timeout", watchdog, "wholeAnswerTimeout", duration},
		{"upstream", "load_timeout", "internal/upstream/loading.go", "loadTimeoutDefault", duration},
		{"upstream", "queue", "upstream.go", "defaultQueuePlaces", number},
		{"cache", "ttl", "cache.go", "defaultCacheTTL", duration},
		{"cache", "max_size", "cache.go", "defaultCacheSize", size},
		{"cache", "max_entry", "cache.go", "defaultCacheMaxEntry", size},
		{"llm_proxy", "max_body", "internal/gateway/gateway.go", "DefaultMaxBody", size},
		{"llm_dashboard", "api", "dashboard.go", "defaultAPIPath", nil},
		{"llm_dashboard", "<path>", "dashboard.go", "defaultDashboardPath", nil},
	} {
		t.Run(test.name+" "+test.constant, func(t *testing.T) {
			want := constantOf(t, test.file, test.constant, test.format)
			for _, r := range rowsOf(section(t, read(t, "../docs/directive.md"), test.block)) {
				if r.name == test.name {
					if !regexp.MustCompile(`(^|[^\w])` + regexp.QuoteMeta(want) + `\b`).MatchString(r.byDefault) {
						t.Errorf("the default of %s is %s; the documentation says %q", test.name, want, r.byDefault)
					}
					return
				}
			}
			t.Errorf("%s has no row", test.name)
		})
	}
}

func duration(n int64) string {
	text := time.Duration(n).String() // such as 10m0s
	for _, zero := range []string{"m0s", "h0m"} {
		text = strings.Replace(text, zero, zero[:1], 1)
	}
	return text
}

func size(n int64) string {
	return strings.NewReplacer(" ", "", ".0", "").Replace(humanize.IBytes(uint64(n)))
}

func number(n int64) string { return fmt.Sprint(n) }

// constantOf returns the value of a constant in a source file.
func constantOf(t *testing.T, file, name string, format func(int64) string) string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for node := range ast.Preorder(parsed) {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			continue
		}
		for i, id := range spec.Names {
			if id.Name != name || i >= len(spec.Values) {
				continue
			}
			value := evaluate(spec.Values[i])
			if value.Kind() == constant.String {
				return constant.StringVal(value)
			}
			n, ok := constant.Int64Val(value)
			if !ok {
				t.Fatalf("%s of %s is not a number", name, file)
			}
			return format(n)
		}
	}
	t.Fatalf("%s has no constant %s", file, name)
	return ""
}

// evaluate returns the value of a constant expression of literals and units of time.
func evaluate(e ast.Expr) constant.Value {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0)
	case *ast.CallExpr: // a conversion
		return evaluate(e.Args[0])
	case *ast.SelectorExpr:
		units := map[string]time.Duration{"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour}
		return constant.MakeInt64(int64(units[e.Sel.Name]))
	case *ast.BinaryExpr:
		if e.Op == token.SHL {
			n, _ := constant.Uint64Val(evaluate(e.Y))
			return constant.Shift(evaluate(e.X), token.SHL, uint(n))
		}
		return constant.BinaryOp(evaluate(e.X), e.Op, evaluate(e.Y))
	}
	return constant.MakeUnknown()
}
