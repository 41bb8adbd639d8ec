package llmproxy

import (
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// Errors that only a configuration in JSON can have are reported.
func TestJSONIsChecked(t *testing.T) {
	const upstreams = `"upstreams":[{"name":"u","kind":"openai"}]`
	for _, tt := range []struct{ name, json, want string }{
		{"valid", upstreams + `,"models":[{"name":"m","to":["u/m"]}],"health":"/health"`, ""},
		{"null upstream", `"upstreams":[null]`, "upstream 0 is null"},
		{"null model", upstreams + `,"models":[null]`, "model 0 is null"},
		{"null route", upstreams + `,"models":[{"name":"m","to":["u"],"routes":[null]}]`, `model "m": a route is null`},
		{"null key", upstreams + `,"keys":[null]`, "a key or user is null"},
		{"null user", upstreams + `,"users":[null]`, "a key or user is null"},
		{"null price", upstreams + `,"prices":[null]`, "a price is null"},
		{"null model_limits", `"upstreams":[{"name":"u","kind":"openai","model_limits":{"m":null}}]`, `model_limits of "m" is null`},
		{"model without a name", upstreams + `,"models":[{"to":["u/m"]}]`, "missing name"},
		{"empty fallback", upstreams + `,"models":[{"name":"m","to":["u/m"],"fallbacks":[[]]}]`, `model "m": a fallback has no target`},
		{"max_memory without a unit", upstreams + `,"max_memory":256`, "max_memory of 256 bytes is too small; use at least 1MiB, such as 512MiB"},
		{"negative max_memory", upstreams + `,"max_memory":-1`, "max_memory of -1 bytes is too small"},
		{"negative max_body", upstreams + `,"max_body":-1`, "max_body -1 is negative"},
		{"negative deadline", upstreams + `,"deadline":-1`, "deadline is negative"},
		{"negative log_prompts", upstreams + `,"log_prompts":-1`, "log_prompts -1 is out of range"},
		{"invalid health", upstreams + `,"health":"health"`, `invalid path "health"`},
		{"health is a path of the API", upstreams + `,"health":"/v1/models"`, "/v1/models is a path of the API"},
		{"negative timeout", `"upstreams":[{"name":"u","kind":"openai","idle_timeout":-1}]`, `upstream "u": idle_timeout is negative`},
		{"negative max_concurrent", `"upstreams":[{"name":"u","kind":"openai","max_concurrent":-1}]`, "max_concurrent -1 is out of range"},
		{"negative places", `"upstreams":[{"name":"u","kind":"openai","queue":{"places":-1}}]`, "places -1 is negative"},
		{"negative longest_wait", `"upstreams":[{"name":"u","kind":"openai","queue":{"places":1,"longest_wait":-1}}]`, "longest_wait is negative"},
		{"default cache", upstreams + `,"cache":{}`, ""},
		{"unknown cache scope", upstreams + `,"cache":{"scope":"all"}`, `cache: unknown scope "all"; use key or site`},
		{"unknown cache store", upstreams + `,"cache":{"store":"disk"}`, `cache: unknown store "disk"; use memory or redis`},
		{"endpoint that cannot be cached", upstreams + `,"cache":{"endpoints":["images"]}`, `cache: answers of the endpoint "images" cannot be cached`},
		{"negative cache size", upstreams + `,"cache":{"max_size":-1}`, "max_size and max_entry must not be negative"},
		{"negative cache ttl", upstreams + `,"cache":{"ttl":-1}`, "cache: ttl, max_ttl"},
		{"dial_timeout with a transport", `"upstreams":[{"name":"u","kind":"openai","dial_timeout":1,"transport":{"protocol":"http"}}]`, "dial_timeout has no effect with a transport"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var config caddy.Config
			text := `{"admin":{"disabled":true},"apps":{"http":{"servers":{"s":{"automatic_https":{"disable":true},"routes":[{"handle":[{"handler":"llm_proxy",` + tt.json + `}]}]}}}}}`
			if err := caddy.StrictUnmarshalJSON([]byte(text), &config); err != nil {
				t.Fatal(err)
			}
			err := caddy.Validate(&config)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Errors say what is wrong and what to do, and contain no secrets.
func TestLoadErrorsAreUnderstandable(t *testing.T) {
	t.Setenv("EMPTY_KEY", "")
	for _, test := range []struct{ name, inside, want string }{
		{"no address", "upstream u vllm", "missing address; add it"},
		{"unknown kind", "upstream u bedrock", `unknown kind of upstream "bedrock"`},
		{"empty key", "upstream u openai {\n\t\t\tapi_key {env.EMPTY_KEY}\n\t\t}", "api_key is empty"},
		{"unknown upstream", "upstream u openai\n\t\tmodel m v/x", `unknown upstream "v"`},
		{"loop of models", "upstream u openai\n\t\tmodel a b\n\t\tmodel b a", "a → b → a"},
		{"slash in the name of an upstream", "upstream a/b openai", "use one without slash"},
		{"weights with another policy", "upstream u openai\n\t\tmodel m {\n\t\t\tto u\n\t\t\tweight 1\n\t\t\tlb_policy first\n\t\t}", "weights need lb_policy weighted"},
		{"missing file of prices", "upstream u openai\n\t\tprices /nowhere.json", "reading prices from /nowhere.json: open"},
		{"instead_of without a price", "upstream u openai\n\t\tprice u/* per_hour 1 instead_of gpt-99", `unknown price of "gpt-99"`},
		{"invalid address of Redis", "upstream u openai\n\t\tstate http://:hunter2@localhost", "state: invalid address; use redis://"},
		{"invalid option of Redis", "upstream u openai\n\t\tstate redis://:hunter2@localhost?nonsense=1", "state: invalid address or option"},
		{"loop of routes", "upstream u openai\n\t\t@x path /a\n\t\tmodel a {\n\t\t\troute @x b\n\t\t\tto u\n\t\t}\n\t\tmodel b {\n\t\t\troute @x a\n\t\t\tto u\n\t\t}", "a → b → a"},
		{"route to an unknown upstream", "upstream u openai\n\t\t@x path /a\n\t\tmodel a {\n\t\t\troute @x b\n\t\t\tto u\n\t\t}", `unknown upstream "b"`},
		{"routes without a default", "upstream u openai\n\t\t@x path /a\n\t\tmodel a {\n\t\t\troute @x u/b\n\t\t}", "has no target for a request that no route matches"},
		{"invalid expression", "upstream u openai\n\t\t@x expression {llm.tools} >\n\t\tmodel a {\n\t\t\troute @x u/b\n\t\t\tto u\n\t\t}", "matcher @x: expression"},
		{"invalid regular expression", "upstream u openai\n\t\t@x llm content (\n\t\tmodel a {\n\t\t\troute @x u/b\n\t\t\tto u\n\t\t}", "missing closing )"},
		{"can and cannot contradict each other", "upstream u openai {\n\t\t\tcan tools\n\t\t\tcannot tools\n\t\t}", "can tools contradicts cannot tools"},
		{"two rates for one window", "upstream u echo\n\t\tkey a hunter2 {\n\t\t\trate 1/m 2/60s\n\t\t}", `"a": 1/m and 2/m have the same window: keep one, at Caddyfile:`},
		{"two limits for one window", "upstream u echo\n\t\tlimit {\n\t\t\ttokens 1/d\n\t\t\ttokens 2/24h\n\t\t}", "limit: 1/d and 2/d have the same window"},
		{"two rate_limits for one window", "upstream u echo\n\t\trate_limit 1/m 1/m", "rate_limit: 1/m and 1/m have the same window: keep one, at Caddyfile:"},
		{"invalid expires", "upstream u echo\n\t\tuser a {\n\t\t\texpires soon\n\t\t}", `invalid expires "soon"`},
		{"invalid name of a key", "upstream u echo\n\t\tkey ä hunter2", `"ä": invalid name: use 1 to 64 letters, digits and .-_@+, at Caddyfile:`},
		{"password in the address of an upstream", "upstream u openai http://me:hunter2@localhost", "contains a password"},
	} {
		t.Run(test.name, func(t *testing.T) {
			caddyfile, _ := site(t, "\tllm_proxy {\n\t\t"+test.inside+"\n\t}")
			err := load(t, caddyfile)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// validate does what `caddy validate` does.
func validate(t *testing.T, caddyfile string) {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatal(err)
	}
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&c); err != nil {
		t.Fatal(err)
	}
}

// `caddy validate`, which only provisions the configuration, sends no request and creates no file.
func TestValidateHasNoSideEffects(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	fake := fakellm.Start(t, "ollama")
	for name, inside := range map[string]string{"detected kind": "\tllm_proxy " + fake.Addr(), "configured model": echo} {
		t.Run(name, func(t *testing.T) {
			caddyfile, _ := site(t, inside)
			validate(t, caddyfile)
			if n := len(fake.Probes()) + len(fake.Requests()); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
			if n := state.Ledgers.Len(); n != 0 {
				t.Errorf("%d ledgers are in use", n)
			}
			created, err := os.ReadDir(dir)
			if err != nil || len(created) != 0 {
				t.Errorf("created %v, %v", created, err)
			}
		})
	}
}

// The file of a key may begin with a byte order mark, which {file.…} takes over.
func TestByteOrderMarkInAPIKey(t *testing.T) {
	t.Setenv("MARKED_KEY", "\ufeffsk-real\r\n")
	for configured, want := range map[string]string{"{env.MARKED_KEY}": "sk-real", "\ufeffsk-real": "sk-real", "sk-real": "sk-real"} {
		if got, err := (&Upstream{APIKey: configured}).expandAPIKey(); got != want || err != nil {
			t.Errorf("%q is %q, %v", configured, got, err)
		}
	}
}
