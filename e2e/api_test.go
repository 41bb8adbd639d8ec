package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestChat(t *testing.T) {
	g := sharedGateway(t)
	for _, s := range chatServers {
		t.Run(s.name, func(t *testing.T) {
			answer := chat(t, g.url, `{"model":"`+s.model+`","messages":[{"role":"user","content":"hi"}]}`)
			c := answer.completion(t)
			if got := c.Choices[0]; got.Message.Content != hello || got.FinishReason != "stop" {
				t.Errorf("got %+v", got)
			}
			if c.Usage == nil || c.Usage.CompletionTokens == 0 {
				t.Errorf("usage is %+v", c.Usage)
			}
			wantHeaders(t, answer.header, s.target, "1", s.model)
		})
	}
}

func TestChatStream(t *testing.T) {
	g := sharedGateway(t)
	for _, s := range chatServers {
		for _, withUsage := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, include_usage %v", s.name, withUsage), func(t *testing.T) {
				options := ""
				if withUsage {
					options = `"stream_options":{"include_usage":true},`
				}
				stream := chatStream(t, t.Context(), g.url, `{"model":"`+s.model+`","stream":true,`+options+`"messages":[{"role":"user","content":"hi"}]}`)
				wantHeaders(t, stream.Header, s.target, "1", s.model)
				transcript := stream.readAll(t)
				transcript.wantComplete(t, hello, "stop")
				if transcript.pieces < 5 {
					t.Errorf("the text came in %d events", transcript.pieces)
				}
				// The gateway always asks the upstream for usage; a client that did not ask must not see it.
				if got := transcript.usage != nil; got != withUsage {
					t.Errorf("usage is %+v", transcript.usage)
				}
			})
		}
	}
}

