package llmproxy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard" // what a Caddyfile needs
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the goldens anew")

const separator = "\n----------\n"

// Each golden is a Caddyfile, a line of dashes, and what it is adapted to: JSON, or an error.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source, want, _ := strings.Cut(string(text), separator)
			got := adapted(t, source+"\n")
			if *update {
				if err := os.WriteFile(file, []byte(source+separator+got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.TrimSpace(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// adapted is the handler's JSON, or the error.
func adapted(t *testing.T, source string) string {
	t.Helper()
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(source), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err.Error()
	}
	for _, w := range warnings {
		t.Errorf("warning: %s", w)
	}
	var tree any
	if err := json.Unmarshal(config, &tree); err != nil {
		t.Fatal(err)
	}
	handler := find(tree)
	if handler == nil {
		t.Fatalf("no llm_proxy in %s", config)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(handler); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

// find looks for the handler in a configuration.
func find(node any) any {
	switch n := node.(type) {
	case map[string]any:
		if n["handler"] == "llm_proxy" {
			return n
		}
		for _, v := range n {
			if h := find(v); h != nil {
				return h
			}
		}
	case []any:
		for _, v := range n {
			if h := find(v); h != nil {
				return h
			}
		}
	}
	return nil
}
