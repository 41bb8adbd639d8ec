package upstream

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// serve returns an upstream whose server is the handler.
func serve(t *testing.T, kind *Kind, handler http.Handler, change func(*Config)) *Upstream {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c := Config{Name: "u", Kind: kind}
	if change != nil {
		change(&c)
	}
	return upstreamAt(t, c, server.URL)
}

func TestServersReportCapabilities(t *testing.T) {
	t.Parallel()
	both := router.Images | router.Audio
	for _, tt := range []struct {
		name  string
		kind  *Kind
		model string
		paths map[string]string
		want  router.Capabilities
	}{
		{"vllm", VLLM, "m", map[string]string{"/v1/models": `{"data":[{"id":"m","max_model_len":4096},{"id":"n","max_model_len":1}]}`}, router.Capabilities{ContextWindow: 4096}},
		{"vllm, unknown model", VLLM, "x", map[string]string{"/v1/models": `{"data":[{"id":"m","max_model_len":4096}]}`}, router.Capabilities{}},
		{"llamacpp, any name", LlamaCpp, "x", map[string]string{"/props": `{"default_generation_settings":{"n_ctx":2048},"modalities":{"vision":true,"audio":false}}`},
			router.Capabilities{ContextWindow: 2048, Lacks: router.Audio, Has: router.Images}},
		{"llamacpp, an old version", LlamaCpp, "x", map[string]string{"/props": `{"default_generation_settings":{"n_ctx":2048}}`}, router.Capabilities{ContextWindow: 2048}},
		{"llamacpp, loading", LlamaCpp, "x", nil, router.Capabilities{}},
		{"ollama, loaded", Ollama, "m", map[string]string{
			"/api/ps":   `{"models":[{"name":"m:latest","context_length":8192}]}`,
			"/api/show": `{"capabilities":["completion","tools"],"model_info":{"llama.context_length":131072,"llama.block_count":1}}`,
		}, router.Capabilities{ContextWindow: 8192, Lacks: both | router.Thinking, Has: router.Tools}},
		{"ollama, not loaded, with num_ctx", Ollama, "m:8b", map[string]string{
			"/api/ps":   `{"models":[{"name":"m:latest","context_length":8192}]}`,
			"/api/show": `{"capabilities":["completion","vision","audio","thinking"],"parameters":"stop \"<|x|>\"\nnum_ctx                        16384\n","model_info":{"llama.context_length":131072}}`,
		}, router.Capabilities{ContextWindow: 16384, Lacks: router.Tools, Has: both | router.Thinking}},
		{"ollama, not loaded", Ollama, "m", map[string]string{
			"/api/ps":   `{"models":[]}`,
			"/api/show": `{"model_info":{"llama.context_length":131072}}`,
		}, router.Capabilities{ContextWindow: 131072}},
		{"ollama without the model", Ollama, "m", map[string]string{"/api/ps": `{"models":[]}`}, router.Capabilities{}},
		{"nonsense", Ollama, "m", map[string]string{"/api/ps": `{"models":[]}`, "/api/show": `["x"]`}, router.Capabilities{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, tt.kind, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.paths[r.URL.Path] == "" {
					http.Error(w, "{}", http.StatusNotFound)
					return
				}
				_, _ = w.Write([]byte(tt.paths[r.URL.Path]))
			}), nil)
			if got := u.Capabilities(tt.model); got != (router.Capabilities{}) {
				t.Errorf("Capabilities = %+v before the server was asked", got)
			}
			u.refreshCapabilities(t.Context())
			if diff := cmp.Diff(tt.want, u.Capabilities(tt.model)); diff != "" {
				t.Errorf("Capabilities (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFakeServersReportCapabilities(t *testing.T) {
	t.Parallel()
	for kind, want := range map[*Kind]router.Capabilities{
		VLLM: {ContextWindow: 4096}, LlamaCpp: {ContextWindow: 2048, Lacks: router.Images | router.Audio}, Ollama: {ContextWindow: 4096, Lacks: router.Images | router.Audio, Has: router.Tools | router.Thinking},
	} {
		u := serve(t, kind, fakellm.New(kind.Name, fakellm.Models("m")), nil)
		u.Capabilities("m")
		u.refreshCapabilities(t.Context())
		if diff := cmp.Diff(want, u.Capabilities("m")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind.Name, diff)
		}
	}
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	u := serve(t, LlamaCpp, fakellm.New("llamacpp"), func(c *Config) {
		c.Override = Override{ContextWindow: 1000, Can: router.Images, Cannot: router.Tools}
		c.ModelOverrides = map[string]Override{"m": {ContextWindow: 500, Can: router.Tools}}
	})
	check := func(when string) {
		t.Helper()
		audio := router.Audio
		if when == "before" {
			audio = 0
		}
		if got, want := u.Capabilities("x"), (router.Capabilities{ContextWindow: 1000, Lacks: router.Tools | audio, Has: router.Images}); got != want {
			t.Errorf("%s, any model: %+v, want %+v", when, got, want)
		}
		if got, want := u.Capabilities("m"), (router.Capabilities{ContextWindow: 500, Lacks: audio, Has: router.Images | router.Tools}); got != want {
			t.Errorf("%s, m: %+v, want %+v", when, got, want)
		}
	}
	check("before")
	u.refreshCapabilities(t.Context())
	check("after")
}

func TestLearnContextWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := New(Config{Name: "u", Kind: OpenAI})
		u.LearnContextWindow("m", 8000)
		if got := u.Capabilities("m").ContextWindow; got != 8000 || u.Capabilities("n").ContextWindow != 0 {
			t.Errorf("m has %d, n %d", got, u.Capabilities("n").ContextWindow)
		}
		for range 1000 {
			u.LearnContextWindow("m"+time.Now().String(), 1)
			time.Sleep(time.Millisecond)
		}
		if n := len(u.capabilities.learned); n > maxKnownModels {
			t.Errorf("%d learned context windows are kept", n)
		}
		time.Sleep(learnedFresh)
		if got := u.Capabilities("m").ContextWindow; got != 0 {
			t.Errorf("a learned context window of %d does not expire", got)
		}
	})
}

