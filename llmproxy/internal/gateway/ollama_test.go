package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// kindsOfServers are the kinds of upstream that have addresses.
var kindsOfServers = []*upstream.Kind{upstream.Ollama, upstream.VLLM, upstream.LlamaCpp, upstream.OpenAI, upstream.Anthropic}

// An ollamaLine is a line of an answer of /api/chat or /api/generate. Zed refuses one that lacks created_at or done, or has an unknown role.
type ollamaLine struct {
	Model     *string    `json:"model"`
	CreatedAt *time.Time `json:"created_at"`
	Message   *struct {
		Role      string `json:"role"`
		Content   string `json:"content"`
		ToolCalls []struct {
			Function struct {
				Name      string         `json:"name"`
				Arguments map[string]any `json:"arguments"`
			} `json:"function"`
		} `json:"tool_calls"`
	} `json:"message"`
	Response   *string `json:"response"`
	Done       *bool   `json:"done"`
	Reason     string  `json:"done_reason"`
	Total      int64   `json:"total_duration"`
	Prompt     int64   `json:"prompt_eval_count"`
	PromptTime int64   `json:"prompt_eval_duration"`
	Eval       int64   `json:"eval_count"`
	EvalTime   int64   `json:"eval_duration"`
	Error      string  `json:"error"`
}

// servedAs returns the name by which an answer calls the model m, which is x at the upstream. What Ollama itself sends passes unchanged.
func servedAs(kind *upstream.Kind) string {
	if kind == upstream.Ollama {
		return "x"
	}
	return "m"
}

// readLines decodes an answer as strictly as Ollama's clients do, and returns its text and its last line.
func readLines(t *testing.T, body string, generate bool) (text string, last ollamaLine) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(body, "\n"), "\n")
	for i, line := range lines {
		last = ollamaLine{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("line %d: %v: %q", i, err, line)
		}
		if last.Error != "" {
			continue
		}
		if last.Model == nil || last.CreatedAt == nil || last.CreatedAt.IsZero() || last.Done == nil || *last.Done != (i == len(lines)-1) {
			t.Errorf("line %d: %s", i, line)
		}
		switch {
		case generate && last.Response != nil && last.Message == nil:
			text += *last.Response
		case !generate && last.Message != nil && last.Response == nil && last.Message.Role == "assistant":
			text += last.Message.Content
		default:
			t.Errorf("line %d: %s", i, line)
		}
	}
	return text, last
}

// A client of Ollama's API gets its answers from each kind of upstream.
func TestOllamaClients(t *testing.T) {
	t.Parallel()
	for _, kind := range kindsOfServers {
		for path, input := range map[string]string{
			"/api/chat":     `"messages":[{"role":"user","content":"Hi"}]`,
			"/api/generate": `"prompt":"Hi"`,
		} {
			for _, stream := range []string{"", `,"stream":true`, `,"stream":false`} {
				t.Run(kind.Name+path+stream, func(t *testing.T) {
					t.Parallel()
					fake := fakellm.Start(t, kind.Name, fakellm.Models("x"))
					fake.Always(fakellm.Text("Hel", "lo").Usage(30, 5, 20))
					s := &setup{t: t}
					s.up("u", kind, nil, fake.URL())
					s.serve("m u/x")
					got := s.post(path, `{"model":"m",`+input+stream+`}`)
					text, last := readLines(t, got.body, path == "/api/generate")
					if got.status != http.StatusOK || text != "Hello" || last.Reason != "stop" || *last.Model != servedAs(kind) {
						t.Errorf("status %d: %s", got.status, got.body)
					}
					if last.Prompt != 30 || last.Eval != 5 || last.Total <= 0 || last.PromptTime <= 0 || last.EvalTime <= 0 {
						t.Errorf("counts and durations: %s", got.body)
					}
					contentType := "application/x-ndjson"
					if strings.Contains(stream, "false") {
						contentType = "application/json"
					}
					if v, _, _ := strings.Cut(got.header.Get("Content-Type"), ";"); v != contentType || strings.HasSuffix(got.body, "\n") != (contentType == "application/x-ndjson") {
						t.Errorf("the content type is %q: %q", v, got.body)
					}
					rec := s.record()
					name := "ollama_" + strings.TrimPrefix(path, "/api/")
					if rec.Usage.Input != 30 || rec.Usage.Output != 5 || rec.Verdict != router.OK || rec.Endpoint != name || rec.Bytes != int64(len(got.body)) || rec.Target != "u/x" {
						t.Errorf("%s, %s, %d of %d bytes, %+v", rec.Endpoint, rec.Verdict, rec.Bytes, len(got.body), rec.Usage)
					}
				})
			}
		}
	}
}

