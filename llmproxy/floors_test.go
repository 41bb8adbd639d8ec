package llmproxy

import (
	"os/exec"
	"strings"
	"testing"
)

const root = "github.com/caddy-llmproxy/caddy-llmproxy/"

// floor is the height of each package; imports may only point to a lower one.
var floor = map[string]int{
	"llmproxy/internal/fakellm/cmd/fakellm": 9,
	"bench":                                 9,
	"llmproxy/cmd/caddy":                    9,
	"":                                      8,
	"llmproxy":                              7,
	"llmproxy/internal/gateway":             6,
	"llmproxy/internal/access":              5,
	"llmproxy/internal/answercache":         5,
	"llmproxy/internal/catalog":             5,
	"llmproxy/internal/delivery":            5,
	"llmproxy/internal/exchange":            4,
	"llmproxy/internal/relay":               3,
	"llmproxy/internal/upstream":            3,
	"llmproxy/internal/ledger":              3,
	"llmproxy/internal/keys":                2,
	"llmproxy/internal/prices":              2,
	"llmproxy/internal/reqbody":             2,
	"router":                                1,
	"caching":                               1,
	"ratelimit":                             1,
	"llmproxy/internal/wire":                0,
	"llmproxy/internal/sse":                 0,
	"llmproxy/internal/http1":               0,
	"internal/redistest":                    0,
	"llmproxy/internal/fakellm":             0,
}

// Arrows point down only, and Caddy is known on the highest floors alone.
func TestFloors(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, root+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := strings.Trim(strings.TrimPrefix(fields[0]+"/", root), "/")
		height, known := floor[name]
		if !known {
			t.Errorf("package %q stands on no floor: add it here, where it belongs", name)
			continue
		}
		for _, imported := range fields[1:] {
			if strings.HasPrefix(imported, "github.com/caddyserver/") && height < 7 {
				t.Errorf("%s imports %s: only the highest floors know Caddy", name, imported)
			}
			below, ours := strings.CutPrefix(imported+"/", root)
			if ours && floor[strings.Trim(below, "/")] >= height {
				t.Errorf("%s imports %s, which does not stand below it", name, imported)
			}
		}
	}
}
