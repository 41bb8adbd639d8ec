package fakellm

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
)

// Every endpoint answers with the JSON of its kind. TestCaptures covers those with captures.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, kind, path, body, want string }{
		{"chat", "openai", chatPath, chatBody, `"completion_tokens_details":{`},
		{"chat", "vllm", chatPath, chatBody, `"prompt_logprobs":null`},
		{"completions", "openai", "/v1/completions", `{"model":"tiny","prompt":"a"}`, `"object":"text_completion"`},
		{"completions", "vllm", "/v1/completions", `{"model":"tiny","prompt":"a"}`, `"stop_reason":null`},
		{"embeddings", "openai", "/v1/embeddings", `{"model":"tiny","input":[[1,2],[3]]}`, `"index":1}],"model":"tiny"`},
		{"embeddings of tokens", "openai", "/v1/embeddings", `{"model":"tiny","input":[1,2]}`, `"index":0}],"model":"tiny"`},
		{"embeddings", "vllm", "/v1/embeddings", `{"model":"tiny","input":"a"}`, `{"id":"embd-`},
		{"responses", "openai", "/v1/responses", `{"model":"tiny","input":"a"}`, `"object":"response"`},
		{"responses", "vllm", "/v1/responses", `{"model":"tiny","input":"a"}`, `"text":"Hello from the tiny test model."`},
		{"moderations", "openai", "/v1/moderations", `{"input":["a","b"]}`, `{"flagged":false`},
		{"rerank", "openai", "/v1/rerank", `{"model":"tiny","query":"q","documents":["a",{"text":"b"}]}`, `{"index":1,"relevance_score":0.5,"document":{"text":"b"}}`},
		{"rerank", "llamacpp", "/v1/rerank", `{"model":"tiny","query":"q","documents":["a"]}`, `"results":[{"index":0,"relevance_score":1}]`},
		{"tokenize", "vllm", "/tokenize", `{"prompt":"Hi"}`, `"max_model_len":4096`},
		{"show", "ollama", "/api/show", `{"model":"tiny"}`, `"llama.context_length":4096`},
	}
	for _, tt := range tests {
		t.Run(tt.name+", "+tt.kind, func(t *testing.T) {
			t.Parallel()
			resp := post(t, Start(t, tt.kind), tt.path, tt.body)
			body := all(t, resp)
			if resp.StatusCode != http.StatusOK || !json.Valid([]byte(body)) || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
		})
	}
}

// A stream has usage only if the request asks for it. With OpenAI, every chunk then has the key.
func TestUsage(t *testing.T) {
	t.Parallel()
	asking := strings.Replace(streamBody, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
	for kind, nulls := range map[string]int{"openai": 4, "vllm": 0, "ollama": 0, "llamacpp": 0} {
		s := Start(t, kind)
		s.Always(Text("a", "b").Usage(100, 7, 64))
		body := all(t, post(t, s, chatPath, asking))
		if got := strings.Count(body, `"usage":null`); got != nulls {
			t.Errorf("%s: %d nulls, want %d", kind, got, nulls)
		}
		if !strings.Contains(body, `"total_tokens":107`) || !strings.Contains(body, `"choices":[]`) {
			t.Errorf("%s: %s", kind, body)
		}
		if got := all(t, post(t, s, chatPath, streamBody)); strings.Contains(got, "usage") {
			t.Errorf("%s, usage not requested: %s", kind, got)
		}
	}
}

func TestEmbeddingVectors(t *testing.T) {
	t.Parallel()
	s := Start(t, "openai")
	var floats, coded struct {
		Data []struct{ Embedding json.RawMessage }
	}
	decode := func(body string, into any) {
		t.Helper()
		if err := json.Unmarshal([]byte(all(t, post(t, s, "/v1/embeddings", body))), into); err != nil {
			t.Fatal(err)
		}
	}
	decode(`{"model":"tiny","input":["a","b"],"dimensions":5}`, &floats)
	decode(`{"model":"tiny","input":["a","b"],"dimensions":5,"encoding_format":"base64"}`, &coded)
	for i := range 2 {
		var want []float32
		if err := json.Unmarshal(floats.Data[i].Embedding, &want); err != nil || len(want) != 5 {
			t.Fatalf("%s: %v", floats.Data[i].Embedding, err)
		}
		raw, err := base64.StdEncoding.DecodeString(strings.Trim(string(coded.Data[i].Embedding), `"`))
		if err != nil {
			t.Fatal(err)
		}
		for j, f := range want {
			if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:])); got != f {
				t.Errorf("vector %d[%d]: %v and %v", i, j, f, got)
			}
		}
	}
}

func TestTranscription(t *testing.T) {
	t.Parallel()
	const form = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n" +
		"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n%s--x--\r\n"
	s := Start(t, "openai", Models("whisper"))
	transcribe := func(fields string) (contentType, body string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/v1/audio/transcriptions", strings.NewReader(fmt.Sprintf(form, fields)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.Header.Get("Content-Type"), all(t, resp)
	}
	if _, body := transcribe(""); body != `{"text":"Hello from the tiny test model.","usage":{"type":"duration","seconds":1}}` {
		t.Errorf("got %s", body)
	}
	srt := "--x\r\nContent-Disposition: form-data; name=\"response_format\"\r\n\r\nsrt\r\n"
	if contentType, body := transcribe(srt); !strings.HasPrefix(contentType, "text/plain") || body != "Hello from the tiny test model.\n" {
		t.Errorf("got %s: %s", contentType, body)
	}
	if _, body := transcribe("garbage"); !strings.Contains(body, "could not parse") {
		t.Errorf("a damaged form: %s", body)
	}
}

// Streams of typed events end with a typed event and without [DONE].
func TestTypedStreams(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"openai", "ollama", "vllm", "llamacpp"} {
		s := Start(t, kind)
		s.Next(Text("a"), Text("a").NoFinish(), Text("a").ErrorEventAfter(1))
		ask := func() string {
			return all(t, post(t, s, "/v1/responses", `{"model":"tiny","input":"a","stream":true}`))
		}
		if body := ask(); !strings.Contains(body, "event: response.completed\n") || strings.Contains(body, "[DONE]") {
			t.Errorf("%s: %s", kind, body)
		}
		if body := ask(); strings.Contains(body, "response.completed") {
			t.Errorf("%s without a finish: %s", kind, body)
		}
		if body := ask(); strings.Contains(body, "response.output_text.done") || failed(body) == (kind == "ollama") {
			t.Errorf("%s with an error: %s", kind, body)
		}
	}
}

func failed(body string) bool {
	return strings.Contains(body, `"type":"error"`) || strings.Contains(body, `"error":{`) || strings.Contains(body, `{"error": {`)
}
