package llmproxy

import (
	"os/exec"
	"strings"
	"testing"
)

const root = "github.com/caddy-llmproxy/caddy-llmproxy/"

// floor is the height of each package; imports may only point to a lower one.
var floor = map[string]int{
	"llmproxy/internal/fakellm/cmd/fakellm": 13,
	"bench":                                 13,
	"llmproxy/cmd/caddy":                    13,
	"":                                      12,
	"llmproxy":                              11,
	"llmproxy/internal/admin":               10,
	"llmproxy/internal/screen":              9,
	"llmproxy/internal/telemetry":           9,
	"llmproxy/internal/dashboard":           9,
	"llmproxy/internal/keystore":            8,
	"llmproxy/internal/overview":            8,
	"llmproxy/internal/state":               7,
	"llmproxy/internal/gateway":             7,
	"llmproxy/internal/access":              6,
	"llmproxy/internal/answercache":         6,
	"llmproxy/internal/catalog":             6,
	"llmproxy/internal/delivery":            6,
	"llmproxy/internal/exchange":            5,
	"llmproxy/internal/relay":               4,
	"llmproxy/internal/upstream":            4,
	"llmproxy/internal/litellm":             5,
	"llmproxy/internal/survey":              5,
	"llmproxy/internal/tuning":              5,
	"llmproxy/internal/check":               6,
	"llmproxy/internal/ledger":              4,
	"llmproxy/internal/keys":                4,
	"llmproxy/internal/loadtest/report":     4,
	"llmproxy/internal/loadtest":            3,
	"llmproxy/internal/prices":              3,
	"llmproxy/internal/dialect":             3,
	"llmproxy/internal/dialect/dialecttest": 1,
	"llmproxy/internal/reqbody":             3,
	"router/replica":                        3,
	"router/admission":                      1,
	"router":                                2,
	"router/prefix":                         0,
	"caching":                               2,
	"caching/coalesce":                      0,
	"ratelimit/redislimit":                  3,
	"ratelimit/limittest":                   3,
	"ratelimit":                             2,
	"llmproxy/internal/ollama":              2,
	"llmproxy/internal/canonjson":           1,
	"llmproxy/internal/anthropic":           2,
	"llmproxy/internal/openai":              1,
	"llmproxy/internal/thinking":            1,
	"tokens":                                0,
	"llmproxy/internal/jsonspan":            0,
	"llmproxy/internal/formdata":            0,
	"llmproxy/internal/sse":                 0,
	"llmproxy/internal/http1":               0,
	"llmproxy/internal/memory":              0,
	"llmproxy/internal/prefilter":           0,
	"internal/freeport":                     0,
	"internal/redistest":                    1,
	"llmproxy/internal/draft":               0,
	"llmproxy/internal/fakellm":             0,
}

// knowsCaddy are the packages that may import Caddy.
var knowsCaddy = map[string]bool{
	"llmproxy": true, "llmproxy/cmd/caddy": true,
	"llmproxy/internal/admin": true, "llmproxy/internal/keystore": true, "llmproxy/internal/state": true, "llmproxy/internal/telemetry": true,
}

// Imports only point down, and only the highest floors know Caddy.
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
			if strings.HasPrefix(imported, "github.com/caddyserver/") && !knowsCaddy[name] {
				t.Errorf("%s imports %s, but does not stand on a floor that knows Caddy", name, imported)
			}
			below, ours := strings.CutPrefix(imported+"/", root)
			if ours && floor[strings.Trim(below, "/")] >= height {
				t.Errorf("%s imports %s, which does not stand below it", name, imported)
			}
		}
	}
}
