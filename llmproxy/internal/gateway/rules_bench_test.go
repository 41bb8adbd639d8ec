package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// decider is a call that was parsed and is to be routed.
func decider(tb testing.TB, kind *upstream.Kind, can upstream.Said, routes ...router.RouteConfig) *call {
	tb.Helper()
	u := upstream.New(upstream.Config{Name: "u", Kind: kind, Can: can}, nil)
	model := router.Model{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u/x"}}}, Routes: routes}
	u.Route.Replicas = []*router.Replica{{}}
	table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{model})
	if err != nil {
		tb.Fatal(err)
	}
	g := New(Config{Upstreams: []*upstream.Upstream{u}, Models: table, Pins: new(Pins),
		Matches: func(r *http.Request, _ *Record, _ int) bool { return r.Header.Get("X-Hard") != "" }})
	endpoint, _ := wire.LookupEndpoint("/v1/chat/completions")
	c := &call{g: g, r: httptest.NewRequest("POST", "/v1/chat/completions", nil), task: Task{endpoint: endpoint}, rec: &Record{Model: "m"}}
	if err := c.head.Parse([]byte(chat("m", true))); err != nil {
		tb.Fatal(err)
	}
	c.rec.head, c.up.Head = &c.head, &c.head
	return c
}

func (c *call) decide(tb testing.TB) {
	plan, err := c.route()
	if err != nil {
		tb.Fatal(err)
	}
	c.misfit(plan)
}

// A model without rules at an upstream without limits decides without allocating.
func TestDecisionAllocations(t *testing.T) {
	c := decider(t, upstream.OpenAI, upstream.Said{})
	if n := testing.AllocsPerRun(100, func() { c.decide(t) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecision(b *testing.B) {
	hard := router.RouteConfig{Matcher: "@hard", Targets: []string{"u/y"}}
	for name, c := range map[string]*call{
		"plain":   decider(b, upstream.OpenAI, upstream.Said{}),
		"limited": decider(b, upstream.OpenAI, upstream.Said{Context: 4096}),
		"rules":   decider(b, upstream.OpenAI, upstream.Said{}, hard),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.decide(b)
			}
		})
	}
}
