package exchange

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

func exchangeAt(t testing.TB, path string, w http.ResponseWriter) *Exchange {
	t.Helper()
	endpoint, ok := openai.LookupEndpoint(path)
	if !ok {
		t.Fatalf("no endpoint %s", path)
	}
	return New(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, nil), endpoint, new(Record))
}

// A waiting client sees pings, then the error in its own dialect, under one status.
func TestErrorAfterPings(t *testing.T) {
	t.Parallel()
	e := &openai.Error{Status: 504, Type: "server_error", Code: "upstream_timeout", Message: "silent"}
	for path, want := range map[string]string{
		"/v1/chat/completions": `data: {"error":{"message":"silent","type":"server_error","param":null,"code":"upstream_timeout"}}`,
		"/v1/responses": "event: error\n" + `data: {"error":{"message":"silent","type":"server_error","param":null,"code":"upstream_timeout"},` +
			`"type":"error","code":"upstream_timeout","message":"silent","param":null,"sequence_number":0}`,
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			x := exchangeAt(t, path, w)
			x.Writer.Ping()
			x.Writer.Ping()
			x.Fail(e)
			x.Writer.Close()
			x.Writer.Ping() // too late
			if diff := cmp.Diff(": ping\n\n: ping\n\n"+want+"\n\n", w.Body.String()); diff != "" {
				t.Error(diff)
			}
			if w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" || w.Header().Get("Cache-Control") != "no-cache, no-transform" {
				t.Errorf("status %d, header %v", w.Code, w.Header())
			}
			if x.Record.Status != 200 || x.Record.Err != e || int(x.Record.Bytes) != w.Body.Len() {
				t.Errorf("recorded: status %d, error %v, %d bytes", x.Record.Status, x.Record.Err, x.Record.Bytes)
			}
		})
	}
}

func TestErrorWithoutPings(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	x := exchangeAt(t, "/v1/chat/completions", w)
	x.Fail(&openai.Error{Status: 429, Type: "requests", Code: "rate_limit_exceeded", Message: "m", Header: http.Header{"Retry-After": {"7"}}})
	if w.Code != 429 || w.Header().Get("Retry-After") != "7" || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("X-Request-Id") == "" {
		t.Errorf("status %d, header %v", w.Code, w.Header())
	}
	if want := `{"error":{"message":"m","type":"requests","param":null,"code":"rate_limit_exceeded"}}`; w.Body.String() != want {
		t.Errorf("body %s", w.Body)
	}
}

// After a ping the client cannot be given anything but a stream.
func TestCommitAfterPing(t *testing.T) {
	t.Parallel()
	x := exchangeAt(t, "/v1/chat/completions", httptest.NewRecorder())
	x.Writer.Ping()
	if _, err := x.Writer.Commit(t.Context(), false); !errors.Is(err, ErrStreamBegun) || x.Writer.Committed() {
		t.Errorf("an answer that is no stream: %v, committed %t", err, x.Writer.Committed())
	}
	if begun, err := x.Writer.Commit(t.Context(), true); !begun || err != nil || !x.Writer.Committed() {
		t.Errorf("a stream: begun %t, %v, committed %t", begun, err, x.Writer.Committed())
	}
}

// A client that left before anything was sent gets nginx's status, which only the log shows.
func TestClientClosed(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	x := exchangeAt(t, "/v1/chat/completions", w)
	x.Fail(ClientClosed)
	if w.Code != StatusClientClosed || x.Record.Status != StatusClientClosed || w.Body.Len() != 0 {
		t.Errorf("status %d, recorded %d, body %q", w.Code, x.Record.Status, w.Body)
	}
}

// A stalled client takes nothing until its write deadline passes.
type stalled struct {
	*httptest.ResponseRecorder
	once        sync.Once
	interrupted chan struct{}
}

func newStalled() *stalled {
	return &stalled{ResponseRecorder: httptest.NewRecorder(), interrupted: make(chan struct{})}
}

func (s *stalled) Write([]byte) (int, error) {
	<-s.interrupted
	return 0, context.DeadlineExceeded
}

func (s *stalled) SetWriteDeadline(time.Time) error {
	s.once.Do(func() { close(s.interrupted) })
	return nil
}

// A client that does not read holds up its ping and nothing else: whoever waits for the turn to write goes on when its own
// context ends, and closing interrupts the write.
func TestStalledClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := exchangeAt(t, "/v1/chat/completions", newStalled())
		go x.Writer.Ping()
		synctest.Wait()
		if !x.Writer.Busy() {
			t.Fatal("the ping was sent")
		}
		x.Writer.Ping() // skipped
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := x.Writer.Commit(ctx, true); !errors.Is(err, context.DeadlineExceeded) || x.Writer.Committed() {
			t.Errorf("committed %t: %v", x.Writer.Committed(), err)
		}
		began := time.Now()
		x.Fail(&openai.Error{Status: 504, Message: "m"})
		if took := time.Since(began); took != stallGrace {
			t.Errorf("telling the client of an error took %s, want %s", took, stallGrace)
		}
		x.Writer.Close()
		if _, err := x.Writer.Write([]byte("x")); err == nil {
			t.Error("something was written after Close")
		}
	})
}
