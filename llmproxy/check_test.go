package llmproxy

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// Errors that a Caddyfile cannot have are found in JSON, and do not crash Caddy.
func TestJSONIsChecked(t *testing.T) {
	const upstreams = `"upstreams":[{"name":"u","kind":"openai"}]`
	for _, tt := range []struct{ name, json, want string }{
		{"valid", upstreams + `,"models":[{"name":"m","to":["u/m"]}],"health":"/health"`, ""},
		{"null for an upstream", `"upstreams":[null]`, "upstream 0 is null"},
		{"null for a model", upstreams + `,"models":[null]`, "model 0 is null"},
		{"null for a route", upstreams + `,"models":[{"name":"m","to":["u"],"routes":[null]}]`, `model "m": a route is null`},
		{"null for a key", upstreams + `,"keys":[null]`, "a key or user is null"},
		{"null for a user", upstreams + `,"users":[null]`, "a key or user is null"},
		{"null for a price", upstreams + `,"prices":[null]`, "a price is null"},
		{"null for the limits of a model", `"upstreams":[{"name":"u","kind":"openai","model_limits":{"m":null}}]`, `model_limits of "m" is null`},
		{"a model without a name", upstreams + `,"models":[{"to":["u/m"]}]`, "missing name"},
		{"a fallback to nothing", upstreams + `,"models":[{"name":"m","to":["u/m"],"fallbacks":[[]]}]`, `model "m": a fallback has no target`},
		{"negative max_body", upstreams + `,"max_body":-1`, "max_body -1 is negative"},
		{"negative deadline", upstreams + `,"deadline":-1`, "deadline is negative"},
		{"negative log_prompts", upstreams + `,"log_prompts":-1`, "log_prompts -1 is out of range"},
		{"invalid health", upstreams + `,"health":"health"`, `invalid path "health"`},
		{"health is a path of the API", upstreams + `,"health":"/v1/models"`, "/v1/models is a path of the API"},
		{"negative timeout", `"upstreams":[{"name":"u","kind":"openai","idle_timeout":-1}]`, `upstream "u": idle_timeout is negative`},
		{"negative max_concurrent", `"upstreams":[{"name":"u","kind":"openai","max_concurrent":-1}]`, "max_concurrent -1 is out of range"},
		{"negative places", `"upstreams":[{"name":"u","kind":"openai","queue":{"places":-1}}]`, "places -1 is negative"},
		{"negative longest_wait", `"upstreams":[{"name":"u","kind":"openai","queue":{"places":1,"longest_wait":-1}}]`, "longest_wait is negative"},
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
