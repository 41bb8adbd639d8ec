package llmproxy

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// adminDo asks the plugin's part of the admin API.
func adminDo(t *testing.T, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for _, route := range (admin.API{}).Routes() {
		if route.Pattern != r.URL.Path && !(strings.HasSuffix(route.Pattern, "/") && strings.HasPrefix(r.URL.Path, route.Pattern)) {
			continue
		}
		err := route.Handler.ServeHTTP(w, r)
		if failure, ok := err.(caddy.APIError); ok {
			w.Code = failure.HTTPStatus
			w.Body.WriteString(failure.Err.Error())
		} else if err != nil {
			t.Fatal(err)
		}
		return w
	}
	t.Fatalf("nobody answers %s", path)
	return nil
}

// Keys that are made while Caddy runs are kept, and good at once.
func TestAdminKeys(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\trequire_key\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	secretIn := func(w *httptest.ResponseRecorder) string {
		t.Helper()
		var k admin.KeyAnswer
		if err := json.Unmarshal(w.Body.Bytes(), &k); err != nil || w.Code != 200 {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		return k.Plain
	}
	first := secretIn(adminDo(t, "POST", "/llm_proxy/keys", `{"name":"alice","rate":["60/m"]}`))
	if got := status(t, url, first); got != 200 {
		t.Errorf("a new key: status %d", got)
	}
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		told               string
	}{
		"twice":         {"POST", "/llm_proxy/keys", `{"name":"alice"}`, 409, "there twice"},
		"no JSON":       {"POST", "/llm_proxy/keys", `{`, 400, "not the JSON of a key"},
		"two keys":      {"POST", "/llm_proxy/keys", `{"name":"bob"} {"name":"bert"}`, 400, "something stands behind it"},
		"no list":       {"POST", "/llm_proxy/keys", `{"name":"bob","rate":"60/m"}`, 400, "a key: rate cannot be of the kind string"},
		"spelling":      {"POST", "/llm_proxy/keys", `{"name":"bob","rates":["60/m"]}`, 400, `unknown field "rates"`},
		"bad rate":      {"POST", "/llm_proxy/keys", `{"name":"bob","rate":["fast"]}`, 400, `"fast" is not a rate`},
		"bad name":      {"POST", "/llm_proxy/keys", `{"name":"bob smith"}`, 400, "no such name is possible"},
		"a secret":      {"POST", "/llm_proxy/keys", `{"name":"bob","secret":"hunter2"}`, 400, "sha256:"},
		"unknown":       {"DELETE", "/llm_proxy/keys/nobody", "", 404, `"nobody"`},
		"rotate none":   {"POST", "/llm_proxy/keys/nobody/rotate", "", 404, `"nobody"`},
		"rotate to one": {"POST", "/llm_proxy/keys/alice/rotate", "hunter2", 400, "sha256:"},
		"method":        {"PUT", "/llm_proxy/keys", "", 405, "GET or POST"},
		"elsewhere":     {"POST", "/llm_proxy/keys?kept_in=nowhere", `{"name":"bob"}`, 409, "no site keeps keys there"},
	} {
		if w := adminDo(t, test.method, test.path, test.body); w.Code != test.status || !strings.Contains(w.Body.String(), test.told) || strings.Contains(w.Body.String(), "hunter2") {
			t.Errorf("%s: status %d, want %d: %s", name, w.Code, test.status, w.Body)
		}
	}
	second := secretIn(adminDo(t, "POST", "/llm_proxy/keys/alice/rotate", ""))
	if status(t, url, first) != 401 || status(t, url, second) != 200 {
		t.Error("a rotated key: the old secret is good, or the new one is not")
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if got := status(t, url, second); got != 200 {
		t.Errorf("after a restart: status %d", got)
	}
	adminDo(t, "DELETE", "/llm_proxy/keys/alice", "")
	if got := status(t, url, second); got != 401 {
		t.Errorf("a revoked key: status %d", got)
	}
}

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
	url := "http://" + freeAddress(t)
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
		seen.Write(adminDo(t, "GET", path, "").Body.Bytes())
	}
	seen.Write(adminDo(t, "POST", "/llm_proxy/keys", `{"name":"x","secret":"secret-inline"}`).Body.Bytes())
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
