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

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

func newExchange(t testing.TB, path string, w http.ResponseWriter) *Exchange {
	t.Helper()
	endpoint, ok := openai.LookupEndpoint(path)
	if !ok {
		t.Fatalf("no endpoint %s", path)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, nil)
	r.Header.Set("X-Request-Id", "my-id")
	return New(w, r, dialect.OpenAI, endpoint, new(Record))
}

// ping pings and waits until the ping has been written. The test must run in a bubble.
func ping(w *Writer) {
	w.Ping()
	synctest.Wait()
}

func TestErrorAfterPingsIsAnEvent(t *testing.T) {
	t.Parallel()
	e := &openai.Error{Status: 504, Type: "server_error", Code: "upstream_timeout", Message: "silent"}
	for path, want := range map[string]string{
		"/v1/chat/completions": `data: {"error":{"message":"silent","type":"server_error","param":null,"code":"upstream_timeout"}}`,
		"/v1/audio/speech": "event: error\n" + `data: {"error":{"message":"silent","type":"server_error","param":null,"code":"upstream_timeout"},` +
			`"type":"error","code":"upstream_timeout","message":"silent","param":null,"sequence_number":0}`,
		"/v1/responses": "event: error\n" + `data: {"error":{"message":"silent","type":"server_error","param":null,"code":"upstream_timeout"},` +
			`"type":"error","code":"upstream_timeout","message":"silent","param":null,"sequence_number":0}` + "\n\nevent: response.failed\n" +
			`data: {"type":"response.failed","sequence_number":1,"response":{"id":"resp_my-id","object":"response","created_at":946684800,"status":"failed",` +
			`"error":{"code":"upstream_timeout","message":"silent"},"incomplete_details":null,"model":"","output":[],"usage":null}}`,
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := httptest.NewRecorder()
				x := newExchange(t, path, w)
				ping(&x.Writer)
				ping(&x.Writer)
				x.Fail(e)
				x.Writer.Close()
				ping(&x.Writer) // must write nothing
				if diff := cmp.Diff(": ping\n\n: ping\n\n"+want+"\n\n", w.Body.String()); diff != "" {
					t.Errorf("body (-want +got):\n%s", diff)
				}
				if w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" || w.Header().Get("Cache-Control") != "no-cache, no-transform" {
					t.Errorf("status %d, header %v", w.Code, w.Header())
				}
				if x.Record.Status != 200 || x.Record.Err != e || int(x.Record.Bytes) != w.Body.Len() {
					t.Errorf("record: status %d, error %v, %d bytes; want status 200, %v, %d bytes", x.Record.Status, x.Record.Err, x.Record.Bytes, e, w.Body.Len())
				}
			})
		})
	}
}

func TestErrorWithoutPingsHasItsStatus(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	x := newExchange(t, "/v1/chat/completions", w)
	x.Fail(&openai.Error{Status: 429, Type: "requests", Code: "rate_limit_exceeded", Message: "m", Header: http.Header{"Retry-After": {"7"}}})
	if w.Code != 429 || w.Header().Get("Retry-After") != "7" || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("X-Request-Id") == "" {
		t.Errorf("status %d, header %v", w.Code, w.Header())
	}
	if want := `{"error":{"message":"m","type":"requests","param":null,"code":"rate_limit_exceeded"}}`; w.Body.String() != want {
		t.Errorf("body %s, want %s", w.Body, want)
	}
}

func TestOnlyAStreamIsCommittedAfterPings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t, "/v1/chat/completions", httptest.NewRecorder())
		ping(&x.Writer)
		if _, err := x.Writer.Commit(t.Context(), false); !errors.Is(err, ErrStreamBegun) || x.Writer.Committed() {
			t.Errorf("an answer that is not a stream: %v, committed %t; want %v", err, x.Writer.Committed(), ErrStreamBegun)
		}
		if begun, err := x.Writer.Commit(t.Context(), true); !begun || err != nil || !x.Writer.Committed() {
			t.Errorf("a stream: begun %t, %v, committed %t", begun, err, x.Writer.Committed())
		}
	})
}

