package llmproxy

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// What a Caddyfile cannot say is told to whoever writes JSON, and does not take Caddy down.
func TestJSONIsChecked(t *testing.T) {
	const upstreams = `"upstreams":[{"name":"u","kind":"openai"}]`
	for _, tt := range []struct{ name, json, want string }{
		{"nothing wrong", upstreams + `,"models":[{"name":"m","to":["u/m"]}],"health":"/health"`, ""},
		{"null for an upstream", `"upstreams":[null]`, "upstream 0 is null"},
		{"null for a model", upstreams + `,"models":[null]`, "model 0 is null"},
		{"null for a route", upstreams + `,"models":[{"name":"m","to":["u"],"routes":[null]}]`, `model "m": a route is null`},
		{"null for a key", upstreams + `,"keys":[null]`, "a key or user is null"},
		{"null for a user", upstreams + `,"users":[null]`, "a key or user is null"},
		{"null for a price", upstreams + `,"prices":[null]`, "a price is null"},
		{"null for the limits of a model", `"upstreams":[{"name":"u","kind":"openai","model_limits":{"m":null}}]`, `model_limits of "m" are null`},
		{"a model without a name", upstreams + `,"models":[{"to":["u/m"]}]`, "needs a name"},
		{"a fallback to nothing", upstreams + `,"models":[{"name":"m","to":["u/m"],"fallbacks":[[]]}]`, `model "m": a fallback has no target`},
		{"bodies below zero", upstreams + `,"max_body":-1`, "max_body -1 is below zero"},
		{"deadline below zero", upstreams + `,"deadline":-1`, "deadline is below zero"},
		{"prompts below zero", upstreams + `,"log_prompts":-1`, "log_prompts -1 is not"},
		{"health is no path", upstreams + `,"health":"health"`, `"health" is not a path`},
		{"health is the API's", upstreams + `,"health":"/v1/models"`, "/v1/models is a path of the API"},
		{"timer below zero", `"upstreams":[{"name":"u","kind":"openai","idle_timeout":-1}]`, `upstream "u": idle_timeout is below zero`},
		{"slots below zero", `"upstreams":[{"name":"u","kind":"openai","max_concurrent":-1}]`, "max_concurrent -1 is out of range"},
		{"places below zero", `"upstreams":[{"name":"u","kind":"openai","queue":{"places":-1}}]`, "-1 places are below zero"},
		{"wait below zero", `"upstreams":[{"name":"u","kind":"openai","queue":{"places":1,"longest_wait":-1}}]`, "longest_wait is below zero"},
		{"two who dial", `"upstreams":[{"name":"u","kind":"openai","dial_timeout":1,"transport":{"protocol":"http"}}]`, "dial_timeout does not count beside a transport"},
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
