package fakellm

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

// Every endpoint answers JSON with what its kind is known by. (What the captures have is in TestCaptures.)
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
		{"images", "openai", "/v1/images/generations", `{"prompt":"a"}`, `"data":[{"b64_json":"QUJDQUJD`},
		{"images", "openai", "/v1/images/edits", `{"prompt":"a"}`, `"input_tokens_details":{`},
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

// Usage comes when it is asked for, and then OpenAI has the key in every chunk.
func TestUsage(t *testing.T) {
	t.Parallel()
	asking := strings.Replace(streamBody, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
	for kind, nulls := range map[string]int{"openai": 4, "vllm": 0, "ollama": 0, "llamacpp": 0} {
		s := Start(t, kind)
		s.Always(Text("a", "b").Usage(100, 7, 64))
		body := all(t, post(t, s, chatPath, asking))
		if got := strings.Count(body, `"usage":null`); got != nulls {
			t.Errorf("%s: %d times null, want %d", kind, got, nulls)
		}
		if !strings.Contains(body, `"total_tokens":107`) || !strings.Contains(body, `"choices":[]`) {
			t.Errorf("%s: %s", kind, body)
		}
		if got := all(t, post(t, s, chatPath, streamBody)); strings.Contains(got, "usage") {
			t.Errorf("%s, not asked: %s", kind, got)
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

// transcribe posts a form with the file before the model, as many clients do.
func transcribe(t *testing.T, s *Server, file []byte, fields ...string) *http.Response {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "a b.wav")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write(file)
	for i := 0; i < len(fields); i += 2 {
		_ = form.WriteField(fields[i], fields[i+1])
	}
	_ = form.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/v1/audio/transcriptions", &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestTranscription(t *testing.T) {
	t.Parallel()
	file := bytes.Repeat([]byte{0, 1, '\r', '\n', '-', '-', 255}, 100_000)
	sum := sha256.Sum256(file)
	s := Start(t, "openai")
	var got struct {
		Text, Model, Filename, SHA256, Fields string
		Size                                  int
	}
	if err := json.Unmarshal([]byte(all(t, transcribe(t, s, file, "model", "whisper", "language", "en"))), &got); err != nil {
		t.Fatal(err)
	}
	if got.Model != "whisper" || got.Size != len(file) || got.SHA256 != hex.EncodeToString(sum[:]) || got.Filename != "a b.wav" ||
		got.Fields != "file model language" || got.Text != "Hello from the tiny test model." {
		t.Errorf("got %+v", got)
	}
	resp := transcribe(t, s, file, "model", "whisper", "response_format", "srt")
	if body := all(t, resp); !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || json.Valid([]byte(body)) {
		t.Errorf("got %v %s", resp.Header, body)
	}
	if body := all(t, transcribe(t, s, file, "model", "whisper", "stream", "true")); !strings.Contains(body, `"type":"transcript.text.done"`) {
		t.Errorf("got %s", body)
	}
	vllm := Start(t, "vllm")
	if body := all(t, transcribe(t, vllm, file, "model", "whisper", "stream", "true")); !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("got %s", body)
	}
}

func TestSpeech(t *testing.T) {
	t.Parallel()
	s := Start(t, "openai")
	release := make(chan struct{})
	s.Next(Text("a", "b", "c").HoldAfter(1, release), Text("a").DropAfter(0))
	const body = `{"model":"tts","input":"Hi","voice":"alloy"}`
	resp := post(t, s, "/v1/audio/speech", body)
	first := make([]byte, 1024)
	if _, err := io.ReadFull(resp.Body, first); err != nil || !bytes.Equal(first, Speech(0)) {
		t.Errorf("the first piece: %v", err)
	}
	close(release)
	if rest := all(t, resp); rest != string(Speech(1))+string(Speech(2)) {
		t.Errorf("the rest has %d bytes", len(rest))
	}
	if b, err := io.ReadAll(post(t, s, "/v1/audio/speech", body).Body); err == nil {
		t.Errorf("dropped, yet it ended well after %d bytes", len(b))
	}
	events := all(t, post(t, s, "/v1/audio/speech", strings.Replace(body, "{", `{"stream_format":"sse",`, 1)))
	if strings.Count(events, "speech.audio.delta") != 6 || strings.Count(events, "speech.audio.done") != 1 {
		t.Errorf("got %s", events)
	}
}

// One line of an image's stream may be many megabytes.
func TestBigImage(t *testing.T) {
	t.Parallel()
	s := Start(t, "openai")
	s.Next(Text().Image(5 << 20))
	body := all(t, post(t, s, "/v1/images/generations", `{"model":"gpt-image-1","prompt":"a","stream":true}`))
	events := strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n")
	if len(events) != 2 || len(events[0]) < 5<<20 || !strings.HasPrefix(events[1], "event: image_generation.completed\n") {
		t.Errorf("%d events, %d bytes", len(events), len(body))
	}
}

// Streams of typed events end with an event of their own, and have no [DONE].
func TestTypedStreams(t *testing.T) {
	t.Parallel()
	for _, kind := range allKinds {
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
