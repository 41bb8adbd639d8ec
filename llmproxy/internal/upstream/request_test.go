package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

func endpoint(t testing.TB, path string) *openai.Endpoint {
	t.Helper()
	e, ok := openai.LookupEndpoint(path)
	if !ok {
		t.Fatalf("no endpoint %s", path)
	}
	return e
}

// templateOf returns the template for a client's request.
func templateOf(t testing.TB, path, body string) *Template {
	t.Helper()
	head := new(openai.Request)
	if err := head.Parse([]byte(body)); err != nil {
		t.Fatal(err)
	}
	return &Template{Endpoint: endpoint(t, path), ID: "req_1", Header: http.Header{}, JSON: head}
}

// sent reads a request's body twice, because a transport may send it again.
func sent(t testing.TB, req *http.Request) string {
	t.Helper()
	first, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	again, err := req.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	second, err := io.ReadAll(again)
	if err != nil || string(second) != string(first) {
		t.Errorf("GetBody returned %q, %v, want %q", second, err, first)
	}
	if int64(len(first)) != req.ContentLength {
		t.Errorf("%d bytes, Content-Length %d", len(first), req.ContentLength)
	}
	return string(first)
}

func TestRequestBody(t *testing.T) {
	t.Parallel()
	const chat, embeddings = "/v1/chat/completions", "/v1/embeddings"
	param := func(name, value string) Param { return Param{Name: name, Value: []byte(value)} }
	for _, tt := range []struct {
		name, path, body string
		config           Config
		maxOutput        int
		want             string
	}{
		{"nothing to change", chat, `{ "model":"there", "x":0.0, "y":1e2 }`, Config{Kind: OpenAI}, 0, `{ "model":"there", "x":0.0, "y":1e2 }`},
		{"model", chat, `{"x":0.0,"model":"m","y":[1, 2]}`, Config{Kind: OpenAI}, 0, `{"x":0.0,"model":"there","y":[1, 2]}`},
		{"usage requested", chat, `{"model":"m","stream":true}`, Config{Kind: OpenAI}, 0,
			`{"model":"there","stream":true,"stream_options":{"include_usage":true}}`},
		{"usage requested with other options", chat, `{"model":"m","stream":true,"stream_options":{"a":1}}`, Config{Kind: OpenAI}, 0,
			`{"model":"there","stream":true,"stream_options":{"a":1,"include_usage":true}}`},
		{"usage requested by the client", chat, `{"model":"m","stream":true,"stream_options":{"include_usage": true}}`, Config{Kind: OpenAI}, 0,
			`{"model":"there","stream":true,"stream_options":{"include_usage": true}}`},
		{"not a stream", chat, `{"model":"m","stream":false}`, Config{Kind: OpenAI}, 0, `{"model":"there","stream":false}`},
		{"endpoint that always reports usage", "/v1/responses", `{"model":"m","stream":true}`, Config{Kind: OpenAI}, 0, `{"model":"there","stream":true}`},
		{"default parameter", chat, `{"model":"m"}`, Config{Kind: OpenAI, Params: []Param{param("temperature", "0.2"), param("stop", `["a"]`)}}, 0,
			`{"model":"there","temperature":0.2,"stop":["a"]}`},
		{"default parameter that the client sets", chat, `{"temperature":null,"model":"m"}`, Config{Kind: OpenAI, Params: []Param{param("temperature", "0.2")}}, 0,
			`{"temperature":null,"model":"there"}`},
		{"dropped parameters", chat, `{"model":"m","logit_bias":{"1":2},"user":"u"}`, Config{Kind: OpenAI, Drop: []string{"logit_bias", "user", "seed"}}, 0, `{"model":"there"}`},
		{"dropped default parameter", chat, `{"model":"m"}`, Config{Kind: OpenAI, Params: []Param{param("user", `"u"`)}, Drop: []string{"user"}}, 0, `{"model":"there"}`},
		{"max_completion_tokens for ollama", chat, `{"model":"m","max_completion_tokens":5}`, Config{Kind: Ollama}, 0, `{"model":"there","max_tokens":5}`},
		{"max_completion_tokens and max_tokens for ollama", chat, `{"max_tokens":7,"model":"m","max_completion_tokens":5}`, Config{Kind: Ollama}, 0, `{"model":"there","max_tokens":5}`},
		{"max_completion_tokens for others", chat, `{"model":"m","max_completion_tokens":5}`, Config{Kind: VLLM}, 0, `{"model":"there","max_completion_tokens":5}`},
		{"clamped max_tokens", chat, `{"model":"m","max_tokens":9000}`, Config{Kind: VLLM}, 100, `{"model":"there","max_tokens":100}`},
		{"clamped max_completion_tokens", chat, `{"model":"m","max_completion_tokens":9000}`, Config{Kind: VLLM}, 100, `{"model":"there","max_completion_tokens":100}`},
		{"clamped for ollama", chat, `{"model":"m","max_completion_tokens":9000}`, Config{Kind: Ollama}, 100, `{"model":"there","max_tokens":100}`},
		{"clamped without a maximum", chat, `{"model":"m"}`, Config{Kind: VLLM}, 100, `{"model":"there","max_tokens":100}`},
		{"embeddings", embeddings, `{"input":["a"],"model":"m"}`, Config{Kind: OpenAI}, 0, `{"input":["a"],"model":"there"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := upstreamAt(t, tt.config, "http://gpu:8000")
			template := templateOf(t, tt.path, tt.body)
			template.MaxOutput = tt.maxOutput
			for range 2 { // an attempt must not affect the next one
				req := u.NewRequest(t.Context(), template, u.Replicas[0], "there")
				if got := sent(t, req); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			}
		})
	}
}

// Of the client's headers, only those on the list are forwarded.
func TestRequestHeader(t *testing.T) {
	t.Parallel()
	template := templateOf(t, "/v1/chat/completions", `{"model":"m"}`)
	template.Header = http.Header{
		"Authorization": {"Bearer of-the-client"}, "Cookie": {"a=b"}, "X-Api-Key": {"k"}, "X-Forwarded-For": {"1.2.3.4"}, "Forwarded": {"for=1.2.3.4"},
		"User-Agent": {"OpenAI/Python"}, "Accept-Encoding": {"gzip"}, "Content-Type": {"text/plain"}, "Content-Encoding": {"gzip"}, "Content-Length": {"7"},
		"Connection": {"close"}, "Host": {"evil"}, "Openai-Organization": {"org"}, "X-Stainless-Lang": {"python"}, "X-Request-Id": {"of-the-client"},
		"Accept": {"text/event-stream"}, "Openai-Beta": {"assistants=v2"}, "Idempotency-Key": {"i"}, "Traceparent": {"00-1-2-01"}, "Tracestate": {"s"},
	}
	changed := ""
	u := upstreamAt(t, Config{Kind: OpenAI, APIKey: "ours", HeaderUp: func(req *http.Request) {
		changed = req.Header.Get("Authorization")
		req.Header.Set("X-Mine", "1")
	}}, "https://api.example.com/openai/v1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req := u.NewRequest(ctx, template, u.Replicas[0], "there")
	want := http.Header{
		"Accept": {"text/event-stream"}, "Openai-Beta": {"assistants=v2"}, "Idempotency-Key": {"i"}, "Traceparent": {"00-1-2-01"}, "Tracestate": {"s"},
		"Authorization": {"Bearer ours"}, "Content-Type": {"application/json"}, "Accept-Encoding": {"identity"}, "User-Agent": {"caddy-llmproxy"},
		"X-Request-Id": {"req_1"}, "X-Mine": {"1"},
	}
	if diff := cmp.Diff(want, req.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if changed != "Bearer ours" {
		t.Errorf("header_up ran before the other headers were set: it saw %q", changed)
	}
	if req.Method != http.MethodPost || req.URL.String() != "https://api.example.com/openai/v1/chat/completions" || req.Host != "api.example.com" || req.Context() != ctx {
		t.Errorf("got %s %s, host %s", req.Method, req.URL, req.Host)
	}
	if len(template.Header) != 20 {
		t.Errorf("the client's header was changed: %v", template.Header)
	}
	if u := upstreamAt(t, Config{Kind: VLLM}, "gpu"); u.NewRequest(ctx, template, u.Replicas[0], "m").Header["Authorization"] != nil {
		t.Error("an Authorization header although no key is configured")
	}
}

// A form keeps its boundary.
func TestRequestForm(t *testing.T) {
	t.Parallel()
	template := &Template{Endpoint: endpoint(t, "/v1/audio/transcriptions"), ID: "req_1",
		Header: http.Header{"Content-Type": {"multipart/form-data; boundary=x"}},
		Form:   func(model string) Payload { return reqbody.NewPayload([][]byte{[]byte("a form with " + model)}, nil) }}
	u := upstreamAt(t, Config{Kind: OpenAI}, "gpu")
	req := u.NewRequest(t.Context(), template, u.Replicas[0], "whisper")
	if got := sent(t, req); got != "a form with whisper" || req.Header.Get("Content-Type") != "multipart/form-data; boundary=x" {
		t.Errorf("got %q as %s", got, req.Header.Get("Content-Type"))
	}
}

// Requests go to the base URL of their replica, or to the first one if the replica is unknown.
func TestRequestReplica(t *testing.T) {
	t.Parallel()
	u := upstreamAt(t, Config{Kind: VLLM}, "http://a:1", "http://b:2/base")
	template := templateOf(t, "/v1/chat/completions", `{"model":"m"}`)
	for r, want := range map[*replica.Replica]string{
		u.Replicas[0]: "http://a:1/v1/chat/completions",
		u.Replicas[1]: "http://b:2/base/chat/completions",
		{}:            "http://a:1/v1/chat/completions",
	} {
		if got := u.NewRequest(t.Context(), template, r, "m").URL.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestRequestAllocations(t *testing.T) {
	u := upstreamAt(t, Config{Kind: OpenAI, APIKey: "k"}, "gpu")
	template := templateOf(t, "/v1/chat/completions", `{"messages":[{"role":"user","content":"Hi"}],"model":"m","stream":true}`)
	allocs := testing.AllocsPerRun(100, func() { u.NewRequest(t.Context(), template, u.Replicas[0], "there") })
	// The request and its URL, the header and its values, the body's segments and readers.
	if allocs > 20 {
		t.Errorf("%v allocations a request, want at most 20", allocs)
	}
}

// A coder is a transport that answers with a content coding that was not requested.
type coder struct {
	coding string
	body   []byte
	closed bool
}

func (p *coder) RoundTrip(*http.Request) (*http.Response, error) {
	h := http.Header{"Content-Type": {"application/json"}, "Content-Length": {"1"}}
	if p.coding != "" {
		h["Content-Encoding"] = []string{p.coding}
	}
	return &http.Response{StatusCode: http.StatusOK, ContentLength: int64(len(p.body)), Header: h, Body: p.packed()}, nil
}

func (p *coder) packed() io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(p.body), closing(func() { p.closed = true })}
}

type closing func()

func (c closing) Close() error { c(); return nil }

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestContentCoding(t *testing.T) {
	t.Parallel()
	packed := zipped(t, `{"a":1}`)
	for _, tt := range []struct {
		name, coding string
		body         []byte
		want         string
		err          error  // of reading
		refused      string // a part of the error
	}{
		{name: "none", body: []byte("plain"), want: "plain"},
		{name: "identity", coding: "identity", body: []byte("plain"), want: "plain"},
		{name: "gzip", coding: "gzip", body: packed, want: `{"a":1}`},
		{name: "x-gzip", coding: "X-GZIP", body: packed, want: `{"a":1}`},
		{name: "gzip without a body", coding: "gzip"},
		{name: "truncated gzip", coding: "gzip", body: packed[:len(packed)-6], want: `{"a":1}`, err: io.ErrUnexpectedEOF},
		{name: "invalid gzip", coding: "gzip", body: []byte(strings.Repeat("plain", 9)), err: gzip.ErrHeader},
		{name: "other coding", coding: "br", body: []byte("x"), refused: `Content-Encoding "br", which was not requested`},
		{name: "two codings", coding: "gzip, br", body: []byte("x"), refused: `Content-Encoding "gzip, br"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := &coder{coding: tt.coding, body: tt.body}
			u := &Upstream{Config: Config{Transport: p}}
			res, err := u.RoundTrip(nil)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) || !p.closed {
					t.Fatalf("got %v, closed %v; want an error with %q", err, p.closed, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
			if tt.coding != "" && tt.coding != "identity" && (res.ContentLength != -1 || res.Header["Content-Length"] != nil || res.Header["Content-Encoding"] != nil) {
				t.Errorf("length %d, header %v", res.ContentLength, res.Header)
			}
			if res.Body.Close(); !p.closed {
				t.Error("the answer was not closed")
			}
		})
	}
}

