package upstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pagesServer is a server that answers by path and remembers what it was asked.
func pagesServer(t *testing.T, pages map[string]string) (base *url.URL, paths func() []string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got = append(got, r.Method+" "+r.URL.RequestURI())
		mu.Unlock()
		page, ok := pages[r.URL.RequestURI()]
		var status int
		if n, _ := fmt.Sscanf(page, "%d {", &status); n == 1 {
			w.WriteHeader(status)
			_, page, _ = strings.Cut(page, " ")
		} else if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(page))
	}))
	t.Cleanup(s.Close)
	base, err := url.Parse(s.URL + "/v1")
	if err != nil {
		t.Fatal(err)
	}
	return base, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

// The facts that servers report about themselves are read without a request that generates. The answers are those of real servers, shortened.
func TestInspect(t *testing.T) {
	t.Parallel()
	const ollamaShown = `{"parameters":"num_ctx 8192\n","capabilities":["completion","tools"],"model_info":{"general.architecture":"llama","general.parameter_count":8030261248,` +
		`"llama.attention.head_count":32,"llama.attention.head_count_kv":8,"llama.attention.key_length":128,"llama.attention.value_length":128,"llama.block_count":32,"llama.context_length":131072,"llama.embedding_length":4096}}`
	for _, test := range []struct {
		name  string
		kind  *Kind
		key   string
		model string
		pages map[string]string
		want  Inspection
		about Facts
	}{
		{name: "Ollama", kind: Ollama, model: "tiny", pages: map[string]string{
			"/v1/models": ollamaModels, "/": ollamaRoot, "/api/version": ollamaVersion, "/api/show": ollamaShown, "/api/ps": `{"models":[]}`,
			"/api/tags": `{"models":[{"name":"tiny:latest","model":"tiny:latest","size":4920753328,"details":{"quantization_level":"Q4_K_M"}}]}`,
		}, want: Inspection{Status: 200, Kind: Ollama, Listed: true},
			about: Facts{Window: 8192, Trained: 131072, Shape: Shape{Architecture: "llama", Quantization: "Q4_K_M", Parameters: 8030261248, Bytes: 4920753328, CacheWidth: 32 * 8 * 256}}},
		{name: "Ollama with a loaded model", kind: Ollama, model: "tiny", pages: map[string]string{
			"/v1/models": ollamaModels, "/": ollamaRoot, "/api/version": ollamaVersion, "/api/ps": `{"models":[{"name":"tiny:latest","context_length":4096}]}`,
			"/api/show": `{"model_info":{"general.architecture":"llama","llama.attention.head_count":6,"llama.attention.head_count_kv":1,"llama.block_count":2,"llama.context_length":4096,"llama.embedding_length":384}}`,
		}, want: Inspection{Status: 200, Kind: Ollama, Listed: true},
			about: Facts{Window: 4096, Trained: 4096, Unset: true, Shape: Shape{Architecture: "llama", CacheWidth: 2 * 128}}},
		{name: "Ollama with experts and layers that differ", kind: Ollama, model: "m", pages: map[string]string{
			"/v1/models": ollamaModels, "/": ollamaRoot, "/api/version": ollamaVersion, "/api/ps": `{"models":[]}`,
			"/api/show": `{"model_info":{"general.architecture":"x","x.attention.head_count":8,"x.attention.head_count_kv":[0,2,0,2],"x.attention.key_length":64,"x.attention.value_length":64,"x.block_count":4,"x.context_length":1000,"x.expert_count":128,"x.expert_used_count":8}}`,
		}, want: Inspection{Status: 200, Kind: Ollama, Listed: true},
			about: Facts{Trained: 1000, Unset: true, Shape: Shape{Architecture: "x", CacheWidth: 4 * 128, Experts: 128, ExpertsUsed: 8}}},
		{name: "Ollama with a compressed cache", kind: Ollama, model: "m", pages: map[string]string{
			"/v1/models": ollamaModels, "/": ollamaRoot, "/api/version": ollamaVersion, "/api/ps": `{"models":[]}`,
			"/api/show": `{"capabilities":["embedding"],"model_info":{"general.architecture":"deepseek2","deepseek2.attention.head_count":16,"deepseek2.attention.kv_lora_rank":512,"deepseek2.rope.dimension_count":64,"deepseek2.block_count":27}}`,
		}, want: Inspection{Status: 200, Kind: Ollama, Listed: true}, about: Facts{Unset: true, Shape: Shape{Architecture: "deepseek2", CacheWidth: 27 * 576, Embeds: true}}},
		{name: "llama.cpp", kind: LlamaCpp, model: "other", pages: map[string]string{
			"/v1/models": llamaCppModels, "/models": llamaCppModels, "/props": llamaCppPage, "/health": `{"status":"ok"}`,
		}, want: Inspection{Status: 200, Kind: LlamaCpp, Listed: true, OneModel: "tiny", Slots: 2}, about: Facts{Window: 2048}},
		{name: "llama.cpp says the size", kind: LlamaCpp, model: "tiny", pages: map[string]string{
			"/v1/models": `{"data":[{"id":"tiny","owned_by":"llamacpp","meta":{"n_ctx":2048,"n_ctx_train":4096,"n_params":1083264,"size":4333056,"ftype":"all F32"}}]}`, "/props": llamaCppPage, "/health": `{}`,
			"/models": llamaCppModels,
		}, want: Inspection{Status: 200, Kind: LlamaCpp, Listed: true, OneModel: "tiny", Slots: 2}, about: Facts{Window: 2048, Trained: 4096, Shape: Shape{Quantization: "F32", Parameters: 1083264, Bytes: 4333056}}},
		{name: "llama.cpp in router mode", kind: LlamaCpp, model: "a", pages: map[string]string{
			"/v1/models": `{"data":[{"id":"a","owned_by":"llamacpp"}]}`, "/models": `{"data":[{"id":"a","status":{"value":"unloaded"}}]}`, "/props": `{"default_generation_settings":{}}`, "/health": `{}`,
		}, want: Inspection{Status: 200, Kind: LlamaCpp, Listed: true}},
		{name: "llama.cpp that is loading", kind: LlamaCpp, model: "a", pages: map[string]string{"/v1/models": loadingPage, "/health": loadingPage, "/props": loadingPage},
			want: Inspection{Status: 503, Kind: LlamaCpp, Loading: true}},
		{name: "vLLM", kind: VLLM, model: "Qwen/Qwen3-8B-AWQ", pages: map[string]string{
			"/v1/models": `{"data":[{"id":"Qwen/Qwen3-8B-AWQ","owned_by":"vllm","max_model_len":8192}]}`, "/version": `{"version":"0.20.0"}`, "/health": "",
			"/server_info?config_format=json": `{"vllm_config":{"scheduler_config":{"max_num_seqs":8}}}`,
			"/metrics":                        "vllm:num_requests_running{engine=\"0\"} 0\nvllm:generation_tokens_total 1\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"1000\"} 1\n",
		}, want: Inspection{Status: 200, Kind: VLLM, Listed: true, Slots: 8, CacheTokens: 16000}, about: Facts{Window: 8192, Shape: Shape{Quantization: "AWQ", Parameters: 8e9}}},
		{name: "vLLM that keeps its configuration to itself", kind: OpenAI, model: "m", pages: map[string]string{"/v1/models": vllmModels, "/version": `{"version":"0.20.0"}`},
			want: Inspection{Status: 200, Kind: VLLM, Listed: true}, about: Facts{Window: 4096}},
		{name: "a wrong key", kind: OpenAI, key: "sk-x", model: "m", pages: map[string]string{"/v1/models": `401 {"error":{"message":"Incorrect API key provided"}}`}, want: Inspection{Status: 401, Kind: OpenAI, KeyRefused: true}},
		{name: "a wrong key at Gemini", kind: Gemini, key: "x", model: "m", pages: map[string]string{"/v1/models": `400 {"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}`}, want: Inspection{Status: 400, Kind: OpenAI, KeyRefused: true}},
		{name: "a wrong key at OpenRouter", kind: OpenRouter, key: "x", model: "m", pages: map[string]string{"/v1/models": ownedBy("", "a/b"), "/v1/key": `401 {"error":{"message":"No auth credentials found","code":401}}`}, want: Inspection{Status: 200, Kind: OpenAI, Listed: true, KeyRefused: true}},
		{name: "a valid key at OpenRouter", kind: OpenRouter, key: "x", model: "a/b:free", pages: map[string]string{"/v1/models": ownedBy("", "a/b"), "/v1/key": `{"data":{}}`}, want: Inspection{Status: 200, Kind: OpenAI, Listed: true}},
		{name: "Azure", kind: Azure, key: "x", model: "deployment", pages: map[string]string{"/v1/models": ownedBy("", "gpt-4o")}, want: Inspection{Status: 200, Kind: OpenAI}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			base, paths := pagesServer(t, test.pages)
			u := New(Config{Name: "u", Kind: test.kind, Bases: []*url.URL{base}, APIKey: test.key, Transport: http.DefaultTransport})
			got := u.Inspect(t.Context(), 0, []string{test.model})
			if about := got.Facts[test.model]; !cmp.Equal(about, test.about) {
				t.Error(cmp.Diff(test.about, about))
			}
			if (got.Err != nil) != (got.Status != 200) {
				t.Errorf("status %d, but %v", got.Status, got.Err)
			}
			if got.Kind != test.want.Kind {
				t.Errorf("the kind is %v, want %s", got.Kind, test.want.Kind.Name)
			}
			rest := *got
			rest.Address, rest.Err, rest.Models, rest.Facts, rest.Kind, test.want.Kind = "", nil, nil, nil, nil, nil
			if diff := cmp.Diff(test.want, rest); diff != "" {
				t.Error(diff)
			}
			for _, path := range paths() {
				if !strings.HasPrefix(path, "GET ") && path != "POST /api/show" {
					t.Errorf("sent %s", path)
				}
			}
		})
	}
}

