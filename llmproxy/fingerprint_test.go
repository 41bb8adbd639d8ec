package llmproxy

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

// TestFingerprintHasOnlyWhatAnswersDependOn classifies every field of an upstream's configuration. A change of a field that counts must
// change the fingerprint, or the cache would return answers of the old configuration. A change of another one must not, or a reload
// would empty the cache.
func TestFingerprintHasOnlyWhatAnswersDependOn(t *testing.T) {
	t.Parallel()
	yes := true
	rows := []struct {
		field, name string
		counts      bool
		change      func(*Upstream)
	}{
		{"Name", "is in the key by itself", false, func(u *Upstream) { u.Name = "other" }},
		{"Kind", "another", true, func(u *Upstream) { u.Kind = "vllm" }},
		{"Addresses", "another", true, func(u *Upstream) { u.Addresses = []string{"http://10.0.0.2:8000"} }},
		{"Addresses", "another path", true, func(u *Upstream) { u.Addresses = []string{"http://10.0.0.1:8000/other/v1"} }},
		{"Addresses", "the same, spelled otherwise", false, func(u *Upstream) { u.Addresses = []string{"http://10.0.0.1:8000/v1"} }},
		{"Addresses", "one more", false, func(u *Upstream) { u.Addresses = append(u.Addresses, "http://10.0.0.2:8000") }},
		{"APIKey", "another", false, func(u *Upstream) { u.APIKey = "other" }},
		{"APIVersion", "set", true, func(u *Upstream) { u.APIVersion = "2024-10-21" }},
		{"InsecureHTTP", "set", false, func(u *Upstream) { u.InsecureHTTP = true }},
		{"Headers", "another value", true, func(u *Upstream) { u.Headers.Set["X-Team"] = []string{"b"} }},
		{"Headers", "none", true, func(u *Upstream) { u.Headers = nil }},
		{"Params", "another value", true, func(u *Upstream) { u.Params["temperature"] = json.RawMessage("1") }},
		{"Params", "one more", true, func(u *Upstream) { u.Params["top_p"] = json.RawMessage("1") }},
		{"Params", "white space", false, func(u *Upstream) { u.Params["stop"] = json.RawMessage(`[ "a" ]`) }},
		{"Drop", "one more", true, func(u *Upstream) { u.Drop = append(u.Drop, "seed") }},
		{"Drop", "another order", false, func(u *Upstream) { u.Drop = []string{"user", "logprobs"} }},
		{"API", "another", true, func(u *Upstream) { u.API = "openai" }},
		{"API", "the default", false, func(u *Upstream) { u.API = "native" }},
		{"AllowOptions", "set", true, func(u *Upstream) { u.AllowOptions = []string{"num_ctx"} }},
		{"TransportRaw", "another", false, func(u *Upstream) { u.TransportRaw = json.RawMessage(`{"protocol":"http"}`) }},
		{"DialTimeout", "set", false, func(u *Upstream) { u.DialTimeout = caddy.Duration(time.Second) }},
		{"FirstTokenTimeout", "set", false, func(u *Upstream) { u.FirstTokenTimeout = caddy.Duration(time.Second) }},
		{"IdleTimeout", "set", false, func(u *Upstream) { u.IdleTimeout = caddy.Duration(time.Second) }},
		{"Timeout", "set", false, func(u *Upstream) { u.Timeout = caddy.Duration(time.Second) }},
		{"AnswerTimeout", "set", false, func(u *Upstream) { u.AnswerTimeout = caddy.Duration(time.Second) }},
		{"LoadTimeout", "set", false, func(u *Upstream) { u.LoadTimeout = caddy.Duration(time.Second) }},
		{"Wake", "set", false, func(u *Upstream) { u.Wake = &Wake{MAC: "00:11:22:33:44:55"} }},
		{"Warm", "set", false, func(u *Upstream) { u.Warm = []string{"x"} }},
		{"MaxConcurrent", "set", false, func(u *Upstream) { u.MaxConcurrent = 2 }},
		{"Queue", "set", false, func(u *Upstream) { u.Queue = &Queue{Places: 2} }},
		{"QueuePerKey", "set", false, func(u *Upstream) { u.QueuePerKey = 2 }},
		{"Local", "set", false, func(u *Upstream) { u.Local = &yes }},
		// Capabilities decide which of the targets in the key takes a request, as load does.
		{"Context", "set", false, func(u *Upstream) { u.Context = 1000 }},
		{"Can", "set", false, func(u *Upstream) { u.Can = []string{"tools"} }},
		{"Cannot", "set", false, func(u *Upstream) { u.Cannot = []string{"tools"} }},
		{"ModelLimits", "set", false, func(u *Upstream) { u.ModelLimits = map[string]*Capabilities{"x": {Context: 1000}} }},
	}
	fingerprint := func(change func(*Upstream)) string {
		u := &Upstream{
			Name: "u", Kind: "openai", Addresses: []string{"http://10.0.0.1:8000"}, Drop: []string{"logprobs", "user"},
			Headers: &headers.HeaderOps{Set: http.Header{"X-Team": {"a"}}},
			Params:  map[string]json.RawMessage{"temperature": json.RawMessage("0"), "stop": json.RawMessage(`["a"]`)},
		}
		change(u)
		kind, err := u.kind()
		if err != nil {
			t.Fatal(err)
		}
		bases, err := u.bases(kind)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := u.fingerprint(bases)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	unchanged := fingerprint(func(*Upstream) {})
	classified := map[string]bool{}
	for _, row := range rows {
		classified[row.field] = true
		if changed := fingerprint(row.change) != unchanged; changed != row.counts {
			t.Errorf("%s, %s: the fingerprint changed: %v, want %v", row.field, row.name, changed, row.counts)
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Upstream]()) {
		if !f.Anonymous && f.IsExported() && !classified[f.Name] {
			t.Errorf("the field %s of Upstream is not classified: add a row that says whether answers depend on it, and if so, add it to fingerprint", f.Name)
		}
	}
}
