package llmproxy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddyfmt "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/telemetry"
)

// Every subdirective stands in the documentation's outline, in the block it belongs to, and none that is not there. What there is
// in a block is told by the error of one that is not.
func TestSubdirectivesAreDocumented(t *testing.T) {
	outline := outlineOf(t)
	for block, source := range map[string]string{
		"llm_proxy": "none",
		"upstream":  "upstream u echo {\nnone\n}",
		"model":     "model m {\nnone x\n}",
		"route":     "model m {\nroute u/m {\nnone\n}\n}",
		"cache":     "cache {\nnone\n}",
	} {
		t.Run(block, func(t *testing.T) {
			told := adapted(t, ":8080 {\nllm_proxy {\n"+source+"\n}\n}\n")
			_, names, found := strings.Cut(told, "expected ")
			if !found {
				t.Fatal(told)
			}
			names, _, _ = strings.Cut(strings.TrimPrefix(names, "one of "), ", at Caddyfile")
			names, _, _ = strings.Cut(names, " or a matcher")
			want := strings.Split(strings.ReplaceAll(names, " or ", ", "), ", ")
			slices.Sort(want)
			if diff := cmp.Diff(want, outline[block]); diff != "" {
				t.Errorf("told by an error, and in docs/directive.md (-want +got):\n%s", diff)
			}
		})
	}
}

// outlineOf gives the subdirectives of each block in the outline at the top of docs/directive.md, matchers aside.
func outlineOf(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../docs/directive.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```\n")
	text, _, _ = strings.Cut(text, "```")
	outline, blocks := map[string][]string{}, []string{""}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if words[0] == "}" {
			blocks = blocks[:len(blocks)-1]
			continue
		}
		block := blocks[len(blocks)-1]
		names := []string{words[0]}
		if len(words) > 1 && words[1] == "|" {
			names = append(names, words[2])
		}
		for _, name := range names {
			if !strings.HasPrefix(name, "@") && !slices.Contains(outline[block], name) {
				outline[block] = append(outline[block], name)
			}
		}
		if words[len(words)-1] == "{" {
			blocks = append(blocks, words[0])
		}
	}
	for _, names := range outline {
		slices.Sort(names)
	}
	return outline
}

// What the documentation calls a placeholder is one.
func TestPlaceholdersAreKnown(t *testing.T) {
	known := telemetry.Placeholders(new(exchange.Record))
	for _, page := range []string{"directive", "routing", "metrics", "failover", "cache", "keys"} {
		text, err := os.ReadFile("../docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\{(llm\.[a-z_.]+)\}`).FindAllStringSubmatch(string(text), -1) {
			if _, ok := known(name[1]); !ok {
				t.Errorf("docs/%s.md speaks of {%s}, which is no placeholder", page, name[1])
			}
		}
	}
}

var fence = regexp.MustCompile("(?s)```caddyfile\n(.*?)```")

// Every Caddyfile that a reader may copy must load.
func TestDocumentedCaddyfilesLoad(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "sk-test")
	t.Setenv("ALICE_KEY", "sk-alice")
	sources := map[string]string{}
	example, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	sources["Caddyfile.example"] = string(example)
	sources["Caddyfile.example, its comments taken away"] = string(caddyfmt.Format([]byte(uncommented(string(example)))))
	examples, err := filepath.Glob("../examples/*/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range examples {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources[name] = string(content)
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md") {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range fence.FindAllStringSubmatch(string(content), -1) {
			sources[fmt.Sprintf("%s block %d", filepath.Base(page), i+1)] = block[1]
		}
	}
	if len(sources) < 3 {
		t.Fatalf("only %d Caddyfiles were found", len(sources))
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(source), map[string]any{"filename": name})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Errorf("warning: %s", w)
			}
			var c caddy.Config
			if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
				t.Fatal(err)
			}
			c.Admin = &caddy.AdminConfig{Disabled: true}
			if err := caddy.Validate(&c); err != nil {
				t.Error(err)
			}
		})
	}
}

// uncommented replaces the bare directive of the example by the one in its comments.
func uncommented(example string) string {
	var out strings.Builder
	for line := range strings.Lines(example) {
		body, commented := strings.CutPrefix(line, "\t# ")
		switch {
		case strings.TrimSpace(line) == "llm_proxy":
		case commented && (strings.HasPrefix(body, "\t") || strings.HasPrefix(body, "llm_proxy {") || strings.HasPrefix(body, "}")):
			out.WriteString("\t" + body)
		default:
			out.WriteString(line)
		}
	}
	return out.String()
}