func TestInspectUnreachable(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(nil)
	base, err := url.Parse(s.URL + "/v1")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	u := New(Config{Name: "u", Kind: Ollama, Bases: []*url.URL{base}, Transport: http.DefaultTransport})
	if got := u.Inspect(t.Context(), 0, []string{"m"}); got.Status != 0 || got.Err == nil || len(got.Facts) != 0 {
		t.Errorf("%+v", got)
	}
}

// A name finds the model that answers to it, and no other.
func TestInspectionFind(t *testing.T) {
	t.Parallel()
	list := &Inspection{Models: []Model{
		{ID: "llama3:latest"}, {ID: "qwen3:8b"}, {ID: "claude-sonnet-4-5-20250929"}, {ID: "gpt-4o-mini"}, {ID: "gpt-4o-2024-08-06"}, {ID: "org/model"},
		{ID: "tiny.gguf", Details: []ModelDetail{{"aliases", []byte(`["tiny"]`)}}},
	}}
	for name, want := range map[string]string{
		"llama3": "llama3:latest", "Llama3:latest": "llama3:latest", "qwen3:8b": "qwen3:8b", "qwen3": "", "qwen3:14b": "", "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
		"claude-sonnet-4": "", "gpt-4o": "gpt-4o-2024-08-06", "gpt-4o-mini": "gpt-4o-mini", "org/model:free": "org/model", "org/other": "", "tiny": "tiny.gguf", "": "",
	} {
		if m, ok := list.Find(name); m.ID != want || ok != (want != "") {
			t.Errorf("%s: found %q, want %q", name, m.ID, want)
		}
	}
}