func TestOllamaEmbeddings(t *testing.T) {
	t.Parallel()
	for _, kind := range []*upstream.Kind{upstream.Ollama, upstream.VLLM, upstream.LlamaCpp, upstream.OpenAI} {
		fake := fakellm.Start(t, kind.Name, fakellm.Models("x"))
		s := &setup{t: t}
		s.up("u", kind, nil, fake.URL())
		s.serve("m u/x")
		got := s.post("/api/embed", `{"model":"m","input":["a","b"]}`)
		var many struct {
			Model      string
			Embeddings [][]float64
			Total      int64 `json:"total_duration"`
		}
		if err := json.Unmarshal([]byte(got.body), &many); err != nil || got.status != http.StatusOK || many.Model != servedAs(kind) || len(many.Embeddings) != 2 || len(many.Embeddings[1]) == 0 || many.Total <= 0 {
			t.Errorf("%s: %v, status %d: %.300s", kind.Name, err, got.status, got.body)
		}
		got = s.post("/api/embeddings", `{"model":"m","prompt":"a"}`)
		var one struct{ Embedding []float64 }
		if err := json.Unmarshal([]byte(got.body), &one); err != nil || got.status != http.StatusOK || len(one.Embedding) == 0 {
			t.Errorf("%s: %v, status %d: %.300s", kind.Name, err, got.status, got.body)
		}
		if rec := s.record(); rec.Endpoint != "ollama_embeddings" {
			t.Errorf("the endpoint is %s", rec.Endpoint)
		}
	}
}

// Errors are one text with the status, or the last line of a stream.
func TestOllamaErrors(t *testing.T) {
	t.Parallel()
	const ask = `"messages":[{"role":"user","content":"Hi"}]`
	for _, test := range []struct {
		name, path, body string
		answer           fakellm.Answer
		status           int
		want             string // of the error
	}{
		{"an unknown model", "/api/chat", `{"model":"other",` + ask + `}`, fakellm.Text("a"), 404, `The model "other" is not served here`},
		{"no JSON", "/api/chat", `{"model":`, fakellm.Text("a"), 400, "The request body is not a JSON object"},
		{"a key twice", "/api/chat", `{"model":"m","Model":"n",` + ask + `}`, fakellm.Text("a"), 400, "spell"},
		{"an unknown role", "/api/chat", `{"model":"m","messages":[{"role":"owl","content":"Hi"}]}`, fakellm.Text("a"), 400, "messages.0.role"},
		{"a failure before the answer", "/api/chat", `{"model":"m",` + ask + `}`, fakellm.InternalError(), 502, `The upstream "u" failed`},
		{"a failure in a stream", "/api/chat", `{"model":"m",` + ask + `}`, fakellm.Text("a", "b").ErrorEventAfter(1), 200, "The server had an error"},
		{"a stream that is cut", "/api/generate", `{"model":"m","prompt":"Hi"}`, fakellm.Text("a", "b").CutAfter(1), 200, `The upstream "u" broke off`},
		{"a prompt that is too long", "/api/generate", `{"model":"m","prompt":"Hi","stream":false}`, fakellm.TooLong(), 400, "maximum context length"},
		{"a path that changes the server", "/api/pull", `{"model":"m"}`, fakellm.Text("a"), 404, "it would change the models of the server"},
		{"blobs", "/api/blobs/sha256:0", `x`, fakellm.Text("a"), 404, "it would change the models of the server"},
		{"a model that is not served, shown", "/api/show", `{"model":"other"}`, fakellm.Text("a"), 404, "other"},
		{"no model, shown", "/api/show", `{}`, fakellm.Text("a"), 400, "model: is missing"},
		{"a wrong method", "/api/tags", `{}`, fakellm.Text("a"), 405, "use GET, HEAD"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "openai", nil)
			s.serve("m u/x")
			fake.Always(test.answer)
			got := s.post(test.path, test.body)
			last := got.body[strings.LastIndexByte(strings.TrimSuffix(got.body, "\n"), '\n')+1:]
			var e map[string]string
			if err := json.Unmarshal([]byte(last), &e); err != nil || len(e) != 1 || got.status != test.status || !strings.Contains(e["error"], test.want) {
				t.Errorf("%v, status %d: %s", err, got.status, got.body)
			}
			if strings.Contains(got.body, `"done":true`) || strings.Contains(got.body, "\n\n") || strings.Contains(got.body, "data:") {
				t.Errorf("got %q", got.body)
			}
		})
	}
}

