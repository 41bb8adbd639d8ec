package fakellm

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBenchmarkServer(t *testing.T) {
	t.Parallel()
	s := Start(t, "openai", Models("big"), Benchmark(Load{Bytes: 100_000, Tokens: 200}))
	resp := post(t, s, chatPath, chatBody)
	if body := all(t, resp); len(body) != 100_000 || resp.ContentLength != 100_000 || !strings.Contains(body, `"model":"big"`) {
		t.Errorf("%d bytes, Content-Length %d", len(body), resp.ContentLength)
	}
	asking := strings.Replace(streamBody, `"stream":true`, `"stream": true,"stream_options":{"include_usage":true}`, 1)
	for body, want := range map[string]string{
		streamBody: "r" + strings.Repeat("( word)( next)", 100) + "fd eof",
		asking:     "r" + strings.Repeat("( word)( next)", 100) + "fud eof",
	} {
		if got := outline(post(t, s, chatPath, body)); got != want {
			t.Errorf("got %q", got)
		}
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests were kept", n)
	}
	if code, _ := get(t, s, "/v1/models"); code != http.StatusOK {
		t.Errorf("models: %d", code)
	}
}

func TestBenchmarkEmbeddings(t *testing.T) {
	t.Parallel()
	s := Start(t, "openai", Benchmark(Load{Embeddings: 3, Dimensions: 16}))
	var got struct {
		Data []struct{ Embedding []float32 }
	}
	body := all(t, post(t, s, embeddingsPath, `{"model":"tiny","input":"a","encoding_format":"base64"}`))
	if err := json.Unmarshal([]byte(body), &got); err != nil || len(got.Data) != 3 || len(got.Data[2].Embedding) != 16 {
		t.Errorf("%v: %.200s", err, body)
	}
}

func TestBenchmarkTokenBytes(t *testing.T) {
	t.Parallel()
	s := Start(t, "openai", Benchmark(Load{Tokens: 1, TokenBytes: 200_000}))
	if body := all(t, post(t, s, chatPath, streamBody)); !strings.Contains(body, `"`+strings.Repeat("x", 200_000)+`"`) {
		t.Errorf("%.300s", body)
	}
}

// sink is a response writer that does not allocate.
type sink struct {
	header  http.Header
	flushes int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) Flush()                      { s.flushes++ }

func TestBenchmarkPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := New("vllm", Benchmark(Load{Tokens: 11, First: 50 * time.Millisecond, Interval: 10 * time.Millisecond}))
		begin := time.Now()
		w := &sink{header: http.Header{}}
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, chatPath, strings.NewReader(streamBody)))
		if d := time.Since(begin); d != 150*time.Millisecond || w.flushes != 14 {
			t.Errorf("%d flushes in %v", w.flushes, d)
		}
	})
}

// Not parallel, because it counts allocations. One and three are usual; the race detector makes pools drop some buffers.
func TestBenchmarkAllocations(t *testing.T) {
	s := New("openai", Benchmark(Load{Bytes: 1024, Tokens: 200}))
	for body, budget := range map[string]float64{chatBody: 4, streamBody: 8} {
		in := strings.NewReader(body)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, chatPath, nil)
		r.Body = nopCloser{in}
		w := &sink{header: http.Header{}}
		got := testing.AllocsPerRun(100, func() {
			in.Reset(body)
			s.ServeHTTP(w, r)
		})
		if got > budget {
			t.Errorf("%.0f allocations, budget %.0f", got, budget)
		}
	}
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }

func BenchmarkWhole(b *testing.B)  { benchmark(b, chatBody) }
func BenchmarkStream(b *testing.B) { benchmark(b, streamBody) }

func benchmark(b *testing.B, body string) {
	s := New("openai", Benchmark(Load{Bytes: 1024, Tokens: 200}))
	in := strings.NewReader(body)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, chatPath, nil)
	r.Body = nopCloser{in}
	w := &sink{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		in.Reset(body)
		s.ServeHTTP(w, r)
	}
}
