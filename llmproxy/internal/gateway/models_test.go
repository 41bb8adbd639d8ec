package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// The facts that servers and the configuration state about a model reach clients for configured names, too.
func TestModelsAreDescribed(t *testing.T) {
	t.Parallel()
	const (
		vllm       = `{"object":"list","data":[{"id":"org/m","object":"model","created":1700000000,"owned_by":"vllm","root":"org/base","parent":null,"max_model_len":131072.0,"permission":[{"id":"x"}]},{"id":"lora","created":1,"owned_by":"vllm","parent":"org/m","max_model_len":131072}]}`
		openRouter = `{"data":[{"id":"org/m","name":"Org: M","created":5,"description":"d","context_length":64000,"architecture":{"modality":"text->text","input_modalities":["text"],"tokenizer":"x"},"supported_parameters":["tools"],"pricing":{"prompt":"1"},"top_provider":{"max_completion_tokens":8000}}]}`
		llamaCpp   = `{"models":[{"name":"tiny","capabilities":["completion","multimodal"]}],"data":[{"id":"tiny","owned_by":"llamacpp","created":3,"meta":{"n_ctx":2048,"n_ctx_train":4096},"status":{"args":["--api-key","secret"]}}]}`
		mistral    = `{"data":[{"id":"m","capabilities":{"completion_chat":true,"vision":true,"function_calling":false},"max_context_length":32768}]}`
	)
	type server struct {
		name string
		list string
		override
	}
	for _, tt := range []struct {
		name     string
		servers  []server
		models   []string
		discover bool
		want     map[string]string // by id
	}{
		{"discovered at vLLM", []server{{name: "u", list: vllm}}, nil, true, map[string]string{
			"org/m": `{"id":"org/m","object":"model","created":1700000000,"owned_by":"vllm","context_length":131072,"max_model_len":131072,"context_window":131072,"root":"org/base"}`,
			"lora":  `{"id":"lora","object":"model","created":1,"owned_by":"vllm","context_length":131072,"max_model_len":131072,"context_window":131072,"parent":"org/m"}`,
		}},
		{"configured", []server{{name: "u", list: vllm}}, []string{"alias u/org/m"}, false, map[string]string{
			"alias": `{"id":"alias","object":"model","created":1700000000,"owned_by":"vllm","context_length":131072,"max_model_len":131072,"context_window":131072,"root":"org/base"}`,
		}},
		{"configured, with a context window of the configuration", []server{{name: "u", list: vllm, override: override{window: 8192}}}, []string{"alias u/org/m"}, true, map[string]string{
			"alias": `{"id":"alias","object":"model","created":1700000000,"owned_by":"vllm","context_length":8192,"max_model_len":8192,"context_window":8192,"root":"org/base"}`,
			"lora":  `{"id":"lora","object":"model","created":1,"owned_by":"vllm","context_length":8192,"max_model_len":8192,"context_window":8192,"parent":"org/m"}`,
		}},
		{"configured, with a context window of one model", []server{{name: "u", list: vllm, override: override{model: "lora", window: 8192}}}, []string{"alias u/org/m"}, true, map[string]string{
			"alias": `{"id":"alias","object":"model","created":1700000000,"owned_by":"vllm","context_length":131072,"max_model_len":131072,"context_window":131072,"root":"org/base"}`,
			"lora":  `{"id":"lora","object":"model","created":1,"owned_by":"vllm","context_length":8192,"max_model_len":8192,"context_window":8192,"parent":"org/m"}`,
		}},
		{"a target that no list has", []server{{name: "u", list: `{"data":[]}`, override: override{window: 8192, can: router.Images | router.Tools}}}, []string{"alias u/hidden"}, false, map[string]string{
			"alias": `{"id":"alias","object":"model","created":0,"owned_by":"u","context_length":8192,"max_model_len":8192,"context_window":8192,"capabilities":["tools","vision"],"architecture":{"input_modalities":["text","image"]}}`,
		}},
		{"nothing is known", []server{{name: "u", list: `<html>`}}, []string{"alias u/hidden"}, false, map[string]string{
			"alias": `{"id":"alias","object":"model","created":0,"owned_by":"u"}`,
		}},
		{"OpenRouter's members, without its prices", []server{{name: "u", list: openRouter}}, []string{"alias u/org/m"}, true, map[string]string{
			"org/m": `{"id":"org/m","object":"model","created":5,"owned_by":"u","context_length":64000,"max_model_len":64000,"context_window":64000,"max_completion_tokens":8000,"max_output_tokens":8000,"name":"Org: M","description":"d","architecture":{"modality":"text->text","input_modalities":["text"],"tokenizer":"x"},"supported_parameters":["tools"],"top_provider":{"max_completion_tokens":8000}}`,
			"alias": `{"id":"alias","object":"model","created":5,"owned_by":"u","context_length":64000,"max_model_len":64000,"context_window":64000,"max_completion_tokens":8000,"max_output_tokens":8000,"description":"d","architecture":{"modality":"text->text","input_modalities":["text"],"tokenizer":"x"},"supported_parameters":["tools"],"top_provider":{"max_completion_tokens":8000}}`,
		}},
		{"features of the configuration correct the server's", []server{{name: "u", list: openRouter, override: override{can: router.Images}}}, nil, true, map[string]string{
			"org/m": `{"id":"org/m","object":"model","created":5,"owned_by":"u","context_length":64000,"max_model_len":64000,"context_window":64000,"max_completion_tokens":8000,"max_output_tokens":8000,"name":"Org: M","description":"d","capabilities":["vision"],"architecture":{"modality":"text->text","input_modalities":["text","image"],"tokenizer":"x"},"supported_parameters":["tools"],"top_provider":{"max_completion_tokens":8000}}`,
		}},
		{"llama.cpp's second list, without its command line", []server{{name: "u", list: llamaCpp}}, []string{"alias u/tiny"}, false, map[string]string{
			"alias": `{"id":"alias","object":"model","created":3,"owned_by":"llamacpp","context_length":2048,"max_model_len":2048,"context_window":2048,"capabilities":["completion","multimodal"],"meta":{"n_ctx":2048,"n_ctx_train":4096}}`,
		}},
		{"an object of capabilities", []server{{name: "u", list: mistral, override: override{cannot: router.Images, can: router.Tools}}}, nil, true, map[string]string{
			"m": `{"id":"m","object":"model","created":0,"owned_by":"u","context_length":32768,"max_model_len":32768,"context_window":32768,"max_context_length":32768,"capabilities":{"completion_chat":true,"vision":false,"function_calling":true},"architecture":{"input_modalities":["text"]}}`,
		}},
		{"a pool: what is true of all", []server{{name: "u", list: vllm, override: override{can: router.Images}}, {name: "v", list: openRouter}}, []string{"alias u/org/m v/org/m"}, false, map[string]string{
			"alias": `{"id":"alias","object":"model","created":1700000000,"owned_by":"vllm","context_length":64000,"max_model_len":64000,"context_window":64000,"max_completion_tokens":8000,"max_output_tokens":8000,"root":"org/base"}`,
		}},
		{"a fallback says nothing", []server{{name: "u", list: vllm}, {name: "v", list: openRouter}}, []string{"alias u/org/m | v/org/m"}, false, map[string]string{
			"alias": `{"id":"alias","object":"model","created":1700000000,"owned_by":"vllm","context_length":131072,"max_model_len":131072,"context_window":131072,"root":"org/base"}`,
		}},
		{"a discovered model of two upstreams", []server{{name: "u", list: vllm}, {name: "v", list: openRouter}}, nil, true, map[string]string{
			"org/m": `{"id":"org/m","object":"model","created":1700000000,"owned_by":"vllm","context_length":64000,"max_model_len":64000,"context_window":64000,"max_completion_tokens":8000,"max_output_tokens":8000,"root":"org/base"}`,
		}},
		{"a configured name that an upstream has too", []server{{name: "u", list: vllm}, {name: "v", list: openRouter}}, []string{"org/m v/org/m"}, true, map[string]string{
			"org/m": `{"id":"org/m","object":"model","created":5,"owned_by":"v","context_length":64000,"max_model_len":64000,"context_window":64000,"max_completion_tokens":8000,"max_output_tokens":8000,"description":"d","architecture":{"modality":"text->text","input_modalities":["text"],"tokenizer":"x"},"supported_parameters":["tools"],"top_provider":{"max_completion_tokens":8000}}`,
		}},
		{"a model that a pattern passes on", []server{{name: "u", list: vllm}}, []string{"org/* u"}, false, map[string]string{
			"org/m": `{"id":"org/m","object":"model","created":1700000000,"owned_by":"vllm","context_length":131072,"max_model_len":131072,"context_window":131072,"root":"org/base"}`,
		}},
		{"a model under the prefix of a pattern", []server{{name: "u", list: vllm}}, []string{"mine/* u/org/*"}, false, map[string]string{
			"mine/m": `{"id":"mine/m","object":"model","created":1700000000,"owned_by":"vllm","context_length":131072,"max_model_len":131072,"context_window":131072,"root":"org/base"}`,
		}},
		{"a name without its tag", []server{{name: "u", list: `[{"id":"m:latest","created":1,"owned_by":"library","context_length":4096}]`}}, []string{"alias u/m"}, true, map[string]string{
			"alias":    `{"id":"alias","object":"model","created":1,"owned_by":"library","context_length":4096,"max_model_len":4096,"context_window":4096}`,
			"m:latest": `{"id":"m:latest","object":"model","created":1,"owned_by":"library","context_length":4096,"max_model_len":4096,"context_window":4096}`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &setup{t: t}
			for _, up := range tt.servers {
				fake := fakellm.Start(t, "openai")
				fake.OnPath("/v1/models", fakellm.Raw(http.StatusOK, nil, []byte(up.list)))
				s.up(up.name, upstream.OpenAI, up.apply, fake.URL())
			}
			s.config.Discover = tt.discover
			s.serve(tt.models...)
			listed := map[string]map[string]any{}
			var list struct{ Data []map[string]any }
			if got := s.get("/v1/models", ""); json.Unmarshal([]byte(got.body), &list) != nil || got.status != http.StatusOK {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
			for _, entry := range list.Data {
				id := entry["id"].(string)
				if listed[id] != nil {
					t.Errorf("%s is listed twice", id)
				}
				listed[id] = entry
			}
			for id, text := range tt.want {
				var want, one map[string]any
				if err := json.Unmarshal([]byte(text), &want); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, listed[id]); diff != "" {
					t.Errorf("%s in the list (-want +got):\n%s", id, diff)
				}
				if got := s.get("/v1/models/"+id, ""); json.Unmarshal([]byte(got.body), &one) != nil || !cmp.Equal(want, one) {
					t.Errorf("%s: %d %s", id, got.status, got.body)
				}
			}
		})
	}
}