// If the first target fails before its first content, the next one answers.
func TestOllamaFailover(t *testing.T) {
	t.Parallel()
	first, second := fakellm.Start(t, "openai"), fakellm.Start(t, "llamacpp")
	first.Always(fakellm.Busy())
	second.Always(fakellm.Text("Hel", "lo"))
	s := &setup{t: t}
	s.up("a", upstream.OpenAI, nil, first.URL())
	s.up("b", upstream.LlamaCpp, nil, second.URL())
	s.serve("m a/x|b/x")
	got := s.post("/api/chat", `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`)
	if text, _ := readLines(t, got.body, false); text != "Hello" || got.header.Get("X-Llm-Target") != "b/x" {
		t.Errorf("%q from %s", text, got.header.Get("X-Llm-Target"))
	}
}

// Clients of all APIs share what is cached, if they asked the same.
func TestOllamaAnswersAreCached(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.config.Cache = rules(t, nil)
	s.serve("m u/x")
	fake.Next(fakellm.Text("one"), fakellm.Text("two"))
	for i, request := range []struct{ path, body, want string }{
		{"/api/chat", `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`, "miss"},
		{"/api/chat", `{"model":"m:latest","messages":[{"role":"user","content":"Hi"}],"stream":false}`, "hit"},
		{"/api/generate", `{"model":"m","prompt":"Hi"}`, "hit"},
		{chatPath, `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`, "hit"},
	} {
		got := s.settled(request.path, request.body)
		if got.cache() != request.want || !strings.Contains(got.body, "one") {
			t.Errorf("%d: %s: %s", i, got.cache(), got.body)
		}
	}
}

// A follower gets the error of its leader in the format of its own API.
func TestFollowersOfAnotherAPI(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.config.Cache = rules(t, nil)
	s.serve("m u/x")
	fake.Always(fakellm.Text("a", "b").Delay(300 * time.Millisecond).CutAfter(1))
	answers := make(chan reply, 3)
	for path, body := range map[string]string{
		"/api/chat":    `{"model":"m","messages":[{"role":"user","content":"Hi"}],"options":{"num_predict":10}}`,
		"/v1/messages": `{"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":10,"stream":true}`,
		chatPath:       `{"model":"m","messages":[{"role":"user","content":"Hi"}],"max_tokens":10,"stream":true}`,
	} {
		go func() { answers <- s.post(path, body) }()
	}
	var ends []string
	for range 3 {
		got := <-answers
		body := strings.TrimRight(got.body, "\n")
		ends = append(ends, body[strings.LastIndexByte(body, '\n')+1:])
	}
	slices.Sort(ends)
	for i, want := range []string{`data: {"error":{"message":"The upstream \"u\" broke off`, `data: {"type":"error","error":{"type":"api_error","message":"The upstream \"u\" broke off`, `{"error":"The upstream \"u\" broke off`} {
		if !strings.HasPrefix(ends[i], want) {
			t.Errorf("got %s, want %s", ends[i], want)
		}
	}
}

