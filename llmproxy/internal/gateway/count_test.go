package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

const countPath = "/v1/messages/count_tokens"

var countRequest = `{"model":"m","system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2"}],"messages":[{"role":"user","content":"` + strings.Repeat("word ", 100) + `"}]}`

// counted returns the number of tokens in an answer, and whether it is marked as an estimate.
func counted(t *testing.T, got reply) (tokens int, estimated bool) {
	t.Helper()
	var count struct {
		Tokens int `json:"input_tokens"`
	}
	if err := json.Unmarshal([]byte(got.body), &count); err != nil || got.status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", got.status, err, got.body)
	}
	return count.Tokens, got.header.Get("X-Llm-Estimated") == "true"
}

// The tokens of a prompt are counted by the server that would get it, in the best way that it has, or else estimated.
func TestCountTokens(t *testing.T) {
	t.Parallel()
	without := map[string]fakellm.Answer{countPath: fakellm.Status(404)}
	for _, test := range []struct {
		name, fake string
		kind       *upstream.Kind
		answers    map[string]fakellm.Answer
		tokens     int // 0 for an estimate
		asked      []string
	}{
		{"Anthropic", "anthropic", upstream.Anthropic, nil, 14, []string{countPath}},
		{"vLLM", "vllm", upstream.VLLM, nil, 14, []string{countPath}},
		{"vLLM before 0.19", "vllm", upstream.VLLM, without, 2, []string{countPath, "/tokenize"}},
		{"llama.cpp", "llamacpp", upstream.LlamaCpp, nil, 14, []string{countPath}},
		{"an old llama.cpp", "llamacpp", upstream.LlamaCpp, without, 2, []string{countPath, "/apply-template", "/tokenize"}},
		{"Ollama", "ollama", upstream.Ollama, nil, 0, nil},
		{"OpenAI", "openai", upstream.OpenAI, nil, 0, nil},
		{"no way is left", "vllm", upstream.VLLM, map[string]fakellm.Answer{countPath: fakellm.Status(404), "/tokenize": fakellm.Status(500)}, 0, []string{countPath, "/tokenize"}},
		{"an answer without a number", "vllm", upstream.VLLM, map[string]fakellm.Answer{countPath: fakellm.Garbage()}, 2, []string{countPath, "/tokenize"}},
		{"an answer of Anthropic's without a number", "anthropic", upstream.Anthropic, map[string]fakellm.Answer{countPath: fakellm.Garbage()}, 0, []string{countPath}},
		{"Anthropic is overloaded", "anthropic", upstream.Anthropic, map[string]fakellm.Answer{countPath: fakellm.Busy()}, 0, []string{countPath}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fake := fakellm.Start(t, test.fake)
			for path, answer := range test.answers {
				fake.OnPath(path, answer)
			}
			s := &setup{t: t}
			s.up("u", test.kind, func(c *upstream.Config) { c.APIKey = "sk-up" }, fake.URL())
			s.serve("m u/x")
			tokens, estimated := counted(t, s.post(countPath+"?beta=true", countRequest))
			if test.tokens != 0 && (tokens != test.tokens || estimated) || test.tokens == 0 && (tokens < 100 || tokens > 150 || !estimated) {
				t.Errorf("%d tokens, estimated %v", tokens, estimated)
			}
			var asked []string
			for _, r := range append(fake.Requests(), fake.Probes()...) { // /tokenize counts as a probe, and is the last
				switch r.Path {
				case countPath, "/apply-template", "/tokenize", "/v1/messages", chatPath:
					asked = append(asked, r.Path)
					if !strings.Contains(string(r.Body), `"model":"x"`) || r.Header.Get("X-Api-Key")+r.Header.Get("Authorization") == "" {
						t.Errorf("%s got %v, %s", r.Path, r.Header, r.Body)
					}
				}
			}
			if strings.Join(asked, " ") != strings.Join(test.asked, " ") {
				t.Errorf("asked %q, want %q", asked, test.asked)
			}
			if rec := s.record(); rec.Endpoint != "count_tokens" || (rec.Target == "u/x") != (test.tokens != 0) || rec.Cost != 0 || rec.HasUsage {
				t.Errorf("endpoint %q, target %q, cost %v, usage %v", rec.Endpoint, rec.Target, rec.Cost, rec.HasUsage)
			}
		})
	}
}

