package gateway

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

func TestBudget(t *testing.T) {
	t.Parallel()
	s, _ := one(t, "openai", nil)
	book, err := prices.New([]prices.Line{{For: "u/x", Price: prices.Price{Schedule: prices.Schedule{Rate: prices.Rate{Input: 0.001, Output: 0.001}}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.config.Prices = book
	a := s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Budget: []string{"$1.2/month"}}})
	var mu sync.Mutex
	var told []int
	a.BudgetUsed = func(_ *ratelimit.Limit, percent int) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, percent)
	}
	complaints := 0
	a.BudgetRefused = func(budget *ratelimit.Limit, wait time.Duration) {
		if complaints++; budget.ID != "key/alice/budget/month" || wait <= 0 || len(told) == 0 {
			t.Errorf("%s has refused a request for %s, told before: %v", budget.ID, wait, told)
		}
	}
	s.serve("m u/x", "free u/y")
	spent, refused := 0.0, 0
	// More than is left, and than there ever will be: neither is the budget used up.
	for _, request := range []struct{ tokens, status int }{{900, 200}, {1190, 429}, {2000, 429}} {
		body := `{"model":"m","max_tokens":` + strconv.Itoa(request.tokens) + `,"messages":[{"role":"user","content":"Hi"}]}`
		if got := s.post("/v1/chat/completions", body, "api-key", "secret-alice"); got.status != request.status || complaints != 0 {
			t.Errorf("%d tokens: status %d, want %d; %d complaints", request.tokens, got.status, request.status, complaints)
		}
	}
	for range 100 {
		got := s.post("/v1/chat/completions", `{"model":"m","max_tokens":40,"messages":[{"role":"user","content":"Hi"}]}`, "api-key", "secret-alice")
		if got.status == 429 {
			refused++
			if !strings.Contains(got.body, `"code":"insufficient_quota"`) || got.header.Get("X-Should-Retry") != "false" || got.header.Get("Retry-After") == "" {
				t.Fatalf("%s, x-should-retry %q", got.body, got.header.Get("X-Should-Retry"))
			}
		}
	}
	if got := s.post("/v1/chat/completions", chat("free", false), "api-key", "secret-alice"); got.status != 403 || !strings.Contains(got.body, `"code":"cost_not_metered"`) {
		t.Errorf("a model without a price: %v", got)
	}
	s.server.Close()
	for _, rec := range s.records {
		spent += rec.Cost
	}
	if refused == 0 || spent > 1.2 || spent < 1 {
		t.Errorf("%d were refused, $%.3f of $1.20 were spent", refused, spent)
	}
	if len(told) == 0 || told[0] != 80 || complaints != refused {
		t.Errorf("told %v, complained %d times of %d", told, complaints, refused)
	}
}

// Ten requests at once see each other's reservations: where estimates hold, a budget is not overspent by a cent.
func TestParallelRequestsDoNotOverspend(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	fake.Always(fakellm.Text("a", "b").Usage(8, 40, 0)) // what is reserved for the answer is used up
	book, err := prices.New([]prices.Line{{For: "u/x", Price: prices.Price{Schedule: prices.Schedule{Rate: prices.Rate{Input: 0.001, Output: 0.001}}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.config.Prices = book
	s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Budget: []string{"$0.2/month"}}})
	s.serve("m u/x")
	var refused atomic.Int64
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() {
			for range 3 {
				if s.post("/v1/chat/completions", `{"model":"m","max_tokens":40,"messages":[{"role":"user","content":"Hi"}]}`, "api-key", "secret-alice").status == 429 {
					refused.Add(1)
				}
			}
		})
	}
	clients.Wait()
	s.server.Close()
	spent := 0.0
	for _, rec := range s.records {
		spent += rec.Cost
	}
	const oneEstimatesError = 0.01 // the prompt is estimated, as five tokens
	if refused.Load() < 20 || spent > 0.2+oneEstimatesError || spent < 0.1 {
		t.Errorf("%d were refused, $%.3f of $0.20 were spent", refused.Load(), spent)
	}
}