// A client says how long the model that it loads stays, if the configuration allows that.
func TestOllamaKeepsLoaded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		allowed []string
		want    string
	}{
		{nil, `{"model":"x","stream":false}`},
		{[]string{"keep_alive"}, `{"model":"x","stream":false}{"keep_alive":"30m","model":"x","stream":false}`},
	} {
		fake := fakellm.Start(t, "ollama", fakellm.Models("x"))
		s := &setup{t: t}
		s.up("u", upstream.Ollama, func(c *upstream.Config) { c.AllowOptions = test.allowed }, fake.URL())
		s.serve("m u/x")
		if got := s.post("/api/generate", `{"model":"m","keep_alive":"30m"}`); got.status != http.StatusOK {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
		var sent string
		for _, r := range fake.Probes() {
			if r.Path == "/api/generate" {
				sent += string(r.Body)
			}
		}
		if sent != test.want {
			t.Errorf("allowed %v: sent %s, want %s", test.allowed, sent, test.want)
		}
	}
}

// A request without input loads the model, where the server loads on demand, and keep_alive 0 unloads it.
func TestOllamaLoads(t *testing.T) {
	t.Parallel()
	ollama, gpt := fakellm.Start(t, "ollama", fakellm.Models("x")), fakellm.Start(t, "openai")
	s := &setup{t: t}
	s.up("gpu", upstream.Ollama, nil, ollama.URL())
	s.up("gpt", upstream.OpenAI, nil, gpt.URL())
	s.serve("local gpu/x", "gpt gpt/x")
	for _, test := range []struct {
		path, body, reason string
		sent               string // to Ollama
	}{
		{"/api/generate", `{"model":"local"}`, "load", `{"model":"x","stream":false}`},
		{"/api/chat", `{"model":"local:latest","messages":[]}`, "load", `{"model":"x","stream":false}`}, // it is loaded already, and stays
		{"/api/chat", `{"model":"local","messages":[],"keep_alive":0}`, "unload", `{"model":"x","keep_alive":0,"stream":false}`},
		{"/api/generate", `{"model":"local","prompt":""}`, "load", `{"model":"x","stream":false}`},
		{"/api/chat", `{"model":"gpt"}`, "load", ""},
		{"/api/generate", `{"model":"gpt","keep_alive":"0s"}`, "unload", ""},
	} {
		before := len(ollama.Probes())
		got := s.post(test.path, test.body)
		_, last := readLines(t, got.body, test.path == "/api/generate")
		if got.status != http.StatusOK || last.Reason != test.reason || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: status %d: %s", test.path, test.body, got.status, got.body)
		}
		var sent string
		for _, r := range ollama.Probes()[before:] {
			if r.Path == "/api/generate" {
				sent += string(r.Body)
			}
		}
		if sent != test.sent {
			t.Errorf("%s %s: sent %s, want %s", test.path, test.body, sent, test.sent)
		}
	}
	if got := s.post("/api/generate", `{"model":"other"}`); got.status != http.StatusNotFound {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if n := len(ollama.Requests()) + len(gpt.Requests()); n != 0 {
		t.Errorf("%d requests generated", n)
	}
}

