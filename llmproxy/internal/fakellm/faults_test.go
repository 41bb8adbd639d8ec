package fakellm

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestStreamFaults checks what a client receives of a stream that fails.
func TestStreamFaults(t *testing.T) {
	t.Parallel()
	abc := Text("a", "b", "c")
	tests := []struct {
		name, kind string
		answer     Answer
		want       string
	}{
		{"no fault, openai", "openai", abc, "r(a)(b)(c)fd eof"},
		{"no fault, vllm", "vllm", abc, "r(a)(b)(c)fd eof"},
		{"no fault, llamacpp", "llamacpp", abc, "r(a)(b)(c)fd eof"},
		{"no fault, ollama has the role with the token", "ollama", abc, "(a)(b)(c)fd eof"},
		{"role first", "ollama", abc.RoleFirst(), "r(a)(b)(c)fd eof"},
		{"no tokens", "openai", Text([]string{}...), "rfd eof"},
		{"no done", "openai", abc.NoDone(), "r(a)(b)(c)f eof"},
		{"no finish", "openai", abc.NoFinish(), "r(a)(b)(c)d eof"},
		{"early error, openai", "openai", abc.ErrorEventAfter(0), "e eof"},
		{"early error, vllm ends with done", "vllm", abc.ErrorEventAfter(0), "ed eof"},
		{"early error, llamacpp", "llamacpp", abc.ErrorEventAfter(0), "e eof"},
		{"early error, ollama reports nothing", "ollama", abc.ErrorEventAfter(0), "r eof"},
		{"error after the role", "openai", abc.RoleFirst().ErrorEventAfter(0), "re eof"},
		{"late error", "vllm", abc.ErrorEventAfter(2), "r(a)(b)ed eof"},
		{"late error, ollama", "ollama", abc.ErrorEventAfter(2), "(a)(b)r eof"},
		{"cut at once", "openai", abc.CutAfter(0), " eof"},
		{"cut after the role", "openai", abc.RoleFirst().CutAfter(0), "r eof"},
		{"cut", "openai", abc.CutAfter(2), "r(a)(b) eof"},
		{"cut before the finish", "openai", abc.CutAfter(9), "r(a)(b)(c) eof"},
		{"drop at once", "openai", abc.DropAfter(0), "~ broken"},
		{"drop in the middle of an event", "vllm", Text("a", "b", strings.Repeat("c", 200)).DropAfter(2), "r(a)(b)~ broken"},
		{"reset", "llamacpp", Text("a", strings.Repeat("b", 500)).ResetAfter(1), "r(a) reset"},
		{"error with status 200", "openai", ErrorInside200(), "ced eof"},
		{"garbage", "openai", Garbage(), "~ eof"},
		{"raw events", "openai", RawEvents(": x", "data: [DONE]"), "cd eof"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, tt.kind)
			s.Next(tt.answer)
			resp := post(t, s, chatPath, streamBody)
			got := outline(resp)
			if tt.answer.fault == reset { // the client may or may not receive half an event
				got = strings.Replace(got, "~", "", 1)
			}
			if resp.StatusCode != http.StatusOK || got != tt.want {
				t.Errorf("got %d %q, want %q", resp.StatusCode, got, tt.want)
			}
			if s.Wait(t, 1)[0].WaitDone(t); s.Requests()[0].Canceled() {
				t.Error("the server reports that the client left")
			}
		})
	}
}

// TestWholeFaults checks what a client receives of an answer that fails and is not a stream.
func TestWholeFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer Answer
		status int
		body   string
		err    error
	}{
		{"cut", Text().CutAfter(5), 200, `{"id"`, nil},
		{"drop", Text().DropAfter(5), 200, `{"id"`, io.ErrUnexpectedEOF},
		{"reset", Text().ResetAfter(5), 200, `{"id"`, syscall.ECONNRESET},
		{"error event", Text().ErrorEventAfter(3), 500, "", nil},
		{"raw", Raw(418, http.Header{"X-A": {"b"}}, []byte("tea")), 418, "tea", nil},
		{"error with status 200", ErrorInside200(), 200, `{"error":{"message":"Provider returned error","code":502,"metadata":{"provider_name":"Nobody"}},"user_id":"user_1"}`, nil},
		{"garbage", Garbage(), 200, "<html><body>It works!</body></html>\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, "openai")
			s.Next(tt.answer)
			resp := post(t, s, chatPath, chatBody)
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status || !errors.Is(err, tt.err) || tt.body != "" && string(body) != tt.body {
				t.Errorf("got %d %q, %v", resp.StatusCode, body, err)
			}
		})
	}
}

