package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestBadAnswer(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 60<<10)
	tests := []struct{ name, answer, want string }{
		{"nothing", "", "unexpected EOF"},
		{"cut in the head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "unexpected EOF"},
		{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed HTTP"},
		{"status too small", "HTTP/1.1 +99 OK\r\n\r\n", "unexpected status 99"},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", "unexpected status 101"},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "multiple Content-Length headers"},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad Content-Length"},
		{"unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unsupported transfer encoding"},
		{"long header", "HTTP/1.1 200 OK\r\nX-A: " + long + long + "\r\n\r\n", errHeadTooLarge.Error()},
		{"many headers", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 10_000) + "\r\n", errHeadTooLarge.Error()},
		{"long headers of informational answers", strings.Repeat("HTTP/1.1 103 Early\r\nX-A: "+long[:20<<10]+"\r\n\r\n", 4) + hello, errHeadTooLarge.Error()},
		{"six informational answers", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 6) + hello, "too many informational answers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := script(t, func(c net.Conn, r *bufio.Reader) {
				answers(tt.answer)(c, r)
				c.(*net.TCPConn).CloseWrite()
				untilGone(c, r) // script's end hangs if the connection were left open
			})
			tr := transport(t)
			res, err := tr.RoundTrip(post(t, address, "a"))
			if err == nil || !strings.Contains(err.Error(), tt.want) || res != nil {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if n := idle(tr); n != 0 {
				t.Errorf("%d idle connections", n)
			}
		})
	}
}

func TestLargeHeadThatFits(t *testing.T) {
	t.Parallel()
	value := strings.Repeat("x", 60<<10)
	address := script(t, answers("HTTP/1.1 200 OK\r\nX-A: "+value+"\r\nContent-Length: 5\r\n\r\nhello"))
	res, err := transport(t).RoundTrip(get(t, address))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "hello" || err != nil || res.Header.Get("X-A") != value {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	reset := func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }
	tests := []struct {
		name, answer, body string
		end                func(net.Conn)
		exact              bool
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "hello", nil, true},
		{"length, nothing came", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "", nil, true},
		{"in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", "hello", nil, true},
		{"between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hello", nil, true},
		{"before the last chunk's end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "hello", nil, false},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "hello", nil, false},
		{"reset", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "", reset, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan struct{})
			address := script(t, func(c net.Conn, r *bufio.Reader) {
				answers(tt.answer)(c, r)
				<-seen
				if tt.end != nil {
					tt.end(c)
				}
			})
			tr := transport(t)
			res, err := tr.RoundTrip(get(t, address))
			if err != nil {
				t.Fatal(err)
			}
			close(seen)
			body, err := io.ReadAll(res.Body)
			if string(body) != tt.body || err == nil || tt.exact && err != io.ErrUnexpectedEOF {
				t.Errorf("got %q, %v", body, err)
			}
			if _, again := res.Body.Read(make([]byte, 1)); again != err {
				t.Errorf("the next Read says %v, want %v again", again, err)
			}
			if n := idle(tr); n != 0 {
				t.Errorf("%d idle connections", n)
			}
		})
	}
}

// TestEarlyAnswer has a server that refuses a body before it has read it, and hangs up.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(c net.Conn, r *bufio.Reader)
	}{
		{"reads on", untilGone},
		{"hangs up", func(c net.Conn, _ *bufio.Reader) { c.(*net.TCPConn).CloseRead() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := script(t, func(c net.Conn, r *bufio.Reader) {
				r.ReadString('\n')
				io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge")
				tt.end(c, r)
			})
			tr := transport(t)
			if status, body := do(t, tr, post(t, address, strings.Repeat("x", 5<<20))); status != 413 || body != "large" {
				t.Errorf("got %d %q", status, body)
			}
			if n := idle(tr); n != 0 {
				t.Errorf("%d idle connections", n)
			}
		})
	}
	t.Run("net/http's limit", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<10)); err != nil {
				http.Error(w, "large", http.StatusRequestEntityTooLarge)
			}
		})
		if status, body := do(t, transport(t), post(t, s.URL, strings.Repeat("x", 5<<20))); status != 413 || body != "large\n" {
			t.Errorf("got %d %q", status, body)
		}
	})
}

func TestBodyClose(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	address := script(t, func(c net.Conn, r *bufio.Reader) {
		answers("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")(c, r)
		untilGone(c, r)
		gone <- struct{}{}
	})
	tr := transport(t)
	open := func() io.ReadCloser {
		res, err := tr.RoundTrip(get(t, address))
		if err != nil {
			t.Fatal(err)
		}
		return res.Body
	}
	buf := make([]byte, 5)

	body := open()
	for range 2 {
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
	<-gone
	if n, err := body.Read(buf); n != 0 || err != http.ErrBodyReadAfterClose {
		t.Errorf("after Close: %d, %v", n, err)
	}

	body = open() // closed by another goroutine while it is read
	if _, err := io.ReadFull(body, buf); err != nil {
		t.Error(err)
	}
	read := make(chan error)
	go func() {
		_, err := body.Read(buf)
		read <- err
	}()
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	if err := <-read; !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("the Read that waited says %v", err)
	}
	<-gone
	if n := idle(tr); n != 0 {
		t.Errorf("%d idle connections", n)
	}
}

func TestCloseAfterEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	tr := transport(t)
	res, err := tr.RoundTrip(get(t, s.URL))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Error(err)
	}
	first := res.Body
	for range 3 { // the connection is another request's now: neither Close nor Read may touch it
		res, err := tr.RoundTrip(get(t, s.URL))
		if err != nil {
			t.Fatal(err)
		}
		first.Close()
		if n, err := first.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("the first body gives %d, %v", n, err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "hello" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
	}
	if n := s.opened.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}
