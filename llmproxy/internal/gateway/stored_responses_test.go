package gateway

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A response is continued where it was made, whatever the model's pools say.
func TestResponsesAreContinuedWhereTheyAre(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"", `,"stream":true`} {
		a, b := fakellm.Start(t, "openai", fakellm.Models("x")), fakellm.Start(t, "openai", fakellm.Models("x"))
		s := &setup{t: t}
		s.config.Stored = NewStoredResponses()
		s.up("a", upstream.OpenAI, nil, a.URL())
		s.up("b", upstream.OpenAI, nil, b.URL())
		s.serve("m a/x | b/x", "first a/x", "second b/x")
		made := readResponse(t, s.post("/v1/responses", `{"model":"second","input":"Hi"`+stream+`}`))
		continued := func(model string) reply {
			return s.post("/v1/responses", `{"model":"`+model+`","input":"And?","previous_response_id":"`+made.ID+`"`+stream+`}`)
		}
		if got := continued("m"); got.status != http.StatusOK || got.header.Get("X-Llm-Target") != "b/x" {
			t.Errorf("status %d from %s: %s", got.status, got.header.Get("X-Llm-Target"), got.body)
		}
		if got := continued("first"); got.status != http.StatusBadRequest || decoded(t, got.body)["error"].(map[string]any)["param"] != "previous_response_id" {
			t.Errorf("status %d: %s", got.status, got.body)
		}
		b.Next(fakellm.InternalError())
		if got := continued("m"); got.status == http.StatusOK && got.header.Get("X-Llm-Target") != "b/x" {
			t.Errorf("continued at %s", got.header.Get("X-Llm-Target"))
		}
		if n := len(a.Requests()); n != 0 {
			t.Errorf("another upstream was asked %d times", n)
		}
		if got := s.post("/v1/responses", `{"model":"m","input":"Hi","previous_response_id":"resp_unknown"}`); got.header.Get("X-Llm-Target") != "a/x" {
			t.Errorf("an unknown response is looked for at %s", got.header.Get("X-Llm-Target"))
		}
	}
}

// Nobody continues the response of another key, and one that was not stored is not remembered.
func TestStoredResponsesHaveAnOwner(t *testing.T) {
	t.Parallel()
	b := upstream.New(upstream.Config{Name: "b", Kind: upstream.OpenAI, Bases: []*url.URL{{Scheme: "http", Host: "b"}}}).Route
	record := func(body, identity string) *exchange.Record {
		request := new(openai.Request)
		if err := request.Parse([]byte(body)); err != nil {
			t.Fatal(err)
		}
		rec := &exchange.Record{RequestInfo: exchange.RequestInfo{JSON: request, Model: "m"}, Caller: exchange.Caller{Identity: identity}}
		rec.Configured.Upstream, rec.ResponseID = b, "resp_1"
		return rec
	}
	table, err := router.Compile([]*router.Upstream{b}, []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"b/x"}, Policy: router.First}}}})
	if err != nil {
		t.Fatal(err)
	}
	plan, ok := table.Lookup("m")
	if !ok {
		t.Fatal("no plan")
	}
	responses, _ := openai.LookupEndpoint("/v1/responses")
	s := NewStoredResponses()
	find := func(identity string) (string, *openai.Error) {
		return s.find(&exchange.Exchange{Endpoint: responses, Record: record(`{"model":"m","previous_response_id":"resp_1"}`, identity)}, plan, false)
	}
	s.keep(record(`{"model":"m","store":false}`, "alice"))
	if at, err := find("alice"); at != "" || err != nil {
		t.Errorf("a response that was not stored is at %q, %v", at, err)
	}
	s.keep(record(`{"model":"m"}`, "alice"))
	if at, err := find("alice"); at != "b" || err != nil {
		t.Errorf("at %q, %v", at, err)
	}
	if at, err := find("bob"); at != "" || err == nil || err.Code != "previous_response_not_found" || err.Status != http.StatusBadRequest {
		t.Errorf("for another key at %q, %v", at, err)
	}
}
