package llmproxy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// The file's prices are read anew at every load, and the access log says what an answer cost.
func TestPricesFileIsReadAtLoad(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	fake.Always(fakellm.Text("a").Usage(1000, 10, 0))
	dir := t.TempDir()
	file, logFile := filepath.Join(dir, "prices.json"), filepath.Join(dir, "access.log")
	caddyfile, url := site(t, "\tlog {\n\t\toutput file "+logFile+"\n\t}\n\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u/real\n\t\tprices "+file+"\n\t}")
	for _, output := range []string{"0.5", "0.25"} {
		text := `{"real":{"litellm_provider":"nobody","input_cost_per_token":0,"output_cost_per_token":` + output + `}}`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := load(t, caddyfile); err != nil {
			t.Fatal(err)
		}
		if res := ask(t, url, false); res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"cost_usd":5`, `"cost_usd":2.5`} {
		if !strings.Contains(string(log), want) {
			t.Errorf("%s is not in the access log: %s", want, log)
		}
	}
}
