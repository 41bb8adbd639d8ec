package upstream

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A site is what a server answers by path. Paths that are missing are 404.
type site map[string]string

const (
	ollamaRoot     = "Ollama is running"
	ollamaVersion  = `{"version":"0.32.15"}`
	ollamaModels   = `{"object":"list","data":[{"id":"tiny:latest","object":"model","created":1795424779,"owned_by":"library"},{"id":"hf.co/alice/m:Q4","object":"model","created":1,"owned_by":"alice"}]}`
	vllmModels     = `{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"vllm","root":"m","parent":null,"max_model_len":4096,"permission":[]}]}`
	llamaCppModels = `{"models":[],"object":"list","data":[{"id":"tiny","object":"model","created":1,"owned_by":"llamacpp","meta":{"n_ctx":2048}}]}`
	llamaCppPage   = `{"default_generation_settings":{"n_ctx":2048},"total_slots":2}`
	loadingPage    = `503 {"error":{"message":"Loading model","type":"unavailable_error","code":503}}`
)

// ownedBy is a list of one model.
func ownedBy(owner, id string) string {
	return `{"object":"list","data":[{"id":"` + id + `","object":"model","created":1,"owned_by":"` + owner + `"}]}`
}

// A server is what several signs say, because many imitate another one's API. While the gateway looks, nothing generates.
func TestDetectKind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		want   *Kind
		server string // the header
		site   site
	}{
		{"Ollama", Ollama, "", site{"/": ollamaRoot, "/api/version": ollamaVersion, "/v1/models": ollamaModels}},
		{"Ollama behind nginx", Ollama, "nginx/1.27", site{"/": ollamaRoot, "/api/version": ollamaVersion, "/v1/models": ollamaModels}},
		{"Ollama behind Caddy", Ollama, "Caddy", site{"/": ollamaRoot, "/api/version": ollamaVersion, "/v1/models": ollamaModels}},
		{"Ollama without models", Ollama, "", site{"/": ollamaRoot, "/api/version": ollamaVersion, "/v1/models": `{"object":"list","data":null}`}},
		{"Ollama whose list is protected", Ollama, "", site{"/": ollamaRoot, "/api/version": ollamaVersion, "/v1/models": "401 {}"}},
		{"Ollama before it had a list in this format", Ollama, "", site{"/": ollamaRoot, "/api/version": `{"version":"0.1.20"}`}},
		{"Ollama behind a proxy for its API only", Ollama, "", site{"/api/version": ollamaVersion, "/v1/models": ollamaModels}},
		{"only a version", OpenAI, "", site{"/api/version": ollamaVersion}},
		{"a version and a web page", OpenAI, "", site{"/": "<html>", "/api/version": ollamaVersion, "/v1/models": ollamaModels}},
		{"KoboldCpp", OpenAI, "ConcedoLlamaForKoboldServer", site{"/": "<html>", "/api/version": `{"version":"0.7.0"}`, "/api/ps": `{"models":[]}`, "/api/tags": `{"models":[{"name":"koboldcpp","model":"m:latest"}]}`,
			"/props": llamaCppPage, "/api/extra/version": `{"result":"KoboldCpp","version":"1.90"}`, "/v1/models": ownedBy("koboldcpp", "koboldcpp/m")}},
		{"KoboldCpp behind nginx", OpenAI, "nginx", site{"/api/version": `{"version":"0.7.0"}`, "/props": llamaCppPage, "/api/extra/version": `{"result":"KoboldCpp"}`, "/v1/models": ownedBy("koboldcpp", "koboldcpp/m")}},
		{"KoboldCpp that imitates more", OpenAI, "", site{"/": ollamaRoot, "/api/version": `{"version":"0.7.0"}`, "/api/extra/version": `{"result":"KoboldCpp"}`, "/v1/models": ollamaModels}},
		{"KoboldCpp without a list", OpenAI, "", site{"/api/version": `{"version":"0.7.0"}`, "/props": llamaCppPage, "/api/extra/version": `{"result":"KoboldCpp"}`}},
		{"llama-swap", OpenAI, "", site{"/": "<html>", "/health": "OK", "/api/version": `{"version":"180","commit":"abc","build_date":"x"}`, "/v1/models": ownedBy("llama-swap", "m")}},
		{"llama-swap without models", OpenAI, "", site{"/": ollamaRoot, "/api/version": `{"version":"180","commit":"abc","build_date":"x"}`, "/v1/models": `{"object":"list","data":[]}`}},
		{"LocalAI, which answers as Ollama at /", OpenAI, "", site{"/": ollamaRoot, "/version": `{"version":"v4"}`, "/api/version": `{"version":"0.9.0"}`, "/v1/models": `{"object":"list","data":[{"id":"gpt-4","object":"model"}]}`}},
		{"LM Studio", OpenAI, "", site{"/v1/models": ownedBy("organization_owner", "qwen2.5-7b"), "/api/v0/models": `{"data":[]}`, "/api/version": ollamaVersion}},
		{"a program with Express and Ollama's answers", OpenAI, "express", site{"/": ollamaRoot, "/api/version": ollamaVersion, "/v1/models": ollamaModels}},
		{"a Python program with Ollama's answers", OpenAI, "uvicorn", site{"/": ollamaRoot, "/api/version": ollamaVersion, "/v1/models": ollamaModels}},
		{"Open WebUI", OpenAI, "uvicorn", site{"/": "<html>", "/api/version": `{"version":"0.12.4","deployment_id":""}`, "/health": `{"status":true}`, "/v1/models": "401 {}"}},
		{"a page at every path", OpenAI, "", site{"/": "<html>", "/api/version": "<html>", "/version": "<html>", "/props": "<html>", "/metrics": "<html>", "/v1/models": "<html>"}},
		{"another object at the path", OpenAI, "", site{"/": ollamaRoot, "/api/version": `{"v":1}`}},

		{"vLLM", VLLM, "uvicorn", site{"/version": `{"version":"0.12"}`, "/v1/models": vllmModels}},
		{"vLLM with an adapter", VLLM, "uvicorn", site{"/version": `{"version":"0.12"}`, "/v1/models": `{"data":[{"id":"m","owned_by":"vllm"},{"id":"lora","owned_by":"vllm","parent":"m"}]}`}},
		{"vLLM whose key is missing", VLLM, "uvicorn", site{"/version": `{"version":"0.12"}`, "/v1/models": `401 {"error":"Unauthorized"}`, "/metrics": "# HELP x\nvllm:num_requests_running 0\n"}},
		{"only a version at vLLM's path", OpenAI, "", site{"/version": `{"version":"0.12"}`}},
		{"LocalAI", OpenAI, "", site{"/version": `{"version":"v4"}`, "/v1/models": `{"object":"list","data":[{"id":"gpt-4","object":"model"}]}`}},
		{"SGLang", OpenAI, "uvicorn", site{"/v1/models": ownedBy("sglang", "m"), "/metrics": "sglang:num_running_reqs 0\n"}},
		{"TensorRT-LLM", OpenAI, "uvicorn", site{"/version": `{"version":"1.0"}`, "/v1/models": ownedBy("tensorrt_llm", "m")}},
		{"Aphrodite", OpenAI, "uvicorn", site{"/version": `{"version":"0.9"}`, "/v1/models": ownedBy("pygmalionai", "m"), "/metrics": "aphrodite:x 0\n"}},
		{"LMDeploy", OpenAI, "uvicorn", site{"/v1/models": ownedBy("lmdeploy", "m")}},
		{"vLLM's models in a gateway without its version", OpenAI, "", site{"/v1/models": vllmModels}},
		{"vLLM's models among others", OpenAI, "", site{"/version": `{"version":"1"}`, "/v1/models": `{"data":[{"id":"m","owned_by":"vllm"},{"id":"n","owned_by":"openai"}]}`}},

		{"llama.cpp", LlamaCpp, "llama.cpp", site{"/props": llamaCppPage, "/v1/models": llamaCppModels}},
		{"llama.cpp behind a proxy", LlamaCpp, "nginx", site{"/props": llamaCppPage, "/v1/models": llamaCppModels}},
		{"llama.cpp as a router without models", LlamaCpp, "llama.cpp", site{"/props": llamaCppPage, "/v1/models": `{"data":[],"object":"list"}`}},
		{"llama.cpp that is loading", LlamaCpp, "llama.cpp", site{"/props": loadingPage, "/v1/models": loadingPage}},
		{"only properties", OpenAI, "", site{"/props": llamaCppPage}},
		{"llama.cpp's list only", OpenAI, "", site{"/v1/models": llamaCppModels}},
		{"llama-cpp-python", OpenAI, "uvicorn", site{"/v1/models": ownedBy("me", "m")}},
		{"TabbyAPI", OpenAI, "uvicorn", site{"/v1/models": ownedBy("tabbyAPI", "m"), "/health": `{"status":"healthy"}`, "/props": llamaCppPage}},
		{"mlx_lm.server", OpenAI, "BaseHTTP/0.6 Python/3.12", site{"/v1/models": `{"object":"list","data":[{"id":"mlx-community/m","object":"model","created":1}]}`, "/health": `{"status":"ok"}`}},
		{"text-generation-webui", OpenAI, "uvicorn", site{"/v1/models": ownedBy("user", "m")}},
		{"a service", OpenAI, "cloudflare", site{"/v1/models": ownedBy("system", "gpt-4o")}},
		{"a service that wants a key", OpenAI, "cloudflare", site{"/v1/models": `401 {"error":{"message":"no key"}}`}},
		{"nothing but chat", OpenAI, "", nil},

		{"a proxy before a server that starts", nil, "nginx", site{"/v1/models": "502 <html>", "/": "502 <html>", "/api/version": "502 <html>", "/version": "502 <html>", "/props": "502 <html>"}},
		{"a server that is not ready", nil, "", site{"/v1/models": `503 {"detail":"starting"}`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var paths []string
			u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.Method != http.MethodGet || strings.Contains(req.URL.Path, "health") || req.Header.Get("Accept-Encoding") != "identity" {
					t.Errorf("%s %s with %v: SGLang and LiteLLM generate for /health", req.Method, req.URL.Path, req.Header)
				}
				paths = append(paths, req.URL.Path)
				status, body := 200, cmp.Or(tt.site[req.URL.Path], "404 404 page not found")
				for code, text := range map[int]string{401: "401 ", 404: "404 ", 502: "502 ", 503: "503 "} {
					if rest, ok := strings.CutPrefix(body, text); ok {
						status, body = code, rest
					}
				}
				res := answer(status, body)
				switch tt.server {
				case "":
				case "express":
					res.Header.Set("X-Powered-By", "Express")
				default:
					res.Header.Set("Server", tt.server)
				}
				return res, nil
			})}, "gpu")
			list := (&probe{ctx: t.Context(), u: u, base: u.Bases[0]}).list()
			k, err := (&probe{ctx: t.Context(), u: u, base: u.Bases[0]}).detectKind(list)
			if k != tt.want || (err == nil) != (tt.want != nil) {
				t.Errorf("detected %v, %v", k, err)
			}
			if len(paths) > 7 || strings.Contains(tt.name, "service") && list.answered() && len(paths) > 1 {
				t.Errorf("asked for %q", paths)
			}
			slices.Sort(paths)
			if len(slices.Compact(slices.Clone(paths))) != len(paths) {
				t.Errorf("asked twice: %q", paths)
			}
		})
	}
}

