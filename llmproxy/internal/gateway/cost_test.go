package gateway

import (
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// The price of the target that answered counts, not of the one that was asked first.
func TestCostIsOfTheTargetThatAnswered(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, model string
		known       bool
		cost, saved float64
	}{
		{"by the token", "dear", true, 1, 0},
		{"after a fallback", "falls", true, 1, 0},
		{"local is free", "free", true, 0, 0},
		{"unknown is not zero", "unknown", false, 0, 0},
		{"saved by staying", "stays", true, 0, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			broken, good := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
			broken.Always(fakellm.InternalError())
			book, err := prices.New([]prices.Line{
				{For: "api/dear", Price: prices.Price{Rate: prices.Rate{Output: 0.5}}},
				{For: "twice", Price: prices.Price{Rate: prices.Rate{Output: 1}}},
				{For: "box/stays", InsteadOf: "twice"},
			})
			if err != nil {
				t.Fatal(err)
			}
			good.Always(fakellm.Text("a", "b").Usage(7, 2, 0))
			s := &setup{t: t}
			s.config.Prices = book
			s.up("broken", upstream.OpenAI, nil, broken.URL())
			s.up("api", upstream.OpenAI, nil, good.URL())
			s.up("box", upstream.VLLM, nil, good.URL())
			s.serve("dear api", "falls broken/twice | api/dear", "free box/llama", "unknown api", "stays box/stays")
			if got := s.post("/v1/chat/completions", chat(test.model, true)); got.status != 200 {
				t.Fatal(got)
			}
			rec := s.record()
			if rec.HasCost != test.known || rec.Cost != test.cost || rec.Saved != test.saved {
				t.Errorf("cost %v (known: %v), saved %v", rec.Cost, rec.HasCost, rec.Saved)
			}
		})
	}
}

func TestElectricityIsPaidByTheHour(t *testing.T) {
	t.Parallel()
	s, _ := one(t, "vllm", nil)
	book, err := prices.New([]prices.Line{{For: "u/*", Price: prices.Price{PerHour: 3600}}})
	if err != nil {
		t.Fatal(err)
	}
	s.config.Prices = book
	s.serve("m u/real")
	s.post("/v1/chat/completions", chat("m", false))
	rec := s.record()
	if took := rec.Attempts[0].Duration.Seconds(); rec.Cost <= 0 || rec.Cost > took {
		t.Errorf("%v US dollars for %v s at one a second", rec.Cost, took)
	}
}
