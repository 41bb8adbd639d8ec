package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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
				{For: "api/dear", Price: prices.Price{Schedule: prices.Schedule{Rate: prices.Rate{Output: 0.5}}}},
				{For: "twice", Price: prices.Price{Schedule: prices.Schedule{Rate: prices.Rate{Output: 1}}}},
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

// TestUnitsAreMetered checks that answers that are not billed by the token have a cost.
func TestUnitsAreMetered(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	const boundary = "multipart/form-data; boundary=XX"
	form := func(size int) string {
		return "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n" + strings.Repeat("x", size) + "\r\n--XX--\r\n"
	}
	for _, test := range []struct {
		name, path, contentType, body string
		answerType, answer            string
		cost                          float64
		estimated                     bool
	}{
		{"audio by its duration", "/v1/audio/transcriptions", boundary, form(10), jsonType, `{"text":"hi","usage":{"type":"duration","seconds":3600}}`, 3600, false},
		{"audio by verbose_json", "/v1/audio/translations", boundary, form(10), jsonType, `{"text":"hi","duration":12.5}`, 12.5, false},
		{"audio by its size", "/v1/audio/transcriptions", boundary, form(40_000), jsonType, `{"text":"hi"}`, 20.069, true},
		{"speech", "/v1/audio/speech", jsonType, `{"model":"m","voice":"v","input":"h\u00e9llo"}`, "audio/mpeg", "mp3", 10, false},
		{"images", "/v1/images/generations", jsonType, `{"model":"m","prompt":"a cat","n":2}`, jsonType, `{"data":[{"url":"a"},{"url":"b"}]}`, 6, false},
		{"a ranking", "/v1/rerank", jsonType, `{"model":"m","query":"q","documents":["d"]}`, jsonType, `{"results":[],"usage":{"total_tokens":5}}`, 4, false},
		{"a ranking with two units", "/v1/rerank", jsonType, `{"model":"m","query":"q","documents":["d"]}`, jsonType, `{"results":[],"meta":{"billed_units":{"search_units":2}}}`, 8, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.answerType)
				io.WriteString(w, test.answer) //nolint:errcheck // the client would notice
			}))
			t.Cleanup(server.Close)
			s := &setup{t: t}
			s.up("u", upstream.OpenAI, nil, server.URL)
			book, err := prices.New([]prices.Line{{For: "u/*", Price: prices.Price{Units: prices.Units{AudioSecond: 1, Character: 2, Image: 3, Search: 4}}}})
			if err != nil {
				t.Fatal(err)
			}
			s.config.Prices = book
			s.serve("m u/real")
			if got := s.post(test.path, test.body, "Content-Type", test.contentType); got.status != http.StatusOK {
				t.Fatal(got)
			}
			if rec := s.record(); !rec.HasCost || rec.Cost != test.cost || rec.Estimated != test.estimated {
				t.Errorf("cost %v (known: %v), estimated: %v, usage %+v", rec.Cost, rec.HasCost, rec.Estimated, rec.Usage)
			}
		})
	}
}
