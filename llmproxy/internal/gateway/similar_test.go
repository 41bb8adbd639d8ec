package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// semantic starts a gateway that compares questions with the vectors of what is at the address.
func semantic(t *testing.T, address string, change func(*setup, *Semantic)) (*setup, *fakellm.Server) {
	t.Helper()
	fake := fakellm.Start(t, "openai")
	s := &setup{t: t}
	s.config.Cache = rules(t, nil)
	s.up("a", upstream.OpenAI, nil, fake.URL())
	s.up("e", upstream.LlamaCpp, nil, address)
	rules, err := NewSemantic(s.upstreams[1], "embed")
	if err != nil {
		t.Fatal(err)
	}
	rules.Timeout, rules.Threshold, rules.MaxEntries = 10*time.Second, 0.95, 100
	if change != nil {
		change(s, rules)
	}
	s.config.Cache.Semantic = rules
	return s.serve("m a/x", "m2 a/x", "tries a/x"), fake
}

// asks is a chat with one question.
func asks(text string) string {
	quoted, _ := json.Marshal(text) // a string
	return `{"model":"m","seed":1,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":` + string(quoted) + `}]}`
}

const (
	firstAsked = "What is the plan?"
	thenAsked  = "what's the plan please"
)

func TestASimilarQuestion(t *testing.T) {
	t.Parallel()
	e := startEmbedder(t)
	e.similar[thenAsked] = 0.973
	s, fake := semantic(t, e.URL, nil)
	first := s.settled(chatPath, asks(firstAsked))
	if len(e.asked()) != 0 {
		t.Errorf("the first question of its frame was embedded: there is nothing to compare it with")
	}
	second := s.settled(chatPath, asks(thenAsked), "Authorization", "Bearer x", "Idempotency-Key", "k", "OpenAI-Organization", "o")
	if first.cache() != "miss" || second.status != 200 || second.cache() != "semantic" || second.body != first.body {
		t.Fatalf("%q, then %d %q %s", first.cache(), second.status, second.cache(), second.body)
	}
	for name, want := range map[string]string{"X-Llm-Cache-Similarity": "0.973", "Age": "0", "X-Llm-Target": "a/x", "X-Llm-Attempts": "0"} {
		if got := second.header.Get(name); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
	if again := s.settled(chatPath, asks(thenAsked)); again.cache() != "semantic" || again.header.Get("X-Llm-Cache-Similarity") != "0.973" {
		t.Errorf("%q %v", again.cache(), again.header)
	}
	third := s.settled(chatPath, strings.Replace(asks(thenAsked+"!"), `"seed"`, `"stream":true,"seed"`, 1))
	if third.cache() != "semantic" || !strings.Contains(third.body, "data: [DONE]") {
		t.Errorf("%q %s", third.cache(), third.body)
	}
	exact := s.settled(chatPath, asks(firstAsked))
	if exact.cache() != "hit" || exact.header.Get("X-Llm-Cache-Similarity") != "" {
		t.Errorf("%q %v", exact.cache(), exact.header)
	}
	if got := fmt.Sprint(e.asked()); got != fmt.Sprint([][]string{{thenAsked, firstAsked}, {thenAsked + "!"}}) {
		t.Errorf("embedded: %v", got)
	}
	for _, name := range []string{"Authorization", "Idempotency-Key", "Openai-Organization"} {
		if e.headers[0].Get(name) != "" {
			t.Errorf("%s of the client went to the embedder", name)
		}
	}
	if n := len(fake.Requests()); n != 1 {
		t.Errorf("%d requests reached the upstream", n)
	}
	if counts := &s.config.Cache.Shared.Counts; counts.Similar.Load() != 3 || counts.Hits.Load() != 1 || counts.Misses.Load() != 1 {
		t.Errorf("%d similar, %d hits, %d misses", counts.Similar.Load(), counts.Hits.Load(), counts.Misses.Load())
	}
	s.record()
	rec := s.records[1]
	if rec.Cache != "semantic" || math.Abs(rec.Similarity-0.973) > 1e-6 || rec.Embedding != "ok" || rec.Embedded <= 0 || rec.HasUsage || len(rec.Attempts) != 0 || rec.Spared.Input == 0 || rec.Cost != 0 {
		t.Errorf("record: %+v", rec)
	}
}

// Vectors of different embedders cannot be compared, not even after a reload.
func TestAnotherEmbedder(t *testing.T) {
	t.Parallel()
	e := startEmbedder(t)
	s, _ := semantic(t, e.URL, nil)
	s.settled(chatPath, asks(firstAsked))
	if got := s.settled(chatPath, asks(thenAsked)); got.cache() != "semantic" {
		t.Errorf("%q", got.cache())
	}
	s.gateway.Cache.Semantic.Model = "embed-other"
	if got := s.settled(chatPath, asks(thenAsked+"!")); got.cache() != "miss" {
		t.Errorf("%q", got.cache())
	}
}

// A question that once got its answer this way is known; a threshold that was raised since counts all the same.
func TestARaisedThreshold(t *testing.T) {
	t.Parallel()
	e := startEmbedder(t)
	e.similar[thenAsked] = 0.973
	s, _ := semantic(t, e.URL, nil)
	s.settled(chatPath, asks(firstAsked))
	if got := s.settled(chatPath, asks(thenAsked)); got.cache() != "semantic" {
		t.Errorf("%q", got.cache())
	}
	s.gateway.Cache.Semantic.Threshold = 0.98
	if got := s.settled(chatPath, asks(thenAsked)); got.cache() != "miss" {
		t.Errorf("%q", got.cache())
	}
}

// Only the wording may differ, only so far, and nothing on which an answer hangs.
func TestWhatIsNotSimilar(t *testing.T) {
	t.Parallel()
	other := func(old, replaced string) string { return strings.Replace(asks(thenAsked), old, replaced, 1) }
	for _, test := range []struct {
		name, second string
		similarity   float64
		header       []string
		want         string // of the second
	}{
		{"at the threshold", asks(thenAsked), 0.95, nil, "semantic"},
		{"below it", asks(thenAsked), 0.9499, nil, "miss"},
		{"a number", asks("What is the plan 2?"), 1, nil, "miss"},
		{"a negation", asks("What is not the plan?"), 1, nil, "miss"},
		{"as a part", other(`"what's the plan please"`, `[{"type":"text","text":"what's the plan please"}]`), 1, nil, "miss"},
		{"with an image", other(`"what's the plan please"`, `[{"type":"text","text":"what's the plan please"},{"type":"image_url","image_url":{"url":"data:,"}}]`), 1, nil, "miss"},
		{"too long", asks(thenAsked + strings.Repeat(" please", 200)), 1, nil, "miss"},
		{"nothing but space", asks("  "), 1, nil, "miss"},
		{"another system prompt", other("Be brief.", "Be brief"), 1, nil, "miss"},
		{"another turn before", other(`{"role":"user"`, `{"role":"user","content":"Hi"},{"role":"assistant","content":"Hi"},{"role":"user"`), 1, nil, "miss"},
		{"another turn behind", other(`please"}]`, `please"},{"role":"assistant","content":"The"}]`), 1, nil, "miss"},
		{"a parameter", other(`"seed":1`, `"seed":2`), 1, nil, "miss"},
		{"a parameter more", other(`"seed":1`, `"seed":1,"top_k":1`), 1, nil, "miss"},
		{"a tool", other(`"seed":1`, `"seed":1,"tools":[{"type":"function","function":{"name":"f"}}]`), 1, nil, "miss"},
		{"a hosted tool", other(`"seed":1`, `"seed":1,"tools":[{"type":"web_search"}]`), 1, nil, "bypass"},
		{"another model", other(`"m"`, `"m2"`), 1, nil, "miss"},
		{"what changes nothing", other(`"seed":1`, `"seed":1.0,"user":"u","metadata":{"a":"b"}`), 1, nil, "semantic"},
		{"a beta", asks(thenAsked), 1, []string{"OpenAI-Beta", "x"}, "miss"},
		{"no-cache", asks(thenAsked), 1, []string{"Cache-Control", "no-cache"}, "miss"},
		{"no-store", asks(thenAsked), 1, []string{"Cache-Control", "no-store"}, "bypass"},
		{"max-age=0", asks(thenAsked), 1, []string{"Cache-Control", "max-age=0"}, "miss"},
		{"max-age", asks(thenAsked), 1, []string{"Cache-Control", "max-age=60"}, "semantic"},
		{"only-if-cached", asks(thenAsked), 1, []string{"Cache-Control", "only-if-cached"}, "semantic"},
		{"only-if-cached, and it is not", asks("Who has the plan?"), 1, []string{"Cache-Control", "only-if-cached"}, "miss"},
		{"another site", asks(thenAsked), 1, []string{"Test-Host", "other.example"}, "miss"},
		{"another key", asks(thenAsked), 1, []string{"Authorization", "Bearer secret-bob"}, "miss"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := startEmbedder(t)
			e.similar[thenAsked] = test.similarity
			s, _ := semantic(t, e.URL, func(s *setup, _ *Semantic) {
				s.guarded(&keys.Entry{Name: "alice"}, &keys.Entry{Name: "bob"})
			})
			serve := s.server.Config.Handler
			s.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if host := r.Header.Get("Test-Host"); host != "" {
					r.Host = host
				}
				serve.ServeHTTP(w, r)
			})
			alice := []string{"Authorization", "Bearer secret-alice"}
			if first := s.settled(chatPath, asks(firstAsked), alice...); first.status != 200 {
				t.Fatalf("%d %s", first.status, first.body)
			}
			got := s.settled(chatPath, test.second, append(alice, test.header...)...)
			status := 200
			if strings.HasSuffix(test.name, "and it is not") {
				status = 504
			}
			if got.cache() != test.want || got.status != status {
				t.Errorf("%d %q: %s", got.status, got.cache(), got.body)
			}
			s.record()
			if rec := s.records[1]; test.name == "below it" && (math.Abs(rec.Similarity-test.similarity) > 1e-6 || got.header.Get("X-Llm-Cache-Similarity") != "") {
				t.Errorf("the record says %v, the header %q", rec.Similarity, got.header.Get("X-Llm-Cache-Similarity"))
			}
		})
	}
}

