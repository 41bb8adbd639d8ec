package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// perToken is a price of so many dollars for every token.
func perToken(usd float64) prices.Price {
	return prices.Price{Schedule: prices.Schedule{Rate: prices.Figures{Input: &usd, Output: &usd}.Rate()}}
}

// A budget that is used up still pays for what is free.
func TestFreeTargetAtTheEndOfABudget(t *testing.T) {
	t.Parallel()
	box, api := fakellm.Start(t, "vllm"), fakellm.Start(t, "openai")
	box.Always(fakellm.Text("a", "b"))
	api.Always(fakellm.Text("a", "b").Usage(5, 400, 0))
	s := &setup{t: t}
	book, err := prices.New([]prices.Line{{For: "api/*", Price: perToken(0.001)}})
	if err != nil {
		t.Fatal(err)
	}
	s.config.Prices = book
	s.up("box", upstream.VLLM, nil, box.URL())
	s.up("api", upstream.OpenAI, nil, api.URL())
	s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Budget: []string{"$0.5/month"}}})
	s.serve("paid api/x", "local box/llama | api/x", "dear api/x | box/llama")
	ask := func(model string) reply {
		t.Helper()
		return s.post("/v1/chat/completions", `{"model":"`+model+`","max_tokens":400,"messages":[{"role":"user","content":"Hi"}]}`, "api-key", "secret-alice")
	}
	for _, step := range []struct {
		model, target string
		status        int
		broken        bool // the local server
	}{
		{"paid", "api/x", 200, false},
		{"paid", "", 429, false},           // the rest does not cover it
		{"local", "box/llama", 200, false}, // costs nothing
		{"dear", "box/llama", 200, false},  // goes on to what costs nothing
		{"local", "box/llama", 502, true},  // the paid fallback is refused
	} {
		if step.broken {
			box.Always(fakellm.InternalError())
		}
		got := ask(step.model)
		if got.status != step.status || got.header.Get("X-Llm-Target") != step.target {
			t.Errorf("%s: status %d from %q: %s", step.model, got.status, got.header.Get("X-Llm-Target"), got.body)
		}
		if step.broken && !strings.Contains(got.body, "The budget does not cover the other upstreams.") {
			t.Errorf("it does not say why: %s", got.body)
		}
	}
}

// Fifty clients that do not limit their answers overspend a budget by less than one answer: before anything is known of the model's
// answers, and after.
func TestOverrunWithoutMaxTokens(t *testing.T) {
	t.Parallel()
	const usd, budget, length = 1.8e-6, 0.10, 8000
	for _, known := range []int{0, 60} {
		s, fake := one(t, "openai", nil)
		book, err := prices.New([]prices.Line{{For: "u/*", Price: perToken(usd)}})
		if err != nil {
			t.Fatal(err)
		}
		s.config.Prices = book
		s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Budget: []string{fmt.Sprintf("$%g/month", budget)}}}, &keys.Entry{Name: "bob"})
		fake.Always(fakellm.Text("a", "b").Usage(5, length, 0))
		s.serve("m u/x")
		for range known {
			s.post("/v1/chat/completions", chat("m", false), "api-key", "secret-bob")
		}
		var clients sync.WaitGroup
		for range 50 {
			clients.Go(func() { s.post("/v1/chat/completions", chat("m", false), "api-key", "secret-alice") })
		}
		clients.Wait()
		for range 20 { // those that were told to come again
			s.post("/v1/chat/completions", chat("m", false), "api-key", "secret-alice")
		}
		s.server.Close()
		spent := 0.0
		for _, rec := range s.records {
			if rec.Key == "alice" {
				spent += rec.Cost
			}
		}
		t.Logf("%d answers were known: $%.4f of $%.2f were spent", known, spent, budget)
		if one := usd * (length + 5); spent > budget+one || spent < budget-one {
			t.Errorf("%d answers were known: $%.4f of $%.2f were spent, and an answer is $%.4f", known, spent, budget, one)
		}
	}
}