// A ping must not come between the commit and the header of the answer, nor set headers at the same time as the answer.
func TestNoPingBetweenCommitAndAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := httptest.NewRecorder()
		x := newExchange(t, "/v1/chat/completions", w)
		if _, err := x.Writer.Commit(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		ping(&x.Writer)
		if w.Body.Len() > 0 || w.Header().Get("Content-Type") != "" {
			t.Errorf("wrote %q with header %v", w.Body, w.Header())
		}
	})
}

// Once a stream flows, pings come between its events. Nothing comes into any other answer, nor after the end.
func TestPingsWithinTheAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before bool // a ping before the commit, too
		stream bool
		want   string
	}{
		{"stream", false, true, "data: 1\n\n: ping\n\n: ping\n\ndata: 2\n\n: ping\n\n"},
		{"stream that a ping began", true, true, ": ping\n\ndata: 1\n\n: ping\n\n: ping\n\ndata: 2\n\n: ping\n\n"},
		{"JSON", false, false, "data: 1\n\ndata: 2\n\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := httptest.NewRecorder()
				x := newExchange(t, "/v1/chat/completions", w)
				if tt.before {
					ping(&x.Writer)
				}
				if _, err := x.Writer.Commit(t.Context(), tt.stream); err != nil {
					t.Fatal(err)
				}
				ping(&x.Writer)
				write(t, &x.Writer, "data: 1\n\n")
				ping(&x.Writer)
				ping(&x.Writer)
				write(t, &x.Writer, "data: 2\n\n")
				ping(&x.Writer)
				x.Writer.Close()
				ping(&x.Writer)
				if diff := cmp.Diff(tt.want, w.Body.String()); diff != "" {
					t.Errorf("body (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func write(t *testing.T, w *Writer, event string) {
	t.Helper()
	if _, err := w.Write([]byte(event)); err != nil {
		t.Error(err)
	}
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
}

// A slowClient takes half a second for each write, by the clock of a synctest bubble.
type slowClient struct {
	*httptest.ResponseRecorder
	interrupted bool
}

func (s *slowClient) Write(p []byte) (int, error) {
	time.Sleep(time.Second / 2)
	return s.ResponseRecorder.Write(p)
}

func (s *slowClient) SetWriteDeadline(time.Time) error { s.interrupted = true; return nil }

// A ping and an event are never written at the same time: a ping is left out while an event is written, and an event waits for a ping.
func TestPingsAndEventsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &slowClient{ResponseRecorder: httptest.NewRecorder()}
		x := newExchange(t, "/v1/chat/completions", w)
		if _, err := x.Writer.Commit(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		write(t, &x.Writer, "data: 1\n\n")
		go write(t, &x.Writer, "data: 2\n\n")
		synctest.Wait()
		x.Writer.Ping()
		time.Sleep(2 * time.Second)
		x.Writer.Ping()
		began := time.Now()
		write(t, &x.Writer, "data: 3\n\n")
		if took := time.Since(began); took != time.Second {
			t.Errorf("an event behind a ping took %s", took)
		}
		if sent := time.Since(x.Writer.LastSent()); sent != 0 {
			t.Errorf("something was last sent %s ago", sent)
		}
		x.Writer.Ping()
		x.Writer.Close()
		if want := "data: 1\n\ndata: 2\n\n: ping\n\ndata: 3\n\n: ping\n\n"; w.Body.String() != want || w.interrupted {
			t.Errorf("body %q, want %q; interrupted: %t", w.Body, want, w.interrupted)
		}
	})
}

func TestSetHeaderAfterPings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := httptest.NewRecorder()
		x := newExchange(t, "/v1/chat/completions", w)
		x.Writer.SetHeader("X-Llm-Cache", "miss")
		ping(&x.Writer)
		x.Writer.SetHeader("X-Llm-Cache", "hit")
		if got := w.Header().Get("X-Llm-Cache"); got != "miss" {
			t.Errorf("X-LLM-Cache is %q after the headers were sent, want miss", got)
		}
	})
}

