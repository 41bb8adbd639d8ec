package gateway

import (
	"net/http/httptest"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// decider plans a request that was read.
func decider(tb testing.TB, kind *upstream.Kind, can upstream.Override, routes ...router.RouteConfig) func() {
	tb.Helper()
	u := upstream.New(upstream.Config{Name: "u", Kind: kind, Override: can})
	model := router.Model{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u/x"}}}, Routes: routes}
	u.Route.Replicas = []router.Replica{&replica.Replica{}}
	table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{model})
	if err != nil {
		tb.Fatal(err)
	}
	g := New(Config{Config: delivery.Config{Upstreams: []*upstream.Upstream{u}}, Models: table, Affinity: NewAffinity()})
	endpoint, _ := openai.LookupEndpoint("/v1/chat/completions")
	body, failed := reqbody.FromJSON([]byte(chat("m", true)), endpoint)
	if failed != nil {
		tb.Fatal(failed)
	}
	rec := new(exchange.Record)
	x := exchange.New(httptest.NewRecorder(), httptest.NewRequest("POST", "/v1/chat/completions", nil), dialect.OpenAI, endpoint, rec)
	rec.RequestInfo = exchange.RequestInfo{Model: "m", JSON: body.JSON()}
	return func() {
		if _, _, err := g.plan(x, body, false); err != nil {
			tb.Fatal(err)
		}
	}
}

// A model without rules at an upstream without limits decides without allocating.
func TestDecisionAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, decider(t, upstream.OpenAI, upstream.Override{})); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecision(b *testing.B) {
	hard := router.RouteConfig{Name: "@hard", Matcher: onHeader("X-Hard"), Targets: []string{"u/y"}}
	for name, decide := range map[string]func(){
		"plain":   decider(b, upstream.OpenAI, upstream.Override{}),
		"limited": decider(b, upstream.OpenAI, upstream.Override{ContextWindow: 4096}),
		"rules":   decider(b, upstream.OpenAI, upstream.Override{}, hard),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				decide()
			}
		})
	}
}
