package llmproxy

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// No secret may stand, with the filters of logs that docs/keys.md gives, in a log, an error, a metric, an answer of the admin API or a configuration.
func TestSecretsAppearNowhere(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("PLACED_KEY", "secret-placed")
	fake := fakellm.Start(t, "openai")
	dir := t.TempDir()
	file := filepath.Join(dir, "keys.json")
	if err := os.WriteFile(file, []byte(`{"keys":[{"name":"filed","secret":"`+keys.Digest("secret-filed")+`"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "http://" + freeport.Address(t)
	const filter = "\t\tformat filter {\n\t\t\trequest>headers>X-Api-Key delete\n\t\t\trequest>headers>Api-Key delete\n\t\t}\n"
	caddyfile := "{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tgrace_period 2s\n\tlog {\n\t\toutput file " + dir + "/all.log\n\t\tlevel debug\n" + filter + "\t}\n}\n" +
		url + " {\n\tlog {\n\t\toutput file " + dir + "/access.log\n" + filter + `	}
	metrics /metrics
	error /broken "another handler failed" 500
	llm_proxy {
		upstream u openai ` + fake.URL() + ` {
			api_key {env.UPSTREAM_KEY}
		}
		model m u
		key inline secret-inline {
			rate 3/m
			budget $1/month
		}
		key placed {env.PLACED_KEY}
		keys_file ` + file + `
		rate_limit 3/m
	}
}`
	t.Setenv("UPSTREAM_KEY", "secret-upstream")
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	seen.Write(config)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"secret-inline", "secret-placed", "secret-filed", "secret-wrong"} {
		for _, header := range []string{"Authorization", "X-Api-Key", "Api-Key"} {
			for _, path := range []string{"/v1/chat/completions", "/v1/models", "/llm/usage", "/v1/files", "/broken"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, strings.NewReader(`{"model":"m","messages":[]}`))
				if err != nil {
					t.Fatal(err)
				}
				value := secret
				if header == "Authorization" {
					value = "Bearer " + secret
				}
				req.Header.Set(header, value)
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(&seen, res.Body); err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if err := res.Header.Write(&seen); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for name := range scrape(t, url, "") {
		seen.WriteString(name + "\n")
	}
	if !strings.Contains(seen.String(), "llm_requests_total{") {
		t.Error("the metrics were not read")
	}
	for _, path := range []string{"/llm_proxy/keys", "/llm_proxy/usage", "/llm_proxy/upstreams"} {
		_, answer := callAdmin("GET", path, "")
		seen.WriteString(answer)
	}
	_, answer := callAdmin("POST", "/llm_proxy/keys", `{"name":"x","secret":"secret-inline"}`)
	seen.WriteString(answer)
	for _, r := range fake.Requests() {
		r.Header.Del("Authorization") // the upstream's own key belongs there
		if err := r.Header.Write(&seen); err != nil {
			t.Fatal(err)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"all.log", "access.log", "keys.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		seen.Write(text)
	}
	if n := strings.Count(seen.String(), `"user_id":"inline"`); n == 0 {
		t.Error("the access log was not read")
	}
	if n := strings.Count(seen.String(), `"logger":"http.log.error`); n == 0 {
		t.Error("the log of errors was not read")
	}
	if n := strings.Count(seen.String(), "clients send keys in the header X-Api-Key"); n != 1 {
		t.Errorf("the hint at headers that are logged stands there %d times", n)
	}
	if i := strings.Index(seen.String(), "secret-"); i >= 0 {
		t.Errorf("…%s…", seen.String()[max(0, i-200):min(seen.Len(), i+40)])
	}
}
