package llmproxy

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// Answers outlive a reload, unless it changes what would generate them.
func TestCacheOutlivesReload(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		model m u/real
		cache reloaded
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	reload := func(caddyfile string) {
		t.Helper()
		config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
		if err != nil {
			t.Fatal(err)
		}
		if err := caddy.Load(config, true); err != nil {
			t.Fatal(err)
		}
	}
	want := func(how string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", strings.NewReader(`{"messages":[],"model":"m","stream":true}`))
		if err != nil {
			t.Fatal(err)
		}
		res := send(t, req)
		defer res.Body.Close()
		if got := res.Header.Get("X-LLM-Cache"); got != how {
			t.Errorf("%q, want %q", got, how)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
	}
	want("miss")
	reload(caddyfile)
	want("hit")
	reload(strings.Replace(caddyfile, "cache reloaded", "cache reloaded {\n\t\t\tmax_size 1MiB\n\t\t}", 1))
	want("hit")
	reload(strings.Replace(caddyfile, "u openai "+fake.URL(), "u openai "+fake.URL()+" {\n\t\t\tparams temperature 0\n\t\t}", 1))
	want("miss")
	reload(strings.Replace(caddyfile, "model m u/real", "model m u/tiny", 1))
	want("miss")
	if n := len(fake.Requests()); n != 3 {
		t.Errorf("%d requests reached the upstream", n)
	}
}

func TestCacheThatIsWrong(t *testing.T) {
	for name, c := range map[string]*Cache{
		"scope": {Scope: "all"}, "endpoint": {Endpoints: []string{"images"}}, "size": {MaxSize: -1}, "time": {TTL: -1},
	} {
		if err := c.check(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if err := (&Cache{}).check(); err != nil {
		t.Error(err)
	}
}
