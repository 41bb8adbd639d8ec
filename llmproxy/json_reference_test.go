package llmproxy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	gocmp "github.com/google/go-cmp/cmp"
)

const jsonPage = "../docs/json.md"

// docs/json.md is made from the comments of the configuration's fields. Each field has one, with its default and, if it is a number, its unit.
func TestJSONReference(t *testing.T) {
	t.Parallel()
	r := &jsonReference{
		t: t, comments: map[string]string{},
		types: []reflect.Type{reflect.TypeFor[Handler](), reflect.TypeFor[Dashboard](), reflect.TypeFor[MatchLLM]()},
	}
	for _, dir := range []string{".", "internal/keys"} {
		r.readComments(dir)
	}
	for i := 0; i < len(r.types); i++ { // it grows
		r.writeType(r.types[i])
	}
	page := jsonIntroduction + r.out.String() + "Next: [Limitations](limitations.md) · [All pages](README.md)\n"
	if *update {
		if err := os.WriteFile(jsonPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := gocmp.Diff(read(t, jsonPage), page); diff != "" {
		t.Errorf("docs/json.md is not what the comments say; run make golden (-page +comments):\n%s", diff)
	}
}

const jsonIntroduction = `<!-- Made from the comments of the Go code by make golden. Change those. -->

# JSON: every field of the configuration

You write Caddy's configuration in JSON, or change it through Caddy's admin API. These are the fields of the handlers ` + "`llm_proxy` and `llm_dashboard`" + `, and of the matcher ` + "`llm`" + `.
` + "`caddy adapt`" + ` shows the JSON of a Caddyfile:

` + "```json" + `
{
	"handler": "llm_proxy",
	"upstreams": [{"name": "gpu", "kind": "ollama", "addresses": ["http://127.0.0.1:11434"], "idle_timeout": "2m", "queue": {"places": 32}}],
	"models": [{"name": "local", "to": ["gpu/llama3.1:8b"]}]
}
` + "```" + `

- A **duration** is a text such as ` + "`\"30s\"`, `\"2m\"` or `\"1d\"`" + `, or a number of nanoseconds.
- A field without a default is required.

`

// A jsonReference writes the reference of types that are read from JSON.
type jsonReference struct {
	t        *testing.T
	comments map[string]string // of types and, after a dot, of their fields
	types    []reflect.Type    // in the order of the page
	out      strings.Builder
}

// readComments reads the comments of the structs of a package.
func (r *jsonReference) readComments(dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			general, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				named, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				structure, ok := named.Type.(*ast.StructType)
				if !ok {
					continue
				}
				r.comments[named.Name.Name] = cmp.Or(named.Doc.Text(), general.Doc.Text())
				for _, field := range structure.Fields.List {
					for _, name := range field.Names {
						r.comments[named.Name.Name+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
					}
				}
			}
		}
	}
}

// jsonTitles are the headings of the types that are modules.
var jsonTitles = map[string]string{"Handler": "llm_proxy", "Dashboard": "llm_dashboard", "MatchLLM": "llm"}

func titleOf(typ reflect.Type) string { return cmp.Or(jsonTitles[typ.Name()], typ.Name()) }

func (r *jsonReference) writeType(typ reflect.Type) {
	var paragraphs []string
	for paragraph := range strings.SplitSeq(r.comments[typ.Name()], "\n\n") {
		if strings.HasPrefix(paragraph, "These placeholders") {
			break // they are described in docs/directive.md
		}
		paragraphs = append(paragraphs, cell(strings.Join(strings.Fields(paragraph), " ")))
	}
	about := strings.Join(paragraphs, "\n\n")
	if about == "" {
		r.t.Errorf("%s has no comment", typ.Name())
	}
	fmt.Fprintf(&r.out, "## %s\n\n%s\n\n| Field | Type | Meaning | Default |\n| --- | --- | --- | --- |\n", titleOf(typ), about)
	r.writeFields(typ)
	r.out.WriteString("\n")
}

var unit = regexp.MustCompile(`bytes|characters|tokens|[Rr]equests|places|slots|weights|US dollars|share`)

func (r *jsonReference) writeFields(typ reflect.Type) {
	for field := range typ.Fields() {
		if field.Anonymous {
			r.writeFields(field.Type)
			continue
		}
		tag, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() {
			continue
		}
		id := typ.Name() + "." + field.Name
		comment := r.comments[id]
		meaning, byDefault, found := strings.Cut(comment, "Default: ")
		optional := strings.Contains(options, "omitempty")
		switch {
		case tag == "":
			r.t.Errorf("%s has no name in JSON", id)
		case comment == "":
			r.t.Errorf("%s has no comment", id)
		case found != optional:
			r.t.Errorf("%s: an optional field needs a default in its comment, and a required one has none: %s", id, comment)
		}
		kind := field.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		isNumber := kind.Kind() >= reflect.Int && kind.Kind() <= reflect.Float64 && kind != reflect.TypeFor[caddy.Duration]()
		if isNumber && !unit.MatchString(comment+r.comments[typ.Name()]) {
			r.t.Errorf("%s is a number without a unit: %s", id, comment)
		}
		fmt.Fprintf(&r.out, "| `%s` | %s | %s | %s |\n", tag, r.typeOf(field.Type), cell(meaning), cell(strings.TrimSuffix(byDefault, ".")))
	}
}

func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(strings.TrimSpace(text))
}

// typeOf describes a type. The structs of this module get a section of their own.
func (r *jsonReference) typeOf(typ reflect.Type) string {
	switch typ {
	case reflect.TypeFor[caddy.Duration]():
		return "duration"
	case reflect.TypeFor[json.RawMessage]():
		return "a module, or any JSON"
	case reflect.TypeFor[caddyhttp.RawMatcherSets]():
		return "list of [sets of matchers](https://caddyserver.com/docs/json/apps/http/servers/routes/match/)"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return r.typeOf(typ.Elem())
	case reflect.Slice:
		return "list of " + r.typeOf(typ.Elem())
	case reflect.Map:
		return "object of " + r.typeOf(typ.Elem()) + " by name"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Struct:
		if !strings.Contains(typ.PkgPath(), "caddy-llmproxy") {
			return "[`" + typ.Name() + "`](https://pkg.go.dev/" + typ.PkgPath() + "#" + typ.Name() + ")"
		}
		if !slices.Contains(r.types, typ) {
			r.types = append(r.types, typ)
		}
		return "[" + titleOf(typ) + "](#" + strings.ToLower(titleOf(typ)) + ")"
	}
	return "whole number"
}
