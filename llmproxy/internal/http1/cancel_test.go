package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Whenever the request's context ends, the server must see the connection close.
func TestCancel(t *testing.T) {
	t.Parallel()
	head := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	tests := []struct {
		name, body, answer string
		readFirst          bool // the server reads the request before it answers
		headComes          bool
	}{
		{"while writing", strings.Repeat("x", 64<<20), "", false, false},
		{"while waiting", "a", "", true, false},
		{"while waiting after 100", "a", "HTTP/1.1 100 Continue\r\n\r\n", true, false},
		{"in the head", "a", "HTTP/1.1 200 OK\r\nContent-", true, false},
		{"before the first byte of the body", "a", head, true, true},
		{"in the body", "a", head + "5\r\nhello\r\n", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			at, left, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
			address := script(t, func(c net.Conn, r *bufio.Reader) {
				if tt.readFirst {
					readRequest(r)
				} else {
					r.ReadByte()
				}
				io.WriteString(c, tt.answer)
				close(at)
				<-left
				untilGone(c, r)
				close(gone)
			})
			ctx, leave := causing(t)
			go func() {
				<-at
				if !tt.headComes {
					leave()
				}
				close(left)
			}()
			tr := transport(t)
			res, err := tr.RoundTrip(post(t, address, tt.body).WithContext(ctx))
			if tt.headComes {
				if err != nil {
					t.Fatal(err)
				}
				read := make(chan error)
				go func() {
					_, err := io.ReadAll(res.Body)
					read <- err
				}()
				leave()
				err = <-read
			}
			if !errors.Is(err, errLeft) {
				t.Errorf("got %v, want the context's cause", err)
			}
			<-gone
			if n := idle(tr); n != 0 {
				t.Errorf("%d idle connections", n)
			}
		})
	}
}

func TestCancelBefore(t *testing.T) {
	t.Parallel()
	ctx, leave := causing(t)
	leave()
	body := &source{Reader: strings.NewReader("a")}
	req := post(t, "http://127.0.0.1:1", "").WithContext(ctx)
	req.Body, req.ContentLength = body, 1
	if _, err := (&Transport{}).RoundTrip(req); !errors.Is(err, errLeft) || body.closed.Load() != 1 {
		t.Errorf("got %v, body closed %d times", err, body.closed.Load())
	}
}

// A request must not be sent again because its context ends while it waits on a reused connection.
func TestCancelIsNotStale(t *testing.T) {
	t.Parallel()
	ctx, leave := causing(t)
	address := script(t, func(c net.Conn, r *bufio.Reader) {
		answers(hello)(c, r)
		readRequest(r)
		leave()
		untilGone(c, r)
	}, func(net.Conn, *bufio.Reader) { t.Error("sent again") })
	tr := transport(t)
	do(t, tr, get(t, address))
	if _, err := tr.RoundTrip(post(t, address, "a").WithContext(ctx)); !errors.Is(err, errLeft) {
		t.Errorf("got %v", err)
	}
}

// A context that ends after its answer must not affect the next request on the connection.
func TestCancelAfterEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	tr := transport(t)
	for range 20 {
		ctx, leave := causing(t)
		do(t, tr, get(t, s.URL).WithContext(ctx))
		res, err := tr.RoundTrip(get(t, s.URL))
		leave()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "hello" || err != nil {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	if n := s.opened.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// If a context ends at the same moment as the answer, the next request must succeed.
func TestCancelAtEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	tr := transport(t)
	for range 500 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			if res, err := tr.RoundTrip(get(t, s.URL).WithContext(ctx)); err == nil {
				io.Copy(io.Discard, res.Body)
			}
			close(done)
		}()
		cancel()
		<-done
		if status, body := do(t, tr, get(t, s.URL)); status != http.StatusOK || body != "hello" {
			t.Fatalf("the next request got %d %q", status, body)
		}
	}
}

// Wait returns when Read would: because of bytes, of the end, or because the request is over.
func TestWait(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
	for name, test := range map[string]struct {
		then func(server net.Conn, body io.Closer, cancel func())
		want string
		ends bool // with an error
	}{
		"bytes":    {func(c net.Conn, _ io.Closer, _ func()) { io.WriteString(c, "1\r\nb\r\n") }, "b", false},
		"end":      {func(c net.Conn, _ io.Closer, _ func()) { io.WriteString(c, "0\r\n\r\n") }, "", true},
		"cut":      {func(c net.Conn, _ io.Closer, _ func()) { c.Close() }, "", true},
		"canceled": {func(_ net.Conn, _ io.Closer, cancel func()) { cancel() }, "", true},
		"closed":   {func(_ net.Conn, body io.Closer, _ func()) { body.Close() }, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan net.Conn, 1)
			address := script(t, func(c net.Conn, r *bufio.Reader) {
				if _, _, err := readRequest(r); err == nil {
					io.WriteString(c, head)
					conns <- c
				}
				untilGone(c, r)
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			res, err := transport(t).RoundTrip(post(t, address, "{}").WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			p := make([]byte, 16)
			if n, err := res.Body.Read(p); string(p[:n]) != "a" || err != nil {
				t.Fatalf("got %q, %v", p[:n], err)
			}
			waited := make(chan struct{})
			go func() {
				res.Body.(*answerBody).Wait()
				close(waited)
			}()
			test.then(<-conns, res.Body, cancel)
			<-waited
			if n, err := res.Body.Read(p); string(p[:n]) != test.want || (err != nil) != test.ends {
				t.Errorf("got %q, %v, want %q, and an error %t", p[:n], err, test.want, test.ends)
			}
		})
	}
}
