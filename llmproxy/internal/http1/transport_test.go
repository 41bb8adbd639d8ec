package http1

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	type seen struct {
		Method, URI, Host, Body string
		Length                  int64
		Encoding                []string
		Header                  http.Header
	}
	requests := make(chan seen, 1)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- seen{r.Method, r.RequestURI, r.Host, string(body), r.ContentLength, r.TransferEncoding, r.Header}
		w.Header().Set("X-Answer", "yes")
		io.WriteString(w, "hello")
	})
	host := strings.TrimPrefix(s.URL, "http://")
	one := http.Header{"Content-Length": {"1"}}
	tests := []struct {
		name string
		edit func(*http.Request)
		want seen
	}{
		{"get", func(r *http.Request) {}, seen{"GET", "/v1/x?a=b%20c", host, "", 0, nil, http.Header{}}},
		{"method missing", func(r *http.Request) { r.Method = "" }, seen{"GET", "/v1/x?a=b%20c", host, "", 0, nil, http.Header{}}},
		{"path missing", func(r *http.Request) { r.URL.Path, r.URL.RawQuery = "", "" }, seen{"GET", "/", host, "", 0, nil, http.Header{}}},
		{"other host", func(r *http.Request) { r.Host = "llm.example" }, seen{"GET", "/v1/x?a=b%20c", "llm.example", "", 0, nil, http.Header{}}},
		{"post without a body", func(r *http.Request) { r.Method = "POST" }, seen{"POST", "/v1/x?a=b%20c", host, "", 0, nil, http.Header{"Content-Length": {"0"}}}},
		{"headers", func(r *http.Request) {
			r.Header = http.Header{"X-A": {"1", "2"}, "X-Empty": {""}, "X-Utf8": {"é"}}
		}, seen{"GET", "/v1/x?a=b%20c", host, "", 0, nil, http.Header{"X-A": {"1", "2"}, "X-Empty": {""}, "X-Utf8": {"é"}}}},
		{"framing headers are replaced", func(r *http.Request) {
			r.Header = http.Header{"content-length": {"7"}, "Transfer-encoding": {"chunked"}, "HOST": {"evil"}, "trailer": {"X-A"}}
			r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader("a")), 1
		}, seen{"POST", "/v1/x?a=b%20c", host, "a", 1, nil, one}},
		{"unknown length", func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(iotest.OneByteReader(strings.NewReader("abc"))), -1
		}, seen{"POST", "/v1/x?a=b%20c", host, "abc", -1, []string{"chunked"}, http.Header{}}},
		{"body with length zero", func(r *http.Request) {
			r.Method, r.Body = "POST", io.NopCloser(iotest.DataErrReader(strings.NewReader("abc")))
		}, seen{"POST", "/v1/x?a=b%20c", host, "abc", -1, []string{"chunked"}, http.Header{}}},
	}
	tr := transport(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := get(t, s.URL+"/v1/x?a=b%20c")
			tt.edit(req)
			res, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || string(body) != "hello" || res.StatusCode != 200 || res.Header.Get("X-Answer") != "yes" || res.Request != req {
				t.Errorf("got %d %q, %v", res.StatusCode, body, err)
			}
			if diff := cmp.Diff(tt.want, <-requests); diff != "" {
				t.Errorf("the server saw (-want +got):\n%s", diff)
			}
		})
	}
	if n := s.opened.Load(); n != 1 {
		t.Errorf("%d connections for all requests, want 1", n)
	}
}

func TestBigBodies(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%x", sha256.Sum256(body))
		w.Write(body)
	})
	big := strings.Repeat("0123456789abcdef", 5<<20/16)
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(big); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		body   io.Reader
		length int64
	}{
		{"with WriteTo", strings.NewReader(big), int64(len(big))},
		{"without WriteTo", struct{ io.Reader }{strings.NewReader(big)}, int64(len(big))},
		{"small pieces", iotest.HalfReader(strings.NewReader(big)), int64(len(big))},
		{"file", file, int64(len(big))},
		{"chunked", strings.NewReader(big), -1},
	}
	tr := transport(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := post(t, s.URL, "")
			req.Body, req.ContentLength = io.NopCloser(tt.body), tt.length // NopCloser keeps WriteTo
			_, got := do(t, tr, req)
			if want := fmt.Sprintf("%x", sha256.Sum256([]byte(big))) + big; got != want {
				t.Errorf("got %d bytes, %.64s…, want %d, %.64s…", len(got), got, len(want), want)
			}
		})
	}
}