// An override is what the configuration says of one model, or of all.
type override struct {
	model       string
	window      int
	can, cannot router.Feature
}

func (o override) apply(c *upstream.Config) {
	is := upstream.Override{ContextWindow: o.window, Can: o.can, Cannot: o.cannot}
	if o.model == "" {
		c.Override = is
	} else {
		c.ModelOverrides = map[string]upstream.Override{o.model: is}
	}
}

// Ollama's own list says more of its models than the one in OpenAI's format, and names without a tag work as they do there.
func TestModelsOfOllama(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	fake := fakellm.Start(t, "ollama", fakellm.Models("m:latest"))
	fake.OnPath("/api/tags", fakellm.Raw(http.StatusOK, nil, []byte(`{"models":[{"name":"m:latest","model":"m:latest","modified_at":"2026-11-23T09:06:25Z","size":1,"digest":"33da",`+
		`"details":{"family":"llama","parameter_size":"8B","quantization_level":"Q4_K_M","context_length":4096},"capabilities":["completion","tools"]},{"name":"other"}]}`)))
	s.up("gpu", upstream.Ollama, nil, fake.URL())
	s.config.Discover = true
	s.serve()
	for _, id := range []string{"m:latest", "m"} {
		var entry struct {
			ID            string
			ContextLength int `json:"context_length"`
			Capabilities  []string
			Details       map[string]any
		}
		got := s.get("/v1/models/"+id, "")
		if err := json.Unmarshal([]byte(got.body), &entry); err != nil || entry.ID != id || entry.ContextLength != 4096 || len(entry.Capabilities) != 2 || entry.Details["quantization_level"] != "Q4_K_M" {
			t.Errorf("%s: %d %s", id, got.status, got.body)
		}
	}
	if got := s.get("/v1/models/other", ""); got.status != http.StatusNotFound {
		t.Errorf("a model that OpenAI's list does not have: %d", got.status)
	}
	if n := len(fake.Requests()); n > 0 {
		t.Errorf("%d requests generated", n)
	}
}

