package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestReuse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method, answer, body string
		kept                       bool
	}{
		{"length", "GET", hello, "hello", true},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello", true},
		{"chunked with a trailer", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\n\r\n", "hello", true},
		{"empty", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true},
		{"no content", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "", true},
		{"not modified", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", true},
		{"head", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", true},
		{"informational", "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + hello, "hello", true},
		{"five informational", "GET", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 5) + hello, "hello", true},
		{"HTTP/1.0 that keeps", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "hello", true},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", false},
		{"connection close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "hello", false},
		{"connection close without a body", "HEAD", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "", false},
		{"bytes behind the answer", "GET", hello + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "hello", false},
		{"bytes behind no body", "HEAD", hello, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{})
			address := script(t, func(c net.Conn, r *bufio.Reader) {
				answers(tt.answer, hello)(c, r)
				untilGone(c, r)
				close(gone)
			}, answers(hello))
			tr := transport(t)
			first := get(t, address)
			first.Method = tt.method
			if _, body := do(t, tr, first); body != tt.body {
				t.Errorf("got %q, want %q", body, tt.body)
			}
			if kept := idle(tr) == 1; kept != tt.kept {
				t.Fatalf("connection kept: %v, want %v", kept, tt.kept)
			}
			if !tt.kept {
				<-gone
			}
			if _, body := do(t, tr, get(t, address)); body != "hello" {
				t.Errorf("the next answer is %q", body)
			}
		})
	}
}

func TestUntilClosed(t *testing.T) {
	t.Parallel()
	tr := transport(t)
	address := script(t, answers("HTTP/1.1 200 OK\r\n\r\nhello"))
	if _, body := do(t, tr, get(t, address)); body != "hello" || idle(tr) != 0 {
		t.Errorf("got %q, %d idle connections", body, idle(tr))
	}
}

func TestRequestClose(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !r.Close {
			t.Error("the server was not told")
		}
	})
	tr := transport(t)
	req := get(t, s.URL)
	req.Close = true
	do(t, tr, req)
	s.waitClosed()
	if n := idle(tr); n != 0 {
		t.Errorf("%d idle connections", n)
	}
}

// TestStale has a server that closes a connection that nobody uses: the next request must not notice.
func TestStale(t *testing.T) {
	t.Parallel()
	for _, unasked := range []string{"", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"} {
		closing, closed := make(chan struct{}), make(chan struct{})
		address := script(t, func(c net.Conn, r *bufio.Reader) {
			answers(hello)(c, r)
			<-closing
			io.WriteString(c, unasked)
			c.Close()
			close(closed)
		}, answers(hello))
		tr := transport(t)
		do(t, tr, get(t, address))
		close(closing)
		<-closed
		body := &source{Reader: strings.NewReader("a")} // without GetBody: only the look at the connection can help
		req := post(t, address, "")
		req.Body, req.ContentLength, req.GetBody = body, 1, nil
		if _, got := do(t, tr, req); got != "hello" {
			t.Errorf("got %q", got)
		}
	}
}

// TestRetry has a server that closes a connection only when the next request has come, as one does that restarts.
func TestRetry(t *testing.T) {
	t.Parallel()
	closeIt := func(net.Conn, *bufio.Reader) {}
	reset := func(c net.Conn, _ *bufio.Reader) { c.(*net.TCPConn).SetLinger(0) }
	some := func(c net.Conn, _ *bufio.Reader) { io.WriteString(c, "HTTP/1.1 2") }
	large := strings.Repeat("x", 4<<20)
	tests := []struct {
		name    string
		body    string
		getBody bool
		end     func(net.Conn, *bufio.Reader)
		retried bool
	}{
		{"closed", "a", true, closeIt, true},
		{"reset", "a", true, reset, true},
		{"closed, no body", "", true, closeIt, true},
		{"closed while writing", large, true, closeIt, true},
		{"reset while writing", large, true, reset, true},
		{"body cannot be read again", "a", false, closeIt, false},
		{"an answer had begun", "a", true, some, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			again := make(chan string, 1)
			address := script(t, func(c net.Conn, r *bufio.Reader) {
				answers(hello)(c, r)
				r.ReadString('\n')
				tt.end(c, r)
			}, func(c net.Conn, r *bufio.Reader) {
				_, body, _ := readRequest(r)
				again <- body
				io.WriteString(c, hello)
			})
			tr := transport(t)
			tr.stale = time.Hour // however long the machine takes
			do(t, tr, get(t, address))

			var bodies []*source
			req := post(t, address, "")
			open := func() (io.ReadCloser, error) {
				bodies = append(bodies, &source{Reader: strings.NewReader(tt.body)})
				return bodies[len(bodies)-1], nil
			}
			req.Body, req.GetBody, req.ContentLength = http.NoBody, nil, int64(len(tt.body))
			if tt.body != "" {
				req.Body, _ = open()
			}
			if tt.getBody && tt.body != "" {
				req.GetBody = open
			}
			before := req.Body
			res, err := tr.RoundTrip(req)
			if (err == nil) != tt.retried {
				t.Fatalf("got %v, want a retry: %v", err, tt.retried)
			}
			if req.Body != before {
				t.Error("the request was changed")
			}
			for i, b := range bodies {
				if n := b.closed.Load(); n != 1 {
					t.Errorf("body %d was closed %d times", i, n)
				}
			}
			if tt.retried {
				defer res.Body.Close()
				if got := <-again; got != tt.body {
					t.Errorf("sent again: %d bytes, want %d", len(got), len(tt.body))
				}
			}
		})
	}
}

func TestNoRetry(t *testing.T) {
	t.Parallel()
	// A fresh connection that ends without an answer is a failure of the server, and every request is sent twice at most.
	ends := make(chan struct{}, 10)
	end := func(_ net.Conn, r *bufio.Reader) {
		r.ReadString('\n')
		ends <- struct{}{}
	}
	address := script(t, end)
	tr := transport(t)
	tr.stale = time.Hour // however long the machine takes
	if _, err := tr.RoundTrip(post(t, address, "a")); err == nil || len(ends) != 1 {
		t.Errorf("fresh: %v after %d connections", err, len(ends))
	}
	address = script(t, func(c net.Conn, r *bufio.Reader) {
		answers(hello)(c, r)
		end(c, r)
	}, end)
	do(t, tr, get(t, address))
	if _, err := tr.RoundTrip(post(t, address, "a")); err == nil || len(ends) != 3 {
		t.Errorf("reused: %v after %d connections", err, len(ends)-1)
	}
	fails := post(t, address, "a")
	fails.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("gone") }
	address = script(t, func(c net.Conn, r *bufio.Reader) {
		answers(hello)(c, r)
		end(c, r)
	}, end)
	fails.URL = get(t, address).URL
	do(t, tr, get(t, address))
	if _, err := tr.RoundTrip(fails); err == nil || len(ends) != 4 {
		t.Errorf("GetBody fails: %v after %d connections", err, len(ends)-3)
	}
}

// TestNoRetryLate has a server that dies after it had the time to work on the request, which may be why.
func TestNoRetryLate(t *testing.T) {
	t.Parallel()
	address := script(t, func(c net.Conn, r *bufio.Reader) {
		answers(hello)(c, r)
		r.ReadString('\n')
	}, func(net.Conn, *bufio.Reader) { t.Error("sent again") })
	tr := transport(t)
	tr.stale = time.Nanosecond
	do(t, tr, get(t, address))
	if res, err := tr.RoundTrip(post(t, address, "a")); err == nil {
		t.Errorf("status %d", res.StatusCode)
		res.Body.Close()
	}
}