// Clients can invent any number of models, so memory and concurrent refreshes are bounded.
func TestCapabilitiesAreBounded(t *testing.T) {
	t.Parallel()
	var open, most atomic.Int32
	u := serve(t, Ollama, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n := open.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer open.Add(-1)
		_, _ = w.Write([]byte("{}"))
	}), nil)
	for i := range 1000 {
		u.Capabilities("m" + string(rune('a'+i%26)) + string(rune('a'+i/26)))
	}
	u.refreshCapabilities(t.Context())
	if n := len(u.capabilities.reported); n > maxKnownModels {
		t.Errorf("capabilities of %d models are kept", n)
	}
	if most.Load() > 2 {
		t.Errorf("%d concurrent requests", most.Load())
	}
}

func TestCorrectEstimate(t *testing.T) {
	t.Parallel()
	u := New(Config{Name: "u", Kind: OpenAI})
	if got := u.CorrectEstimate("m", 1000); got != 1000 {
		t.Errorf("CorrectEstimate(1000) = %d before anything was learned", got)
	}
	for range 50 {
		u.LearnTokens("m", 1000, 1500)
	}
	u.LearnTokens("m", 10, 1_000_000) // too short to count
	if got := u.CorrectEstimate("m", 1000); got != 1500 || u.CorrectEstimate("n", 1000) != 1000 {
		t.Errorf("CorrectEstimate(1000) = %d, want 1500", got)
	}
	u.LearnTokens("n", 1000, 1_000_000)
	if got := u.CorrectEstimate("n", 1000); got != maxRatio*1000 {
		t.Errorf("CorrectEstimate(1000) = %d after an absurd count, want %d", got, maxRatio*1000)
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name              string
		kind              *Kind
		context           int
		estimate, counted int
		want              bool
	}{
		{"truncated", Ollama, 4096, 10000, 4096, true},
		{"truncated, context window unknown", Ollama, 0, 10000, 4096, true},
		{"counted all", Ollama, 4096, 10000, 9000, false},
		{"fits the context window", Ollama, 32768, 10000, 5000, false},
		{"a kind that does not truncate", VLLM, 4096, 10000, 4096, false},
		{"no count", Ollama, 4096, 10000, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := New(Config{Name: "u", Kind: tt.kind, Override: Override{ContextWindow: tt.context}})
			if got := u.Truncated("m", tt.estimate, tt.counted); got != tt.want {
				t.Errorf("Truncated = %v", got)
			}
		})
	}
}

func TestIsLocal(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for _, tt := range []struct {
		name  string
		kind  *Kind
		local *bool
		want  bool
	}{
		{"ollama", Ollama, nil, true}, {"vllm", VLLM, nil, true}, {"llamacpp", LlamaCpp, nil, true}, {"echo", Echo, nil, true},
		{"openai", OpenAI, nil, false}, {"unknown", Auto, nil, false},
		{"openai configured as local", OpenAI, &yes, true}, {"ollama configured as remote", Ollama, &no, false},
		{"unknown, but configured", Auto, &yes, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := New(Config{Name: "u", Kind: tt.kind, Local: tt.local})
			if got := u.Route.Local(); got != tt.want {
				t.Errorf("Local = %v", got)
			}
		})
	}
	u := serve(t, Auto, fakellm.New("ollama"), nil)
	if u.IsLocal() {
		t.Error("local before its kind was detected")
	}
	if u.Discover(t.Context()); !u.IsLocal() {
		t.Error("remote although detected as Ollama")
	}
}

// BenchmarkCapabilities measures what each choice of a target pays.
func BenchmarkCapabilities(b *testing.B) {
	for name, kind := range map[string]*Kind{"openai": OpenAI, "ollama": Ollama} {
		u := New(Config{Name: "u", Kind: kind})
		u.capabilities.reported = map[string]router.Capabilities{"llama3.1:8b": {ContextWindow: 8192}}
		u.publishCapabilities(time.Now().Add(time.Hour))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				u.Capabilities("llama3.1:8b")
			}
		})
	}
}

// If the configuration adds num_ctx to every request, models are loaded with that window, whatever they are loaded with now.
func TestPinnedContextWindow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		pinned string
		openAI bool
		want   int
	}{
		{"pinned", "4096", false, 4096},
		{"more than it was trained with", "999999", false, 131072},
		{"by an API without options", "4096", true, 8192},
		{"nonsense", `"many"`, false, 8192},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, Ollama, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body := `{"models":[{"name":"m:latest","context_length":8192}]}`
				if r.URL.Path == "/api/show" {
					body = `{"model_info":{"llama.context_length":131072}}`
				}
				_, _ = w.Write([]byte(body))
			}), func(c *Config) { c.OpenAI, c.Params = tt.openAI, []Param{{"num_ctx", []byte(tt.pinned)}} })
			u.Capabilities("m")
			u.refreshCapabilities(t.Context())
			if got := u.Capabilities("m").ContextWindow; got != tt.want {
				t.Errorf("%d tokens, want %d", got, tt.want)
			}
		})
	}
}