// The decoders of VS Code, Zed and Home Assistant: each refuses the whole list if one of these members is missing.
func checkStrictClients(t *testing.T, s *setup, secret string, want ...string) {
	t.Helper()
	var version struct{ Version *string }
	decode(t, s.get("/api/version", secret), &version)
	if version.Version == nil || *version.Version < "0.12" {
		t.Errorf("version %v", version)
	}
	var tags struct {
		Models *[]struct {
			Name       *string    `json:"name"`
			Model      *string    `json:"model"`
			ModifiedAt *time.Time `json:"modified_at"`
			Size       *int64     `json:"size"`
			Digest     *string    `json:"digest"`
			Details    *struct {
				Parent       *string   `json:"parent_model"`
				Format       *string   `json:"format"`
				Family       *string   `json:"family"`
				Families     *[]string `json:"families"`
				Parameters   *string   `json:"parameter_size"`
				Quantization *string   `json:"quantization_level"`
			} `json:"details"`
		} `json:"models"`
	}
	decode(t, s.get("/api/tags", secret), &tags)
	names := []string{}
	for _, m := range *tags.Models {
		d := m.Details
		if m.Name == nil || m.Model == nil || m.ModifiedAt == nil || m.Size == nil || m.Digest == nil || len(*m.Digest) != 64 || d == nil ||
			d.Parent == nil || d.Format == nil || d.Family == nil || d.Families == nil || d.Parameters == nil || d.Quantization == nil {
			t.Fatalf("an entry lacks a member: %s", s.get("/api/tags", secret).body)
		}
		names = append(names, *m.Name)
		req, err := http.NewRequest(http.MethodPost, s.server.URL+"/api/show", strings.NewReader(`{"model":"`+*m.Model+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", secret)
		var show struct {
			Info         map[string]any `json:"model_info"`
			Capabilities []string       `json:"capabilities"`
			Details      map[string]any `json:"details"`
		}
		got := s.do(req)
		decode(t, got, &show)
		family, _ := show.Info["general.architecture"].(string)
		window, _ := show.Info[family+".context_length"].(float64)
		count, hasCount := show.Info["general.parameter_count"].(float64)
		if _, ok := show.Info[family+".embedding_length"].(float64); !ok || !hasCount || (count > 0) != (*m.Details.Parameters != "") { // the command panics
			t.Errorf("show: %s", got.body)
		}
		if family == "" || window <= 0 || show.Info["general.basename"] != *m.Model || len(show.Capabilities) == 0 || show.Details["family"] == nil {
			t.Errorf("show: %s", got.body)
		}
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	var ps struct{ Models *[]map[string]any }
	decode(t, s.get("/api/ps", secret), &ps)
	for _, m := range *ps.Models {
		if !slices.Contains(want, m["name"].(string)) || m["model"] != m["name"] || m["expires_at"] == nil || m["size_vram"] == nil || m["digest"] == nil {
			t.Errorf("ps: %v", m)
		}
	}
}

func decode(t *testing.T, got reply, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(got.body), into); err != nil || got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%v, status %d: %s", err, got.status, got.body)
	}
}

// Strict clients accept the lists with each kind of upstream, configured and discovered.
func TestOllamaLists(t *testing.T) {
	t.Parallel()
	for _, kind := range kindsOfServers {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			names := []string{"x:latest", "org/y:8b"}
			if kind == upstream.LlamaCpp { // has one model
				names = names[:1]
			}
			fake := fakellm.Start(t, kind.Name, fakellm.Models(names...))
			s := &setup{t: t}
			s.config.Discover = true
			s.up("u", kind, nil, fake.URL())
			s.serve("m u/x:latest")
			checkStrictClients(t, s, "", append([]string{"m"}, names...)...)
		})
	}
	t.Run("echo", func(t *testing.T) {
		t.Parallel()
		s := &setup{t: t}
		s.up("u", upstream.Echo, nil)
		s.serve("m u/echo")
		checkStrictClients(t, s, "", "m")
	})
}

// What Ollama says of a model is passed on, for a configured name as well.
func TestOllamaSaysMore(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "ollama", fakellm.Models("x:latest"))
	s := &setup{t: t}
	s.up("u", upstream.Ollama, nil, fake.URL())
	s.serve("m u/x")
	const files = `"size":4341849,"digest":"86b2a5e32c19962cd9ac3929a74b41326c86d450a79dd2a577a84321020384f8","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"1.08M","quantization_level":"unknown"}`
	if got := s.get("/api/tags", ""); !strings.Contains(got.body, `"name":"m","model":"m","modified_at":"2026-11-23T09:06:50Z",`+files) {
		t.Errorf("tags: %s", got.body)
	}
	if got := s.get("/api/ps", ""); !strings.Contains(got.body, `"name":"m"`) || !strings.Contains(got.body, `"size":24798821`) || strings.Contains(got.body, "x:latest") {
		t.Errorf("ps: %s", got.body)
	}
	if got := s.post("/api/show", `{"model":"m:latest"}`); !strings.Contains(got.body, `"llama.context_length":4096`) {
		t.Errorf("show: %s", got.body)
	}
	until(t, func() bool { // what the model can do is asked for in the background
		return strings.Contains(s.post("/api/show", `{"model":"m:latest"}`).body, `"capabilities":["completion","tools","thinking"]`)
	})
}

