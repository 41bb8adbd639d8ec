package llmproxy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

func adminPost(t *testing.T, uri string) (status int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	err := admin.Purge(w, httptest.NewRequest(http.MethodPost, uri, nil))
	if err != nil {
		return err.(caddy.APIError).HTTPStatus, err.Error()
	}
	return w.Code, w.Body.String()
}

func TestPurge(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		model m u/real
		model other u/real
		cache purged
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	fill := func() {
		text(t, ask(t, url, false))
		res, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"other","messages":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		text(t, res)
		res.Body.Close()
	}
	entries := func() int {
		_, body := adminGet(t, "/llm_proxy/cache", "")
		var list []admin.CacheStatus
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			if s.Name == "purged" {
				return s.Entries
			}
		}
		t.Fatal("the cache is not listed: ", body)
		return 0
	}
	for _, test := range []struct {
		name, query string
		status      int
		want        string
		left        int
	}{
		{"a model", "?model=m", 200, `{"purged":1}`, 1},
		{"another model", "?model=x", 200, `{"purged":0}`, 2},
		{"another cache", "?name=x", 200, `{"purged":0}`, 2},
		{"this cache", "?name=purged", 200, `{"purged":2}`, 0},
		{"mistyped", "?modle=m", 400, `unknown parameter "modle"; use name or model`, 2},
		{"an empty variable", "?model=", 400, "model must be given once and must not be empty", 2},
		{"two models", "?model=m&model=x", 400, "model must be given once", 2},
		{"not encoded", "?model=a;b", 400, "reading the query", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			fill()
			for want := 2; entries() != want; { // the client has its answer a moment before it is kept
			}
			status, body := adminPost(t, "/llm_proxy/cache/purge"+test.query)
			if status != test.status || !strings.Contains(body, test.want) || entries() != test.left {
				t.Errorf("%d %s; %d are left", status, body, entries())
			}
		})
	}
	var out bytes.Buffer
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, route := range (admin.API{}).Routes() {
			if route.Pattern == r.URL.Path {
				if err := route.Handler.ServeHTTP(w, r); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
				}
			}
		}
	}))
	defer server.Close()
	for _, cmd := range []struct{ args, want string }{{"stats", "purged "}, {"purge --model other", "answers were purged"}} {
		out.Reset()
		root := admin.CacheStatsCommand()
		if strings.HasPrefix(cmd.args, "purge") {
			root = admin.CachePurgeCommand()
		}
		root.SetOut(&out)
		root.SetArgs(append(strings.Fields(cmd.args)[1:], "--address", strings.TrimPrefix(server.URL, "http://")))
		if err := root.Execute(); err != nil || !strings.Contains(out.String(), cmd.want) {
			t.Errorf("%s: %v %s", cmd.args, err, out.String())
		}
	}
	root := admin.CachePurgeCommand()
	root.SetArgs([]string{"--model", "", "--address", strings.TrimPrefix(server.URL, "http://")})
	if err := root.Execute(); err == nil {
		t.Error("an empty model purges everything")
	}
}