func TestDialError(t *testing.T) {
	t.Parallel()
	const address = "http://127.0.0.1:1" // no server listens there
	tests := []struct {
		name string
		tr   *Transport
		is   func(error) bool
	}{
		{"refused", &Transport{}, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		{"too slow", &Transport{DialTimeout: time.Nanosecond}, isTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := &source{Reader: strings.NewReader("a")}
			req := post(t, address, "")
			req.Body, req.ContentLength = body, 1
			_, err := tt.tr.RoundTrip(req)
			if _, ok := errors.AsType[*DialError](err); !ok || !tt.is(err) || !strings.HasPrefix(err.Error(), "connecting: ") {
				t.Errorf("got %v", err)
			}
			if n := body.closed.Load(); n != 1 {
				t.Errorf("the body was closed %d times", n)
			}
		})
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
		w.(http.Flusher).Flush()
		w.Write(body)
	})
	tr := &Transport{MaxIdlePerHost: 8}
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for j := range 50 {
				text := fmt.Sprintf("%d-%d-", i, j)
				req := post(t, s.URL, text)
				res, err := tr.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				if j%10 == 5 { // some clients leave early
					res.Body.Close()
					continue
				}
				if got, err := io.ReadAll(res.Body); err != nil || string(got) != text+text {
					t.Errorf("got %q, %v; want %q twice", got, err, text)
				}
			}
		})
	}
	all.Wait()
	if n := idle(tr); n == 0 || n > 8 {
		t.Errorf("%d idle connections, want 1 to 8", n)
	}
	tr.CloseIdleConnections()
	s.waitClosed()
	if n := idle(tr); n != 0 {
		t.Errorf("%d idle connections after CloseIdleConnections", n)
	}
}

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
		{"many informational", "GET", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 1000) + hello, "hello", true},
		{"many informational with headers", "GET", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n", 200) + hello, "hello", true},
		{"HTTP/1.0 with keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "hello", true},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", false},
		{"connection close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "hello", false},
		{"connection close without a body", "HEAD", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "", false},
		{"bytes after the answer", "GET", hello + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "hello", false},
		{"bytes after an answer without a body", "HEAD", hello, "", false},
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
			t.Error("no Connection: close")
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

// If a server closes an idle connection, the next request must not fail.
func TestStale(t *testing.T) {
	t.Parallel()
	for _, unrequested := range []string{"", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"} {
		closing, closed := make(chan struct{}), make(chan struct{})
		address := script(t, func(c net.Conn, r *bufio.Reader) {
			answers(hello)(c, r)
			<-closing
			io.WriteString(c, unrequested)
			c.Close()
			close(closed)
		}, answers(hello))
		tr := transport(t)
		do(t, tr, get(t, address))
		close(closing)
		<-closed
		body := &source{Reader: strings.NewReader("a")} // without GetBody it cannot be sent again
		req := post(t, address, "")
		req.Body, req.ContentLength, req.GetBody = body, 1, nil
		if _, got := do(t, tr, req); got != "hello" {
			t.Errorf("got %q", got)
		}
	}
}

// A server that restarts may close a connection after the next request was sent on it.
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
		{"answer has begun", "a", true, some, false},
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
			tr.stale = time.Hour // however slow the machine is
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
	// If a new connection closes without an answer, the server has failed. A request is sent twice at most.
	ends := make(chan struct{}, 10)
	end := func(_ net.Conn, r *bufio.Reader) {
		r.ReadString('\n')
		ends <- struct{}{}
	}
	address := script(t, end)
	tr := transport(t)
	tr.stale = time.Hour // however slow the machine is
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

// A request must not be sent again if the server had time to process it: it may have crashed the server.
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

// age makes the idle connections of an address older.
func age(tr *Transport, url string, by time.Duration) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, c := range tr.idle[strings.TrimPrefix(url, "http://")] {
		c.idleSince = c.idleSince.Add(-by)
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	other := serve(t, func(http.ResponseWriter, *http.Request) {})
	tr := transport(t)
	do(t, tr, get(t, s.URL))
	age(tr, s.URL, defaultIdleTimeout-time.Minute)
	do(t, tr, get(t, s.URL))
	if n := s.opened.Load(); n != 1 {
		t.Errorf("%d connections, want the first one again", n)
	}
	age(tr, s.URL, defaultIdleTimeout)
	do(t, tr, get(t, s.URL))
	if n := s.opened.Load(); n != 2 || idle(tr) != 1 {
		t.Errorf("%d connections and %d idle, want a second one and the expired one closed", n, idle(tr))
	}
	// Expired connections of an unused address are closed by a request to another one.
	age(tr, s.URL, defaultIdleTimeout)
	tr.mu.Lock()
	tr.swept = tr.swept.Add(-defaultIdleTimeout)
	tr.mu.Unlock()
	do(t, tr, get(t, other.URL))
	s.waitClosed()
	if n := idle(tr); n != 1 {
		t.Errorf("%d idle connections after the sweep, want 1", n)
	}
}

func TestSweepKeepsYoung(t *testing.T) {
	t.Parallel()
	tr := &Transport{IdleTimeout: time.Minute, idle: map[string][]*conn{}}
	now := time.Now()
	for i := range 6 {
		tr.idle["a"] = append(tr.idle["a"], &conn{address: "a", idleSince: now.Add(time.Duration(i-3) * 20 * time.Second)})
	}
	if expired := tr.sweep(now); len(expired) != 1 || len(tr.idle["a"]) != 5 || !expired[0].idleSince.Equal(now.Add(-time.Minute)) {
		t.Errorf("%d expired, %d kept; want 1 and 5", len(expired), len(tr.idle["a"]))
	}
}

func TestCloseIdleConnections(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		<-release
	})
	tr := transport(t)
	res, err := tr.RoundTrip(get(t, s.URL))
	if err != nil {
		t.Fatal(err)
	}
	tr.CloseIdleConnections()
	close(release)
	if _, err := io.ReadAll(res.Body); err != nil { // an open stream continues to its end
		t.Error(err)
	}
	s.waitClosed() // then its connection is closed
	do(t, tr, get(t, s.URL))
	if n := idle(tr); n != 1 {
		t.Errorf("%d idle connections after a new request, want 1", n)
	}
}