// A key sees only its own models, and without a key a client is asked for one.
func TestOllamaKeys(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "ollama", fakellm.Models("x:latest", "y:latest", "z:8b"))
	s := &setup{t: t}
	s.config.Discover = true
	s.guarded(&keys.Entry{Name: "alice"}, &keys.Entry{Name: "bob", Models: []string{"m", "x", "z:latest"}, Limits: keys.Limits{Rate: []string{"1/h"}}})
	s.up("u", upstream.Ollama, nil, fake.URL())
	s.serve("m u/y")
	for range 3 { // the limit does not count these
		checkStrictClients(t, s, "secret-alice", "m", "x:latest", "y:latest", "z:8b")
		checkStrictClients(t, s, "secret-bob", "m", "x:latest")
	}
	for _, path := range []string{"/api/tags", "/api/ps", "/api/version"} {
		for _, secret := range []string{"", "secret-nobody"} {
			if got := s.get(path, secret); got.status != http.StatusUnauthorized || !strings.HasPrefix(got.body, `{"error":"`) {
				t.Errorf("%s with %q: status %d: %s", path, secret, got.status, got.body)
			}
		}
	}
	for model, status := range map[string]int{"y": 404, "z:8b": 404, "y:latest": 404} {
		if got := s.post("/api/show", `{"model":"`+model+`"}`, "Authorization", "Bearer secret-bob"); got.status != status {
			t.Errorf("%s: status %d: %s", model, got.status, got.body)
		}
		if got := s.post("/api/chat", `{"model":"`+model+`","messages":[]}`, "Authorization", "Bearer secret-bob"); got.status == http.StatusOK {
			t.Errorf("%s: status %d: %s", model, got.status, got.body)
		}
	}
	if got := s.post("/api/chat", `{"model":"x:latest","messages":[{"role":"user","content":"Hi"}],"stream":false}`, "Authorization", "Bearer secret-bob"); got.status != http.StatusOK {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if got := s.post("/api/chat", `{"model":"x","messages":[{"role":"user","content":"Hi"}]}`, "X-Api-Key", "secret-bob"); got.status != http.StatusTooManyRequests || !strings.HasPrefix(got.body, `{"error":"`) {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if diff := cmp.Diff(tokens.Usage{}, s.record().Usage); diff != "" {
		t.Error(diff)
	}
}

// While a server loads a model, or hangs, the lists are what is known.
func TestOllamaListsDoNotWait(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "ollama", fakellm.Models("x:latest"))
	s := &setup{t: t}
	s.up("u", upstream.Ollama, nil, fake.URL())
	s.serve("m u/x")
	if got := s.get("/api/tags", ""); !strings.Contains(got.body, `"size":4341849`) {
		t.Errorf("tags: %s", got.body)
	}
	fake.SetLoading(true) // /api/ps does not answer any more
	defer fake.SetLoading(false)
	for _, path := range []string{"/api/tags", "/api/ps", "/api/version"} {
		if got := s.get(path, ""); got.status != http.StatusOK {
			t.Errorf("%s: status %d: %s", path, got.status, got.body)
		}
	}
	// The first list is waited for, but not for ever.
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hanging.Close()
	defer hanging.CloseClientConnections()
	h := &setup{t: t}
	h.config.Discover = true
	h.up("u", upstream.Ollama, nil, hanging.URL)
	h.serve("m u/x")
	checkStrictClients(t, h, "", "m")
	if got := s.get("/api/ps", ""); got.body != `{"models":[]}` {
		t.Errorf("ps: %s", got.body)
	}
	if got := s.get("/api/tags", ""); !strings.Contains(got.body, `"size":4341849`) {
		t.Errorf("tags: %s", got.body)
	}
}

// A gateway in front of this one does not take it for an Ollama server, which would get one request at a time.
func TestGatewayIsNotOllama(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "ollama", fakellm.Models("x:latest"))
	s := &setup{t: t}
	s.config.Discover = true
	s.up("u", upstream.Ollama, nil, fake.URL())
	s.serve()
	front := &setup{t: t}
	front.config.Discover = true
	front.up("back", upstream.Auto, nil, s.server.URL)
	front.serve()
	if got := front.get("/v1/models", ""); !strings.Contains(got.body, `"x:latest"`) {
		t.Errorf("models: %s", got.body)
	}
	if kind := front.upstreams[0].ActualKind(); kind != upstream.OpenAI {
		t.Errorf("the kind is %s", kind.Name)
	}
}