// An unreachable server leaves the kind unknown.
func TestDetectKindUnreachable(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, refused })}, "gpu")
	if found := u.Discover(t.Context()); !errors.Is(found.Err, refused) || u.kind.Load() != nil {
		t.Errorf("got %v, kind %v", found.Err, u.kind.Load())
	}
}

// An address with its own path is the base of an API, and other paths are not probed.
func TestDetectKindAtBase(t *testing.T) {
	t.Parallel()
	var paths []string
	u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		paths = append(paths, req.URL.Path)
		return answer(200, `{"data":[]}`), nil
	})}, "https://api.example.com/openai/v1")
	if u.Discover(t.Context()); u.kind.Load() != OpenAI || strings.Join(paths, " ") != "/openai/v1/models" {
		t.Errorf("kind %v, requests for %q", u.kind.Load(), paths)
	}
}

// A probe that hangs costs neither the list of models nor much time. The kind stays unknown, and is asked for again soon.
func TestDetectionDoesNotCostTheList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var paths []string
		hangs := true
		u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			paths = append(paths, req.URL.Path)
			switch req.URL.Path {
			case "/v1/models":
				return answer(200, ollamaModels), nil
			case "/api/version":
				if hangs {
					<-req.Context().Done()
					return nil, req.Context().Err()
				}
				return answer(200, ollamaVersion), nil
			case "/":
				return answer(200, ollamaRoot), nil
			}
			return answer(404, "404 page not found"), nil
		})}, "gpu")
		start := time.Now()
		found := u.Discover(t.Context())
		if len(found.Models) != 2 || found.Err != nil || u.kind.Load() != nil || time.Since(start) != probeTimeout {
			t.Errorf("%+v after %v, kind %v", found, time.Since(start), u.kind.Load())
		}
		hangs = false
		u.Discover(t.Context())
		synctest.Wait()
		if u.kind.Load() != nil {
			t.Errorf("asked again at once: %q", paths)
		}
		<-time.After(discoveryRetry)
		u.Discover(t.Context())
		synctest.Wait()
		if u.kind.Load() != Ollama {
			t.Errorf("kind %v after %q", u.kind.Load(), paths)
		}
	})
}