// TestUnmetered checks what is refused to a key with a budget because its cost could not be metered.
func TestUnmetered(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"text":"hi","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"data":[{"url":"x"}],"results":[],"usage":{"type":"duration","seconds":1}}`) //nolint:errcheck // the client would notice
	}))
	t.Cleanup(server.Close)
	form := func(format string) string {
		return "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--XX\r\nContent-Disposition: form-data; name=\"response_format\"\r\n\r\n" + format + "\r\n--XX--\r\n"
	}
	const chatPath, heard, spoken, drawn, ranked = "/v1/chat/completions", "/v1/audio/transcriptions", "/v1/audio/speech", "/v1/images/generations", "/v1/rerank"
	speech := `{"model":"m","voice":"v","input":"hello"}`
	for _, test := range []struct {
		name       string
		price      *prices.Price
		path, body string
		metered    bool
	}{
		{"chat without a price", nil, chatPath, chat("m", false), false},
		{"chat by the token", new(perToken(1e-6)), chatPath, chat("m", false), true},
		{"chat by the image", &prices.Price{Units: prices.Units{Image: 1e-3}}, chatPath, chat("m", false), false},
		{"chat by the request", &prices.Price{Units: prices.Units{Request: 1e-3}}, chatPath, chat("m", false), true},
		{"free chat", &prices.Price{}, chatPath, chat("m", false), true},
		{"a transcription by the second", &prices.Price{Units: prices.Units{AudioSecond: 1e-4}}, heard, form("json"), true},
		{"a transcription as text", &prices.Price{Units: prices.Units{AudioSecond: 1e-4}}, heard, form("text"), false},
		{"subtitles", &prices.Price{Units: prices.Units{AudioSecond: 1e-4}}, heard, form(" SRT "), false},
		{"free subtitles", &prices.Price{}, heard, form("vtt"), true},
		{"a transcription without a price", nil, heard, form("json"), false},
		{"speech by the character", &prices.Price{Units: prices.Units{Character: 1e-5}}, spoken, speech, true},
		{"speech by the token", new(perToken(1e-6)), spoken, speech, false},
		{"speech by the token, in events", new(perToken(1e-6)), spoken, strings.Replace(speech, "{", `{"stream_format":"sse",`, 1), true},
		{"images by the image", &prices.Price{Units: prices.Units{Image: 1e-2}}, drawn, `{"model":"m","prompt":"a cat"}`, true},
		{"images by the second", &prices.Price{Units: prices.Units{AudioSecond: 1e-2}}, drawn, `{"model":"m","prompt":"a cat"}`, false},
		{"a ranking by the search", &prices.Price{Units: prices.Units{Search: 1e-2}}, ranked, `{"model":"m","query":"q","documents":["d"]}`, true},
	} {
		for _, allowed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, allowed %v", test.name, allowed), func(t *testing.T) {
				t.Parallel()
				s := &setup{t: t}
				s.up("u", upstream.OpenAI, nil, server.URL)
				if test.price != nil {
					book, err := prices.New([]prices.Line{{For: "u/*", Price: *test.price}})
					if err != nil {
						t.Fatal(err)
					}
					s.config.Prices = book
				}
				s.config.AllowUnmetered = allowed
				s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Budget: []string{"$1/day"}}}, &keys.Entry{Name: "bob"})
				s.serve("m u/real")
				contentType := "application/json"
				if test.path == heard {
					contentType = "multipart/form-data; boundary=XX"
				}
				got := s.post(test.path, test.body, "Content-Type", contentType, "api-key", "secret-alice")
				if ok := got.status == http.StatusOK; ok != (test.metered || allowed) || !ok && !strings.Contains(got.body, `"code":"cost_not_metered"`) {
					t.Errorf("status %d: %s", got.status, got.body)
				}
				if got := s.post(test.path, test.body, "Content-Type", contentType, "api-key", "secret-bob"); got.status != http.StatusOK {
					t.Errorf("without a budget: status %d: %s", got.status, got.body)
				}
			})
		}
	}
}
