package exchange

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A connection is a client's, with the body that it is sending.
type connection struct {
	*httptest.ResponseRecorder
	deadline time.Time
	left     int           // bytes of the body
	pause    time.Duration // before each read returns, by the clock of a synctest bubble
	size     int           // of each read
	read     int
}

func (c *connection) SetReadDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

func (c *connection) Read(p []byte) (int, error) {
	if wait := time.Until(c.deadline); c.pause > wait {
		time.Sleep(wait)
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(c.pause)
	n := min(len(p), c.size, c.left)
	c.left -= n
	c.read += n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func TestLinger(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, test := range []struct {
		name   string
		status int
		change func(*http.Request)
		body   connection
		length int64 // -1: unknown
		read   int
		took   time.Duration
	}{
		{"too large", 413, nil, connection{left: 30 * mib, size: mib}, 30 * mib, 30 * mib, 0},
		{"a wrong key", 401, nil, connection{left: 5 * mib, size: mib}, 5 * mib, 5 * mib, 0},
		{"of unknown length", 413, nil, connection{left: 2 * mib, size: mib}, -1, 2 * mib, 0},
		{"slow", 413, nil, connection{left: 5 * 32 << 10, size: 32 << 10, pause: time.Second}, 5 * mib, 5 * 32 << 10, 6 * time.Second},
		{"nothing comes", 413, nil, connection{left: mib, size: mib, pause: time.Hour}, 5 * mib, 0, lingerIdle},
		{"a byte now and then", 413, nil, connection{left: mib, size: 1, pause: 4 * time.Second}, 5 * mib, 3, lingerTime},
		{"endless", 413, nil, connection{left: 1 << 40, size: mib}, -1, lingerSize, 0},

		{"small enough for the server", 401, nil, connection{left: 1000, size: mib}, 1000, 0, 0},
		{"HTTP/2", 413, func(r *http.Request) { r.ProtoMajor = 2 }, connection{left: 5 * mib, size: mib}, 5 * mib, 0, 0},
		{"a client that asks first", 413, func(r *http.Request) { r.Header.Set("Expect", "100-continue") }, connection{left: 5 * mib, size: mib}, 5 * mib, 0, 0},
		{"a body that stalled", 408, nil, connection{left: 5 * mib, size: mib}, 5 * mib, 0, 0},
		{"answered", 0, nil, connection{left: 5 * mib, size: mib}, 5 * mib, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := test.body
				c.ResponseRecorder = httptest.NewRecorder()
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions", &c)
				r.ContentLength = test.length
				if test.change != nil {
					test.change(r)
				}
				endpoint, _ := openai.LookupEndpoint(r.URL.Path)
				x := New(&c, r, dialect.OpenAI, endpoint, new(Record))
				if test.status == 0 {
					x.SendJSON([]byte("{}"))
				} else {
					x.Fail(&openai.Error{Status: test.status, Message: "m"})
				}
				began := time.Now()
				x.Linger()
				if took := time.Since(began); c.read != test.read || took != test.took {
					t.Errorf("%d bytes were read in %v, want %d in %v", c.read, took, test.read, test.took)
				}
				if c.Body.Len() == 0 || !c.Flushed && test.read > 0 {
					t.Error("the answer was not sent before the body was read")
				}
			})
		})
	}
}