// The server notices when the client leaves, whatever it is doing.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	never := make(chan struct{})
	tests := []struct {
		name, kind, body string
		answer           Answer
		headers          bool
	}{
		{"before the headers", "openai", chatBody, Text().Hold(never), false},
		{"while a model loads", "ollama", streamBody, Loading(), false},
		{"during the delay", "openai", streamBody, Text().Delay(time.Hour), false},
		{"before the first token", "vllm", streamBody, Text().DelayFirst(time.Hour), true},
		{"between two tokens", "openai", streamBody, Text("a", "b").Interval(time.Hour), true},
		{"at a gate", "openai", streamBody, Text("a", "b").HoldAfter(1, never), true},
		{"stalled stream", "llamacpp", streamBody, Text("a", "b").StallAfter(1), true},
		{"stalled before anything", "openai", streamBody, Text("a", "b").StallAfter(0), true},
		{"stalled whole", "openai", chatBody, Text("a").StallAfter(10), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, tt.kind)
			s.Next(tt.answer)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+chatPath, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			over := make(chan error, 1)
			go func() {
				resp, err := client(t).Do(req)
				if err == nil {
					defer resp.Body.Close()
					leave()
				}
				over <- err
			}()
			seen := s.Wait(t, 1)[0]
			if !tt.headers {
				leave()
			}
			if err := <-over; (err == nil) != tt.headers {
				t.Fatalf("the client got: %v", err)
			}
			seen.WaitDone(t)
			if s.WaitIdle(t); !seen.Canceled() {
				t.Error("the server did not notice that the client left")
			}
		})
	}
}

// A server that is closed does not report that the client left.
func TestDown(t *testing.T) {
	t.Parallel()
	s := Start(t, "vllm")
	s.Next(Text("a", "b").StallAfter(1))
	resp := post(t, s, chatPath, streamBody)
	in := bufio.NewReader(resp.Body)
	for range 2 {
		firstEvent(t, in)
	}
	s.Down()
	if _, err := io.ReadAll(in); err == nil {
		t.Error("the stream ended without an error")
	}
	if s.Requests()[0].WaitDone(t); s.Requests()[0].Canceled() {
		t.Error("the server reports that the client left")
	}
	if _, err := try(t, s, chatPath, chatBody); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want refused", err)
	}
	s.Up(t)
	if got := outline(post(t, s, chatPath, streamBody)); !strings.HasSuffix(got, "fd eof") {
		t.Errorf("after Up, got %q", got)
	}
}

// Pings are sent while a stream is silent.
func TestPings(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := Start(t, "llamacpp")
	s.Next(Text("a", "b").HoldAfter(1, release).Pings(time.Millisecond))
	in := bufio.NewReader(post(t, s, chatPath, streamBody).Body)
	for _, want := range []string{"r", "(a)", "c", "c"} {
		if got := sign(firstEvent(t, in)); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	close(release)
	for got := ""; got != "d"; got = sign(firstEvent(t, in)) {
		if !strings.Contains("c(b)f", got) {
			t.Fatalf("got %q", got)
		}
	}
}

// Batch changes when bytes leave, not what they are.
func TestBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for batch, flushes := range map[int]int{0: 9, 1: 9, 4: 3} { // the headers and the end are flushed on their own
			s := New("vllm")
			s.Always(Text("a", "b", "c", "d").Batch(batch))
			w := &clock{ResponseRecorder: httptest.NewRecorder(), begin: time.Now()}
			s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, chatPath, strings.NewReader(streamBody)))
			if got := outline(w.Result()); got != "r(a)(b)(c)(d)fd eof" || len(w.at) != flushes {
				t.Errorf("batches of %d: %d flushes of %q", batch, len(w.at), got)
			}
		}
	})
}