// Ollama 0.11.4 ignores max_completion_tokens and would never end here; the gateway translates it to max_tokens.
func TestMaxCompletionTokens(t *testing.T) {
	g := sharedGateway(t)
	for _, s := range chatServers {
		t.Run(s.name, func(t *testing.T) {
			c := chat(t, g.url, `{"model":"`+s.model+`","max_completion_tokens":3,"messages":[{"role":"user","content":"LONG"}]}`).completion(t)
			if got := c.Choices[0]; normalized(got.Message.Content) != " one two three" || got.FinishReason != "length" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestCompletions(t *testing.T) {
	g := sharedGateway(t)
	for _, s := range chatServers {
		t.Run(s.name, func(t *testing.T) {
			answer := do(t, http.MethodPost, g.url+"/v1/completions", `{"model":"`+s.model+`","max_tokens":3,"prompt":"LONG"}`)
			var c struct{ Choices []struct{ Text string } }
			answer.into(t, &c)
			if len(c.Choices) != 1 || normalized(c.Choices[0].Text) != " one two three" {
				t.Errorf("got %d %s", answer.status, answer.body)
			}
		})
	}
}

// The client must receive the first tokens long before the last ones are generated.
func TestStreamIsNotHeldBack(t *testing.T) {
	g := sharedGateway(t)
	f := servers(t)
	mark := f.slow.log.mark()
	stream := chatStream(t, t.Context(), g.url, `{"model":"llama-slow","stream":true,"max_tokens":20,"messages":[{"role":"user","content":"LONG"}]}`)
	stream.readContent(t, 3)
	_, log, _ := strings.Cut(string(f.slow.log.since(mark)), "processing task") // the end of the request before may be logged late
	if strings.Contains(log, "stop processing") {
		t.Errorf("the third event arrived after the server had finished:\n%s", log)
	}
	stream.readAll(t).wantComplete(t, numbers+numbers, "length")
}

// Ollama answers 403 to an unknown Host or Origin, so neither may reach it.
func TestForeignHostAndOrigin(t *testing.T) {
	g := sharedGateway(t)
	answer := do(t, http.MethodPost, g.url+"/v1/chat/completions", `{"model":"ollama-chat","messages":[{"role":"user","content":"hi"}]}`,
		"Host", "llm.example.com", "Origin", "https://chat.example.com", "Cookie", "session=1", "Authorization", "Bearer of-the-client")
	if got := answer.completion(t).Choices[0].Message.Content; got != hello {
		t.Errorf("got %q", got)
	}
}

const weatherTool = `"tools":[{"type":"function","function":{"name":"get_weather","description":"The weather in a city",
	"parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]`

func TestTools(t *testing.T) {
	g := sharedGateway(t)
	for _, s := range chatServers {
		t.Run(s.name, func(t *testing.T) {
			question := `{"model":"` + s.model + `",` + weatherTool + `,"messages":[{"role":"user","content":"Weather?"}]`

			c := chat(t, g.url, question+`}`).completion(t)
			if c.Choices[0].FinishReason != "tool_calls" {
				t.Errorf("finish_reason is %q", c.Choices[0].FinishReason)
			}
			wantWeatherCall(t, c.Choices[0].Message.ToolCalls)

			transcript := chatStream(t, t.Context(), g.url, question+`,"stream":true}`).readAll(t)
			transcript.wantComplete(t, "", "tool_calls")
			wantWeatherCall(t, transcript.tools)
		})
		t.Run(s.name+", with the tool's result", func(t *testing.T) {
			c := chat(t, g.url, `{"model":"`+s.model+`",`+weatherTool+`,"messages":[
				{"role":"user","content":"Weather?"},
				{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Paris\"}"}}]},
				{"role":"tool","tool_call_id":"call_1","content":"21"}]}`).completion(t)
			if got := c.Choices[0].Message.Content; got != "It is 21 degrees!" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func wantWeatherCall(t *testing.T, calls []toolCall) {
	t.Helper()
	if len(calls) != 1 || calls[0].Function.Name != "get_weather" || calls[0].ID == "" {
		t.Fatalf("tool calls: %+v", calls)
	}
	if got := calls[0].Function.Arguments; got != `{"city":"Paris"}` && got != `{"city": "Paris"}` {
		t.Errorf("arguments: %s", got)
	}
}

// The gateway returns the vectors of the server, as numbers or as base64; Ollama 0.11.4 itself only has numbers.
func TestEmbeddings(t *testing.T) {
	g := sharedGateway(t)
	f := servers(t)
	for _, test := range []struct {
		name, model   string
		direct, there string // the server's URL, and the name of the model there
	}{
		{"ollama", "ollama-embed", f.ollama.url(), "tiny-embed:latest"},
		{"llamacpp", "llama-embed", f.embed.url(), "tiny-embed"},
	} {
		direct := embed(t, test.direct, test.there, "float")
		for _, format := range []string{"float", "base64"} {
			t.Run(test.name+", "+format, func(t *testing.T) {
				through := embed(t, g.url, test.model, format)
				if len(through) != 2 || !slices.EqualFunc(through, direct, slices.Equal) {
					t.Errorf("through the gateway\n%v, direct\n%v", through, direct)
				}
			})
		}
	}
}

// embed returns the vectors of two texts.
func embed(t *testing.T, base, model, format string) (vectors [][]float32) {
	t.Helper()
	answer := do(t, http.MethodPost, base+"/v1/embeddings", `{"model":"`+model+`","input":["one","another"],"encoding_format":"`+format+`"}`)
	var list struct {
		Data []struct{ Embedding json.RawMessage }
	}
	answer.into(t, &list)
	for _, d := range list.Data {
		var vector []float32
		var packed []byte
		read := any(&vector)
		if format == "base64" {
			read = &packed // encoding/json decodes base64 into bytes
		}
		if err := json.Unmarshal(d.Embedding, read); err != nil {
			t.Fatalf("status %d, embedding %s: %v", answer.status, d.Embedding, err)
		}
		for ; len(packed) >= 4; packed = packed[4:] {
			vector = append(vector, math.Float32frombits(binary.LittleEndian.Uint32(packed)))
		}
		if len(vector) != 64 {
			t.Errorf("%d dimensions in %s", len(vector), d.Embedding)
		}
		vectors = append(vectors, vector)
	}
	return vectors
}

func TestModels(t *testing.T) {
	g := sharedGateway(t)

	t.Run("configured and discovered", func(t *testing.T) {
		listed := modelIDs(t, g.url)
		for _, want := range []string{"ollama-chat", "llama-chat", "org/chat:v1", "tiny", "tiny:latest", "team/tiny:v1", "tiny-embed"} {
			if !slices.Contains(listed, want) {
				t.Errorf("%q is not in the list %q", want, listed)
			}
		}
	})

	for _, id := range []string{"llama-chat", "org/chat:v1", "team/tiny:v1"} {
		for name, path := range map[string]string{"unescaped": id, "escaped": url.PathEscape(id)} {
			t.Run("by id, "+name+", "+id, func(t *testing.T) {
				answer := do(t, http.MethodGet, g.url+"/v1/models/"+path, "")
				var model struct{ ID, Object string }
				answer.into(t, &model)
				if answer.status != http.StatusOK || model.ID != id || model.Object != "model" {
					t.Errorf("got %d %s", answer.status, answer.body)
				}
			})
		}
	}

	for id, target := range map[string]string{"org/chat:v1": "llama/tiny", "team/tiny:v1": "ollama/team/tiny:v1"} {
		t.Run("chat by the id "+id, func(t *testing.T) {
			answer := chat(t, g.url, `{"model":"`+id+`","messages":[{"role":"user","content":"hi"}]}`)
			if got := answer.completion(t).Choices[0].Message.Content; got != hello {
				t.Errorf("got %q", got)
			}
			if got := answer.header.Get("X-LLM-Target"); got != target {
				t.Errorf("X-LLM-Target is %q, want %q", got, target)
			}
		})
	}

	t.Run("unknown id", func(t *testing.T) {
		answer := do(t, http.MethodGet, g.url+"/v1/models/nobody/has:this", "")
		if failure := answer.failure(t); answer.status != http.StatusNotFound || failure.Code != "model_not_found" {
			t.Errorf("got %d %s", answer.status, answer.body)
		}
	})
}

// modelIDs returns the listed models once discovery, which runs in the background, has found those of the servers.
func modelIDs(t *testing.T, base string) (ids []string) {
	t.Helper()
	eventually(t, time.Minute, "the servers' own models in /v1/models", func() bool {
		var list struct{ Data []struct{ ID string } }
		do(t, http.MethodGet, base+"/v1/models", "").into(t, &list)
		ids = nil
		for _, m := range list.Data {
			ids = append(ids, m.ID)
		}
		return slices.Contains(ids, "tiny") || slices.Contains(ids, "tiny:latest")
	})
	return ids
}

func TestErrors(t *testing.T) {
	g := sharedGateway(t)
	long := strings.Repeat("x", 6000) // in the test models, a byte is a token
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		kind                     string // of the error
		code                     string
	}{
		{"unknown model", "POST", "/v1/chat/completions", `{"model":"nobody-has-this","messages":[]}`, 404, "invalid_request_error", "model_not_found"},
		// llama.cpp would answer with its only model.
		{"no model", "POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}]}`, 400, "invalid_request_error", "invalid_request"},
		// llama.cpp would answer 500, although the client is at fault.
		{"malformed JSON", "POST", "/v1/chat/completions", `{"model":"llama-chat",`, 400, "invalid_request_error", "invalid_request"},
		{"wrong method", "GET", "/v1/chat/completions", "", 405, "invalid_request_error", "method_not_allowed"},
		{"files", "GET", "/v1/files", "", 404, "invalid_request_error", "not_found"},
		// An upstream's refusal of the request itself reaches the client, with a status that SDKs do not retry.
		{"llama.cpp: context", "POST", "/v1/chat/completions", `{"model":"llama-chat","messages":[{"role":"user","content":"` + long + `"}]}`,
			400, "exceed_context_size_error", "400"},
		{"llama.cpp: context, stream", "POST", "/v1/chat/completions", `{"model":"llama-chat","stream":true,"messages":[{"role":"user","content":"` + long + `"}]}`,
			400, "exceed_context_size_error", "400"},
		{"llama.cpp: no embeddings here", "POST", "/v1/embeddings", `{"model":"llama-chat","input":"hi"}`, 400, "not_supported_error", "501"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := do(t, test.method, g.url+test.path, test.body)
			failure := answer.failure(t)
			if answer.status != test.status || failure.Type != test.kind || failure.Code != test.code || failure.Message == "" {
				t.Errorf("got %d %s, want %d, type %q, code %q", answer.status, answer.body, test.status, test.kind, test.code)
			}
		})
	}
}

// Ollama 0.11.4 silently truncates a prompt that is too long; the gateway does not change that.
func TestOllamaTruncates(t *testing.T) {
	g := sharedGateway(t)
	c := chat(t, g.url, `{"model":"ollama-chat","messages":[{"role":"user","content":"`+strings.Repeat("x", 6000)+`"}]}`).completion(t)
	if c.Usage == nil || c.Usage.PromptTokens != 4096 {
		t.Errorf("usage is %+v, want 4096 prompt tokens, the size of the context window", c.Usage)
	}
}

func TestNoUpstream(t *testing.T) {
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, fill(`
	llm_proxy {
		upstream gone llamacpp 127.0.0.1:PORT
		model gone gone/gone
	}`, "PORT", port))
	answer := chat(t, g.url, `{"model":"gone","messages":[{"role":"user","content":"hi"}]}`)
	failure := answer.failure(t)
	if answer.status != http.StatusServiceUnavailable || failure.Code != "no_upstream_available" || answer.header.Get("Retry-After") == "" {
		t.Errorf("got %d, Retry-After %q, %s", answer.status, answer.header.Get("Retry-After"), answer.body)
	}
}
