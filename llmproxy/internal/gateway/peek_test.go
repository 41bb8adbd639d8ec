package gateway

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
)

// Whatever Peek finds, the body is there again afterwards, byte for byte.
func TestPeek(t *testing.T) {
	t.Parallel()
	const body = `{"model":"m","stream":true}`
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, method, body string
		header             []string
		limit              int64
		found              bool
	}{
		{"JSON", "POST", body, []string{"Content-Type", "application/json"}, 100, true},
		{"no type", "POST", body, nil, 100, true},
		{"exactly the limit", "POST", body, nil, int64(len(body)), true},
		{"over the limit", "POST", body, nil, int64(len(body)) - 1, false},
		{"zipped", "POST", zipped.String(), []string{"Content-Encoding", "gzip"}, 100, true},
		{"zipped over the limit", "POST", zipped.String(), []string{"Content-Encoding", "gzip"}, int64(len(body)) - 1, false},
		{"not zipped", "POST", body, []string{"Content-Encoding", "gzip"}, 100, false},
		{"a coding that nobody knows", "POST", body, []string{"Content-Encoding", "br"}, 100, false},
		{"a form", "POST", body, []string{"Content-Type", "multipart/form-data; boundary=b"}, 100, false},
		{"no JSON", "POST", "model=m", nil, 100, false},
		{"two models", "POST", `{"model":"m","model":"n"}`, nil, 100, false},
		{"GET", "GET", body, nil, 100, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, known := range []bool{true, false} {
				r := httptest.NewRequest(tt.method, "/", iotest.OneByteReader(strings.NewReader(tt.body)))
				if known {
					r.ContentLength = int64(len(tt.body))
				}
				for i := 0; i < len(tt.header); i += 2 {
					r.Header.Set(tt.header[i], tt.header[i+1])
				}
				head := reqbody.Peek(r, tt.limit, nil)
				if again := reqbody.Peek(r, tt.limit, nil); again != head {
					t.Error("a second look finds something else")
				}
				if head != nil != tt.found || head != nil && (head.Model != "m" || !head.Stream) {
					t.Errorf("found %+v", head)
				}
				if got, err := io.ReadAll(r.Body); err != nil || string(got) != tt.body {
					t.Errorf("then the body is %q, %v", got, err)
				}
			}
		})
	}
}

// A body that announces itself as too large is not read for a rule.
func TestPeekLeavesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "/", unreadable{t})
	if r.ContentLength = 101; reqbody.Peek(r, 100, nil) != nil {
		t.Error("something was found")
	}
}

func TestPeekKeepsTheError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("{"), iotest.ErrReader(broken)))
	if reqbody.Peek(r, 100, nil) != nil {
		t.Error("half a body was taken")
	}
	if got, err := io.ReadAll(r.Body); string(got) != "{" || !errors.Is(err, broken) {
		t.Errorf("then the body is %q, %v", got, err)
	}
}

// Bytes that a matcher has read are not read again, and the gateway bounds the body as well.
func TestServesWhatWasPeeked(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.config.MaxBody = 200
	s.serve("m u/x")
	handler := s.server.Config.Handler
	s.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reqbody.Peek(r, DefaultMaxBody, nil)
		handler.ServeHTTP(w, r)
	})
	if got := s.post("/v1/chat/completions", chat("m", true)); got.status != 200 || !strings.HasSuffix(got.body, "[DONE]\n\n") {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if got := string(fake.Requests()[0].Body); !strings.Contains(got, `"content":"Hi"`) || !strings.Contains(got, `"model":"x"`) {
		t.Errorf("the upstream got %s", got)
	}
	if got := s.post("/v1/chat/completions", strings.Replace(chat("m", false), "Hi", strings.Repeat("x", 200), 1)); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", got.status)
	}
	if got := s.post("/v1/chat/completions", `{"model":`); got.status != http.StatusBadRequest {
		t.Errorf("status %d", got.status)
	}
}