// How servers are told to start.
func TestSettings(t *testing.T) {
	t.Parallel()
	setup := Setup{Model: "org/m", Slots: 4, Context: 8192, CompressCache: true}
	for _, test := range []struct {
		kind *Kind
		want string
	}{
		{Ollama, "OLLAMA_NUM_PARALLEL=4 OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_FLASH_ATTENTION=1 OLLAMA_MAX_LOADED_MODELS=1 OLLAMA_KV_CACHE_TYPE=q8_0"},
		{VLLM, "vllm serve org/m --max-model-len 8192 --max-num-seqs 4 --gpu-memory-utilization 0.9 --kv-cache-dtype fp8"},
		{LlamaCpp, "llama-server -m MODEL.gguf --ctx-size 32768 --parallel 4 --n-gpu-layers 99 --flash-attn on --metrics --cache-type-k q8_0 --cache-type-v q8_0"},
		{OpenAI, ""},
	} {
		if got := strings.Join(test.kind.Settings(setup), " "); got != test.want {
			t.Errorf("%s: %s", test.kind.Name, got)
		}
	}
}

// Servers may report anything about their models: nothing breaks.
func FuzzOllamaShown(f *testing.F) {
	f.Add(`{"model_info":{"general.architecture":"llama","llama.block_count":2,"llama.attention.head_count_kv":[1,2],"llama.attention.key_length":-1}}`)
	f.Add(`{"parameters":"num_ctx 99999999999999999999","model_info":{"a.context_length":1e300}}`)
	f.Fuzz(func(t *testing.T, page string) {
		pages := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(page)) })
		base := &url.URL{Scheme: "http", Host: "server", Path: "/v1"}
		u := New(Config{Name: "u", Kind: Ollama, Bases: []*url.URL{base}, Transport: handlerTransport{pages}})
		u.Inspect(t.Context(), 0, []string{"m"})
	})
}

// A handlerTransport answers requests without a network.
type handlerTransport struct{ http.Handler }

func (h handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}