// Anthropic's API gets a request to count as the client sent it, and its answers come back with their headers, errors included.
func TestCountTokensPass(t *testing.T) {
	t.Parallel()
	s, claude, _ := messagesSetup(t, "m claude/claude-sonnet-4-5")
	got := s.post(countPath, countRequest, "Anthropic-Beta", "a,b", "X-Api-Key", "the client's")
	sent := claude.Requests()[0]
	if want := strings.Replace(countRequest, `"m"`, `"claude-sonnet-4-5"`, 1); string(sent.Body) != want || sent.Header.Get("Anthropic-Beta") != "a,b" || sent.Header.Get("X-Api-Key") != "sk-ant" {
		t.Errorf("sent %s, %v", sent.Body, sent.Header)
	}
	if got.body != `{"input_tokens":14}` || !strings.HasPrefix(got.header.Get("Request-Id"), "req_011") || got.header.Get("X-Llm-Target") != "claude/claude-sonnet-4-5" {
		t.Errorf("got %s, %v", got.body, got.header)
	}
	claude.OnPath(countPath, fakellm.TooLong())
	got = s.post(countPath, countRequest)
	if want := `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"},"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}`; got.status != 400 || got.body != want {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// Counting goes where a request to generate would go, and nowhere else: not to a fallback that a server which cannot count has, and not
// away from what must stay.
func TestCountTokensIsRouted(t *testing.T) {
	t.Parallel()
	ollama, claude := fakellm.Start(t, "ollama"), fakellm.Start(t, "anthropic")
	s := &setup{t: t}
	s.up("gpu", upstream.Ollama, nil, ollama.URL())
	s.up("claude", upstream.Anthropic, nil, claude.URL())
	s.guarded(&keys.Entry{Name: "alice", Models: []string{"local", "claude"}, LocalOnly: true}, &keys.Entry{Name: "bob", Models: []string{"local"}})
	s.serve("local gpu/x|claude/y", "claude claude/y", "mixed claude/y|gpu/x")
	for _, test := range []struct {
		name, key, model string
		status           int
		want             string
	}{
		{"a fallback is not asked", "secret-bob", "local", 200, `{"input_tokens":`},
		{"the model is not allowed", "secret-bob", "claude", 403, `"type":"permission_error"`},
		{"it must stay", "secret-alice", "claude", 403, "must stay on local upstreams"},
		{"no key", "", "local", 401, `"type":"authentication_error"`},
	} {
		got := s.post(countPath, strings.Replace(countRequest, `"m"`, `"`+test.model+`"`, 1), "X-Api-Key", test.key)
		if got.status != test.status || !strings.Contains(got.body, test.want) || got.status != 200 && !strings.HasPrefix(got.body, `{"type":"error"`) {
			t.Errorf("%s: status %d: %s", test.name, got.status, got.body)
		}
	}
	if n := len(claude.Requests()); n != 0 {
		t.Errorf("%d requests left", n)
	}
}

func TestCountTokensOfUnknownModel(t *testing.T) {
	t.Parallel()
	s, _, _ := messagesSetup(t, "gpt gpt/x")
	for body, status := range map[string]int{
		countRequest: 404, `{"model":"gpt","messages":[]}`: 400, `{"model":"gpt","messages":[{"role":"owl","content":""}]}`: 400,
	} {
		if got := s.post(countPath, body); got.status != status || !strings.HasPrefix(got.body, `{"type":"error"`) || got.header.Get("Request-Id") == "" {
			t.Errorf("status %d: %s", got.status, got.body)
		}
	}
}

// slotTaken serves the model m from a llama.cpp whose only slot is taken until release is called.
func slotTaken(t *testing.T) (s *setup, release func()) {
	t.Helper()
	fake := fakellm.Start(t, "llamacpp")
	held := make(chan struct{})
	fake.Always(fakellm.Text("one").Hold(held))
	s = &setup{t: t}
	s.up("u", upstream.LlamaCpp, func(c *upstream.Config) { c.MaxConcurrent = 1 }, fake.URL())
	s.serve("m u/x")
	s.start(chat("m", true))
	fake.Wait(t, 1)
	return s, func() { close(held) }
}

// Counting needs no slot: it is answered while all are taken.
func TestCountTokensTakesNoSlot(t *testing.T) {
	t.Parallel()
	s, release := slotTaken(t)
	defer release()
	if tokens, estimated := counted(t, s.post(countPath, countRequest)); tokens != 14 || estimated {
		t.Errorf("%d tokens, estimated %v", tokens, estimated)
	}
	if r := s.upstreams[0].Replicas[0]; r.InFlight() != 1 || r.Waiting() != 0 {
		t.Errorf("%d slots are taken, %d requests wait", r.InFlight(), r.Waiting())
	}
}

// A server that does not answer in two seconds is not waited for, and keeps its good name.
func TestCountTokensDoesNotHang(t *testing.T) {
	for _, kind := range []struct {
		fake string
		kind *upstream.Kind
	}{{"anthropic", upstream.Anthropic}, {"vllm", upstream.VLLM}, {"llamacpp", upstream.LlamaCpp}} {
		t.Run(kind.fake, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &setup{t: t, bubble: new(bubble)}
				fake, address := s.bubble.fake(t, kind.fake, fakellm.Models("x"))
				fake.OnPath(countPath, fakellm.Text("late").Delay(time.Hour))
				s.up("u", kind.kind, nil, address)
				s.serve("m u/x")
				began := time.Now()
				for range 5 {
					if tokens, estimated := counted(t, s.post(countPath, countRequest)); tokens < 100 || !estimated {
						t.Errorf("%d tokens, estimated %v", tokens, estimated)
					}
				}
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("it took %s", took)
				}
				if got := s.post("/v1/messages", messages("m", false)); got.status != 200 {
					t.Errorf("status %d: %s", got.status, got.body)
				}
			})
		})
	}
}

// Requests to count are requests for the rate limit of a key, but take no tokens and no money.
func TestCountTokensIsLimited(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "anthropic")
	s := &setup{t: t}
	s.up("u", upstream.Anthropic, nil, fake.URL())
	s.guarded(&keys.Entry{Name: "alice", Limits: keys.Limits{Rate: []string{"2/d"}, Tokens: []string{"10/d"}, Budget: []string{"$0.000001/d"}}})
	s.serve("m u/x")
	for i, status := range []int{200, 200, 429} {
		if got := s.post(countPath, countRequest, "X-Api-Key", "secret-alice"); got.status != status {
			t.Errorf("%d: status %d: %s", i, got.status, got.body)
		}
	}
	if n := len(fake.Requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}
