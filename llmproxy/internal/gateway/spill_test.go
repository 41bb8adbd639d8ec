package gateway

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// spilling is a gateway that has learned how fast its local upstream is, and that any first token takes longer there than the model m
// allows.
func spilling(t *testing.T, spill *admission.Spill, budget delivery.SpillBudget, change func(*setup)) (s *setup, local, remote *fakellm.Server) {
	t.Helper()
	local, remote = fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	local.Always(fakellm.Text("local", " answer").Usage(50, 20, 0))
	remote.Always(fakellm.Text("remote", " answer").Usage(50, 20, 0))
	s = &setup{t: t}
	s.up("gpu", upstream.OpenAI, func(c *upstream.Config) {
		yes := true
		c.MaxConcurrent, c.Queue, c.Local = 1, admission.Config{Size: 4}, &yes
	}, local.URL())
	s.up("api", upstream.OpenAI, nil, remote.URL())
	book, err := prices.New([]prices.Line{{For: "api/*", Price: perToken(0.001)}})
	if err != nil {
		t.Fatal(err)
	}
	s.config.Prices = book
	if budget != nil {
		s.config.SpillBudgets = map[*admission.Spill]delivery.SpillBudget{spill: budget}
	}
	s.models = []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"gpu/x"}, Policy: router.First}, {Targets: []string{"api/y"}, Policy: router.First}}, Spill: spill}}
	if change != nil {
		change(s)
	}
	s.serve("local gpu/x")
	for range 20 { // until then, nothing is known
		s.expectTarget("m", "gpu/x", "m")
	}
	return s, local, remote
}

// expectTarget sends a request, and fails the test unless the target answers it by the route.
func (s *setup) expectTarget(model, target, route string) {
	s.t.Helper()
	got := s.post("/v1/chat/completions", chat(model, true))
	if got.status != http.StatusOK || got.header.Get("X-Llm-Target") != target || got.header.Get("X-Llm-Route") != route {
		s.t.Fatalf("status %d from %q by %q, want %q by %q: %s", got.status, got.header.Get("X-Llm-Target"), got.header.Get("X-Llm-Route"), target, route, got.body)
	}
}

func TestSpillsByForecast(t *testing.T) {
	t.Parallel()
	s, _, remote := spilling(t, &admission.Spill{After: time.Nanosecond}, nil, nil)
	s.expectTarget("m", "gpu/x", "m") // one decision is not enough
	s.expectTarget("m", "api/y", "spill")
	s.expectTarget("local", "gpu/x", "local")
	remote.Next(fakellm.InternalError())
	s.expectTarget("m", "gpu/x", "m") // comes back
	s.expectTarget("m", "api/y", "spill")
	if rec := s.record(); rec.Predicted != 0 {
		t.Errorf("%s was predicted for an upstream without slots", rec.Predicted)
	}
}

func TestForecastIsRecorded(t *testing.T) {
	t.Parallel()
	s, _, _ := spilling(t, &admission.Spill{After: time.Hour}, nil, nil)
	s.expectTarget("m", "gpu/x", "m")
	if rec := s.record(); rec.Predicted <= 0 || rec.Real <= 0 {
		t.Errorf("predicted %s, real %s", rec.Predicted, rec.Real)
	}
}

func TestLocalRequestsDoNotSpill(t *testing.T) {
	t.Parallel()
	s, _, _ := spilling(t, &admission.Spill{After: time.Nanosecond}, nil, func(s *setup) {
		s.config.LocalOnly = func(*http.Request, *exchange.Record) bool { return true }
	})
	for range 3 {
		s.expectTarget("m", "gpu/x", "m")
	}
}

// A purse is a spill budget of a few dollars.
type purse struct{ left, reserved float64 }

func (p *purse) Covers(_ context.Context, cost float64) bool { return p.left-p.reserved >= cost }

func (p *purse) Pay(ctx context.Context, _, likely float64) (func(float64), bool) {
	if !p.Covers(ctx, likely) {
		return nil, false
	}
	p.reserved += likely
	return func(cost float64) { p.reserved, p.left = p.reserved-likely, p.left-cost }, true
}

// A request is sent on only if the budget covers what it is likely to cost, and takes from the budget what it really cost.
func TestSpillBudget(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		left  float64
		spent string
		spill bool
	}{{100, "0.07", true}, {0.01, "0.00", false}} {
		t.Run(fmt.Sprint(test.left), func(t *testing.T) {
			t.Parallel()
			p := &purse{left: test.left}
			s, _, _ := spilling(t, &admission.Spill{After: time.Nanosecond}, p, nil)
			s.expectTarget("m", "gpu/x", "m")
			if test.spill {
				s.expectTarget("m", "api/y", "spill")
			} else {
				s.expectTarget("m", "gpu/x", "m")
			}
			s.record() // waits until the request is over
			if spent := fmt.Sprintf("%.2f", test.left-p.left); spent != test.spent || p.reserved > 1e-9 {
				t.Errorf("$%s were spent, want $%s; $%f are reserved", spent, test.spent, p.reserved)
			}
		})
	}
}

// A request that has waited for as long as the model allows goes on to the next pool, unless the budget for that is used up: then it waits
// for its turn.
func TestSpillsAfterWaiting(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		left          float64
		target, route string
	}{{"covered", 100, "api/y", "spill"}, {"not covered", 0, "gpu/x", "m"}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			spill := &admission.Spill{After: 20 * time.Millisecond}
			release := make(chan struct{})
			s, local, _ := spilling(t, spill, &purse{left: test.left}, nil)
			local.Next(fakellm.Text("slow").Hold(release))
			first := make(chan reply, 1)
			go func() { first <- s.post("/v1/chat/completions", chat("local", true)) }()
			local.Wait(t, 21)
			second := make(chan reply, 1)
			go func() { second <- s.post("/v1/chat/completions", chat("m", true)) }()
			if test.left == 0 {
				until(t, func() bool { return s.upstreams[0].Replicas[0].Waiting() == 1 })
				close(release)
			} else {
				defer close(release)
			}
			if got := <-second; got.status != http.StatusOK || got.header.Get("X-Llm-Target") != test.target || got.header.Get("X-Llm-Route") != test.route {
				t.Errorf("status %d from %q by %q", got.status, got.header.Get("X-Llm-Target"), got.header.Get("X-Llm-Route"))
			}
		})
	}
}

// When the budget for spilling is used up, a full queue refuses requests instead of sending them on.
func TestFullQueueWithoutSpillBudget(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	s, local, remote := spilling(t, &admission.Spill{After: time.Hour}, &purse{}, func(s *setup) { s.upstreams[0].Group.Queue = admission.Config{} })
	local.Next(fakellm.Text("slow").Hold(release))
	s.start(chat("local", true))
	local.Wait(t, 21)
	if got := s.post("/v1/chat/completions", chat("m", true)); got.status != http.StatusTooManyRequests || len(remote.Requests()) != 0 {
		t.Errorf("status %d, and the remote upstream got %d requests: %s", got.status, len(remote.Requests()), got.body)
	}
}