// A large translation of a request reserves its memory for as long as it may be sent, and is refused without it.
func TestTranslationReservesMemory(t *testing.T) {
	t.Parallel()
	large := `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"` + strings.Repeat("x", 100<<10) + `"}]}`
	small := `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}`
	for _, test := range []struct {
		name    string
		kind    *Kind
		body    string
		maximum int64
		held    int64
		refused bool
	}{
		{"translated", Anthropic, large, 1 << 20, int64(len(large)), false},
		{"no memory", Anthropic, large, 64 << 10, 0, true},
		{"small", Anthropic, small, 0, 0, false},
		{"spliced", OpenAI, large, 0, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			usage := new(memory.Usage)
			template := templateOf(t, "/v1/chat/completions", test.body)
			template.Answers = memory.NewAccount(usage, test.maximum)
			u := New(Config{Name: "u", Kind: test.kind})
			for range 2 { // each attempt translates anew
				err := u.Prepare(template, "m")
				if (err != nil) != test.refused || err != nil && err.Status != http.StatusServiceUnavailable || usage.Bytes() != test.held {
					t.Fatalf("%v with %d bytes reserved, want refused %t with %d", err, usage.Bytes(), test.refused, test.held)
				}
			}
			template.Release()
			template.Release()
			if usage.Bytes() != 0 {
				t.Errorf("%d bytes are left", usage.Bytes())
			}
		})
	}
}