// A replica that hangs does not take the time of the others.
func TestDiscoverWithAReplicaThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := upstreamAt(t, Config{Name: "u", Kind: Auto, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			switch {
			case req.URL.Host == "hangs":
				<-req.Context().Done()
				return nil, req.Context().Err()
			case req.URL.Path == "/v1/models":
				return answer(200, llamaCppModels), nil
			case req.URL.Path == "/props":
				return answer(200, llamaCppPage), nil
			}
			return answer(404, ""), nil
		})}, "hangs", "answers")
		found := u.Discover(t.Context())
		if len(found.Models) != 1 || found.Err != nil || u.kind.Load() != LlamaCpp {
			t.Errorf("%+v, kind %v", found, u.kind.Load())
		}
	})
}

// A server at a usual port is asked what it is only after it was absent.
func TestOptionalIsDetectedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var paths []string
		down := false
		u := upstreamAt(t, Config{Name: "u", Kind: VLLM, Optional: true, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			paths = append(paths, req.URL.Path)
			switch {
			case down:
				return nil, errors.New("refused")
			case req.URL.Path == "/v1/models":
				return answer(200, vllmModels), nil
			}
			return answer(200, `{"version":"1"}`), nil
		})}, "gpu")
		discover := func(present bool, want ...string) {
			t.Helper()
			paths = nil
			<-time.After(discoveryFresh)
			u.Discover(t.Context())
			synctest.Wait()
			if found := u.Discover(t.Context()); found.Present != present || !slices.Equal(paths, want) {
				t.Errorf("%+v, asked for %q", found, paths)
			}
		}
		discover(true, "/v1/models", "/version")
		discover(true, "/v1/models")
		down = true
		discover(false, "/v1/models")
		down = false
		discover(true, "/v1/models", "/version")
	})
}
