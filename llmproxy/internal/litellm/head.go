package litellm

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/draft"
)

// index matches the number of an item in a path.
var index = regexp.MustCompile(`\[\d+\]`)

// A Group is notes that say the same about one key in several places.
type Group struct {
	Note
	Places []Place
}

// Groups joins the notes of a grade that say the same about the same key.
func (r *Result) Groups(grade Grade) (groups []Group) {
	numbers := map[[2]string]int{} // of the groups, by key and text
	for _, n := range r.Notes {
		if n.Grade != grade {
			continue
		}
		n.Key = index.ReplaceAllString(n.Key, "[]")
		i, ok := numbers[[2]string{n.Key, n.Text}]
		if !ok {
			numbers[[2]string{n.Key, n.Text}] = len(groups)
			groups = append(groups, Group{Note: n, Places: []Place{n.At}})
			continue
		}
		groups[i].Places = append(groups[i].Places, n.At)
	}
	return groups
}

// String returns the place or places, the key and the text.
func (g Group) String() string {
	more := ""
	if n := len(g.Places); n > 1 {
		more = fmt.Sprintf(" (and %d more)", n-1)
	}
	return fmt.Sprintf("%s%s: %s: %s", g.At, more, g.Key, g.Text)
}

var variables = regexp.MustCompile(`\{env\.([A-Za-z_][A-Za-z0-9_]*)\}`)

// head returns the comments at the beginning of the Caddyfile: where it comes from, what it needs, and what is different or missing.
func (c *converter) head(file, caddyfile string) string {
	b := new(draft.Block)
	b.Comment(fmt.Sprintf("Converted from LiteLLM's %s by `caddy llm-import litellm`. Check it with `caddy validate`.", filepath.Base(file)))
	var names []string
	for line := range strings.Lines(caddyfile) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, m := range variables.FindAllStringSubmatch(line, -1) {
			if !slices.Contains(names, m[1]) {
				names = append(names, m[1])
			}
		}
	}
	if slices.Sort(names); names != nil {
		b.Comment("")
		b.Comment("It needs these environment variables: " + strings.Join(names, ", ") + ".")
	}
	for _, part := range []struct {
		grade Grade
		title string
	}{{Changed, "Carried over with a difference:"}, {Ignored, "Not carried over:"}} {
		groups := c.result.Groups(part.grade)
		if len(groups) == 0 {
			continue
		}
		b.Comment("")
		b.Comment(part.title)
		for _, g := range groups {
			lines := "line"
			for i, p := range g.Places {
				switch {
				case i == 3:
					lines += fmt.Sprintf(" and %d more", len(g.Places)-3)
				case i < 3 && i > 0:
					lines += fmt.Sprintf(", %d", p.Line)
				case i == 0:
					lines += fmt.Sprintf(" %d", p.Line)
				}
			}
			b.Comment(fmt.Sprintf("- %s (%s): %s.", g.Key, lines, strings.TrimSuffix(g.Text, ".")))
		}
	}
	if strings.HasPrefix(caddyfile, "{") { // the global options, which follow their comment
		return b.String()
	}
	return b.String() + "\n"
}