// A server that imitates Ollama gets all requests at once, and none to load a model, which would generate there.
func TestImitationsOfOllama(t *testing.T) {
	t.Parallel()
	const kobold = `{"object":"list","data":[{"id":"koboldcpp/m","object":"model","created":1,"owned_by":"koboldcpp"}]}`
	const localAI = `{"object":"list","data":[{"id":"koboldcpp/m","object":"model"}]}`
	for name, paths := range map[string]map[string]string{
		"KoboldCpp": {"/api/version": `{"version":"0.7.0"}`, "/api/ps": `{"models":[]}`, "/api/extra/version": `{"result":"KoboldCpp"}`, "/props": `{"default_generation_settings":{"n_ctx":4096},"total_slots":1}`, "/v1/models": kobold},
		"LocalAI":   {"/": "Ollama is running", "/api/version": `{"version":"0.9.0"}`, "/version": `{"version":"v4"}`, "/v1/models": localAI},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const requests = 4
			var open atomic.Int64
			together := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost && r.URL.Path != "/v1/chat/completions" {
					t.Errorf("POST %s", r.URL.Path)
				}
				if r.Method == http.MethodPost {
					if open.Add(1) == requests {
						close(together)
					}
					select {
					case <-together:
					case <-r.Context().Done():
					case <-time.After(patient):
						t.Error("the requests do not come at once")
					}
					w.Header().Set("Content-Type", "application/json")
					_, _ = io.WriteString(w, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}`)
					return
				}
				if paths[r.URL.Path] == "" {
					http.NotFound(w, r)
					return
				}
				_, _ = io.WriteString(w, paths[r.URL.Path])
			}))
			t.Cleanup(server.Close)
			s := &setup{t: t}
			s.up("box", upstream.Auto, nil, server.URL)
			s.config.Discover = true
			s.serve()
			var all sync.WaitGroup
			for range requests {
				all.Go(func() {
					if got := s.post("/v1/chat/completions", chat("koboldcpp/m", false)); got.status != http.StatusOK {
						t.Errorf("status %d: %s", got.status, got.body)
					}
				})
			}
			all.Wait()
			if kind := s.upstreams[0].ActualKind(); kind != upstream.OpenAI {
				t.Errorf("detected %s", kind.Name)
			}
		})
	}
}