// No byte of a question that must stay goes to an embedder that is elsewhere.
func TestAQuestionThatMustStay(t *testing.T) {
	t.Parallel()
	for _, local := range []bool{true, false} {
		e := startEmbedder(t)
		s, fake := semantic(t, e.URL, func(s *setup, rules *Semantic) {
			yes := true
			s.upstreams[0].Local, rules.Embedder.Local = &yes, &local
			s.config.LocalOnly = func(r *http.Request, _ *Record) bool { return r.Header.Get("X-Privacy") == "local" }
		})
		s.settled(chatPath, asks(firstAsked), "X-Privacy", "local")
		got := s.settled(chatPath, asks(thenAsked), "X-Privacy", "local")
		if local && got.cache() != "semantic" || !local && (got.cache() != "miss" || len(e.asked()) != 0 || len(fake.Requests()) != 2) {
			t.Errorf("local %v: %q, %d embeddings", local, got.cache(), len(e.asked()))
		}
	}
}

// An answer that is not kept any more is none, and a question whose answer was not kept is not remembered.
func TestOnlyWhatIsKept(t *testing.T) {
	t.Parallel()
	e := startEmbedder(t)
	s, fake := semantic(t, e.URL, nil)
	fake.Next(fakellm.Text("cut").Finish("length"))
	s.settled(chatPath, asks("What is this?"))
	index := &s.config.Cache.Shared.Index
	if n, _ := index.Usage(); n != 0 {
		t.Errorf("%d questions are remembered", n)
	}
	s.settled(chatPath, asks(firstAsked))
	if n, _ := index.Usage(); n != 1 {
		t.Errorf("%d questions are remembered", n)
	}
	if _, err := s.config.Cache.Store.Purge(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if got := s.settled(chatPath, asks(thenAsked)); got.cache() != "miss" {
		t.Errorf("%q", got.cache())
	}
	for i := range 150 {
		s.settled(chatPath, asks(fmt.Sprint("What is ", i, "?")))
	}
	if n, _ := index.Usage(); n != 100 {
		t.Errorf("%d questions are remembered", n)
	}
}
