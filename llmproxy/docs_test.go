package llmproxy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	caddyfmt "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
)

// The outlines of the directives, in docs/directive.md and in the comments of their parsers, have every subdirective in its block, and
// nothing else.
func TestSubdirectivesAreDocumented(t *testing.T) {
	t.Parallel()
	page, dashboard, _ := strings.Cut(read(t, "../docs/directive.md"), "\n## llm_dashboard\n")
	between := func(text, begin, end string) string {
		_, text, _ = strings.Cut(text, begin)
		text, _, _ = strings.Cut(text, end)
		return text
	}
	comments := between(read(t, "caddyfile.go"), "// UnmarshalCaddyfile parses the directive:\n//\n", "//\n") +
		between(read(t, "dashboard.go"), "// parseDashboard parses the directive:\n//\n", "//\n")
	for where, outline := range map[string]string{
		"docs/directive.md": between(page, "```\n", "```") + between(dashboard, "```\n", "```"), "comments": strings.ReplaceAll(comments, "//", ""),
	} {
		documented := map[string][]string{}
		for _, line := range outlineOf(outline) {
			block, name := line[0], line[1]
			if block != "" && name != "}" && !strings.HasPrefix(name, "@") && !slices.Contains(documented[block], name) {
				documented[block] = append(documented[block], name)
			}
		}
		for _, names := range documented {
			slices.Sort(names)
		}
		if diff := cmp.Diff(subdirectiveNames, documented); diff != "" {
			t.Errorf("%s (-parsed +documented):\n%s", where, diff)
		}
	}
}

var fence = regexp.MustCompile("(?s)```caddyfile\n(.*?)```")

// Every Caddyfile in the documentation and the examples can be loaded.
func TestDocumentedCaddyfilesLoad(t *testing.T) {
	setSecrets(t)
	example := read(t, "../Caddyfile.example")
	sources := map[string]string{
		"Caddyfile.example":              example,
		"Caddyfile.example, uncommented": string(caddyfmt.Format([]byte(uncommented(example)))),
	}
	examples, err := filepath.Glob("../examples/*/*Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(examples, "../packaging/container/Caddyfile") {
		sources[name] = read(t, name)
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md") {
		for i, block := range fence.FindAllStringSubmatch(read(t, page), -1) {
			sources[fmt.Sprintf("%s block %d", filepath.Base(page), i+1)] = block[1]
		}
	}
	if len(sources) < 20 {
		t.Fatalf("only %d Caddyfiles were found", len(sources))
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) { loadsWithoutWarning(t, source) })
	}
}

// uncommented replaces the bare directive of the example with the one in its comments.
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

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} (.*)$`)
	code    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
)

// Every link within the documentation leads somewhere, and so does its anchor.
func TestLinks(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../examples/*.md", "../examples/*/*.md", "../bench/*.md", "../e2e/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	if len(pages) < 10 {
		t.Fatalf("only %d pages were found", len(pages))
	}
	for _, page := range pages {
		text := read(t, page)
		for _, found := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(found[1], "#")
			to := page
			if path != "" {
				to = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, found[1])
				continue
			}
			if anchor != "" && !anchors(read(t, to))[anchor] {
				t.Errorf("%s: %s has no heading for the anchor of %s", page, to, found[1])
			}
		}
	}
}

// anchors are what a page's headings are called by links, as on GitHub.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, h := range heading.FindAllStringSubmatch(regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, ""), -1) {
		name := strings.ToLower(strings.TrimSpace(h[1]))
		name = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(name, "")
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}

// The oldest Caddy that works is that of go.mod. The pages say the same, and leave the choice of the newest one to xcaddy.
func TestDocumentedCaddyVersion(t *testing.T) {
	t.Parallel()
	required := regexp.MustCompile(`github.com/caddyserver/caddy/v2 v(\S+)`).FindStringSubmatch(read(t, "../go.mod"))[1]
	version := regexp.MustCompile(`\b2\.\d+\.\d+\b`)
	for page, want := range map[string]int{"../README.md": 1, "../docs/quick-start.md": 1, "../CONTRIBUTING.md": 0} {
		found := version.FindAllString(read(t, page), -1)
		if len(found) != want || want > 0 && found[0] != required {
			t.Errorf("%s names Caddy %q, go.mod %s", page, found, required)
		}
	}
}
