package llmproxy

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard" // what a Caddyfile needs
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the goldens")

const separator = "\n----------\n"

// A golden is a Caddyfile, a line of dashes, and what it is adapted to: the handler's JSON, or an error.
type golden struct{ path, source, want string }

func goldens(t *testing.T) (list []golden) {
	t.Helper()
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, file := range files {
		source, want, _ := strings.Cut(read(t, file), separator)
		list = append(list, golden{file, source + "\n", strings.TrimSpace(want)})
	}
	return list
}

func (g golden) name() string { return strings.TrimSuffix(filepath.Base(g.path), ".caddyfiletest") }

// isError reports whether the Caddyfile is not valid.
func (g golden) isError() bool { return strings.HasPrefix(g.name(), "error-") }

func TestAdapt(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name(), func(t *testing.T) {
			got, err := adapt(t, g.source)
			if (err != nil) != g.isError() {
				t.Fatalf("got error %v; only the names of invalid Caddyfiles begin with error-", err)
			}
			if err != nil {
				got = err.Error()
			}
			if *update {
				if err := os.WriteFile(g.path, []byte(strings.TrimSuffix(g.source, "\n")+separator+got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(g.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Each subdirective of each block is parsed in at least one golden and rejected in at least one other.
func TestSubdirectivesHaveGoldens(t *testing.T) {
	t.Parallel()
	parsed, rejected := map[[2]string]bool{}, map[[2]string]bool{}
	for _, g := range goldens(t) {
		_, message, _ := strings.Cut(g.want, "': ") // the directive's name
		message, at, _ := strings.Cut(message, ", at Caddyfile:")
		culprit, _, _ := strings.Cut(message, " ") // if the message names it
		for i, line := range outlineOf(g.source) {
			switch {
			case !g.isError():
				parsed[line] = true
			case strconv.Itoa(i+1) == at || line[1] == strings.TrimSuffix(culprit, ":"):
				rejected[line] = true
			}
		}
	}
	for block, names := range subdirectiveNames {
		for _, name := range names {
			if !parsed[[2]string{block, name}] {
				t.Errorf("%s of %s: no golden in testdata/adapt", name, block)
			}
			if !rejected[[2]string{block, name}] {
				t.Errorf("%s of %s: no error golden in testdata/adapt", name, block)
			}
		}
	}
}

// outlineOf returns the block and the name of the subdirective in each line of a Caddyfile.
func outlineOf(source string) (list [][2]string) {
	open := []string{""}
	for line := range strings.Lines(source) {
		words := strings.Fields(line)
		if len(words) == 0 {
			list = append(list, [2]string{})
			continue
		}
		list = append(list, [2]string{open[len(open)-1], words[0]})
		switch {
		case words[0] == "}" && len(open) > 1:
			open = open[:len(open)-1]
		case words[len(words)-1] != "{":
		case words[0] == "user":
			open = append(open, "key") // the same block
		default:
			open = append(open, words[0])
		}
	}
	return list
}

// adapt returns the handler's JSON, or the error.
func adapt(t *testing.T, source string) (string, error) {
	t.Helper()
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(source), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return "", err
	}
	for _, w := range warnings {
		t.Errorf("warning: %s", w)
	}
	var tree any
	if err := json.Unmarshal(config, &tree); err != nil {
		t.Fatal(err)
	}
	handler := findHandler(tree)
	if handler == nil {
		t.Fatalf("no handler of ours in %s", config)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(handler); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String()), nil
}

// findHandler returns the first handler of ours in a configuration, or nil.
func findHandler(node any) any {
	var children []any
	switch n := node.(type) {
	case map[string]any:
		if name, _ := n["handler"].(string); strings.HasPrefix(name, "llm_") {
			return n
		}
		children = slices.Collect(maps.Values(n))
	case []any:
		children = n
	}
	for _, child := range children {
		if h := findHandler(child); h != nil {
			return h
		}
	}
	return nil
}