// Only the access log shows the status of a client that left before anything was sent.
func TestClientClosed(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	x := newExchange(t, "/v1/chat/completions", w)
	x.Fail(ErrClientClosed)
	if w.Code != StatusClientClosed || x.Record.Status != StatusClientClosed || w.Body.Len() != 0 {
		t.Errorf("status %d, recorded %d, body %q", w.Code, x.Record.Status, w.Body)
	}
}

// The client of an endpoint whose answers are never streams must not be pinged, even if the request says "stream": true.
func TestOnlyClientsOfStreamsArePinged(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{"/v1/chat/completions": true, "/v1/responses": true, "/v1/embeddings": false, "/v1/audio/speech": false} {
		for _, stream := range []bool{true, false} {
			x := newExchange(t, path, httptest.NewRecorder())
			x.Record.Stream = stream
			wait := x.UntilPing(&x.Writer, x.Record.Started.Add(PingEvery))
			if due := wait == 0; due != (want && stream) {
				t.Errorf("%s, stream %t: the next ping is due in %s", path, stream, wait)
			}
		}
	}
}

// A stalledClient does not read: writes block until the write deadline passes.
type stalledClient struct {
	*httptest.ResponseRecorder
	once        sync.Once
	interrupted chan struct{}
}

func (s *stalledClient) Write([]byte) (int, error) {
	<-s.interrupted
	return 0, context.DeadlineExceeded
}

func (s *stalledClient) SetWriteDeadline(time.Time) error {
	s.once.Do(func() { close(s.interrupted) })
	return nil
}

// A client that does not read delays its ping and nothing else: Commit and Fail give up in time, and Close interrupts the write.
func TestStalledClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t, "/v1/chat/completions", &stalledClient{ResponseRecorder: httptest.NewRecorder(), interrupted: make(chan struct{})})
		ping(&x.Writer)
		if !x.Writer.Busy() {
			t.Fatal("the writer is not busy while its ping is blocked")
		}
		x.Writer.Ping() // must return at once
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := x.Writer.Commit(ctx, true); !errors.Is(err, context.DeadlineExceeded) || x.Writer.Committed() {
			t.Errorf("committed %t: %v", x.Writer.Committed(), err)
		}
		began := time.Now()
		x.Fail(&openai.Error{Status: 504, Message: "m"})
		if took := time.Since(began); took != stallGrace {
			t.Errorf("Fail took %s, want %s", took, stallGrace)
		}
		x.Writer.Close()
		if _, err := x.Writer.Write([]byte("x")); err == nil {
			t.Error("Write succeeded after Close")
		}
	})
}

// A panickingClient stands for a handler in front of this one whose writer panics.
type panickingClient struct {
	*httptest.ResponseRecorder
	header bool // in WriteHeader, not in Write
}

func (p panickingClient) WriteHeader(status int) {
	if p.header {
		panic(http.ErrAbortHandler)
	}
	p.ResponseRecorder.WriteHeader(status)
}

func (p panickingClient) Write([]byte) (int, error) { panic(http.ErrAbortHandler) }

// A panic during a ping would end the process, since net/http recovers only those in a handler's own goroutine.
func TestPanicDuringPing(t *testing.T) {
	t.Parallel()
	for _, header := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			x := newExchange(t, "/v1/chat/completions", panickingClient{httptest.NewRecorder(), header})
			defer x.Writer.Close()
			ping(&x.Writer)
			ping(&x.Writer)
			defer func() {
				if r := recover(); r != http.ErrAbortHandler {
					t.Errorf("Commit panicked with %v, want %v", r, http.ErrAbortHandler)
				}
			}()
			_, err := x.Writer.Commit(t.Context(), true)
			t.Errorf("Commit returned %v, want a panic", err)
		})
	}
}
