package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// buffered returns a connection that has received an answer.
func buffered(answer string) *conn {
	c := &conn{r: bufio.NewReaderSize(strings.NewReader(answer), readBuffer)}
	_, _ = c.r.Peek(1)
	return c
}

func TestUsualHead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		usual        bool
	}{
		{"llama.cpp", "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 5\r\nKeep-Alive: timeout=5, max=100\r\n\r\nhello", true},
		{"uvicorn", "HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true},
		{"Ollama", "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Length: 0\r\n\r\n", true},
		{"closes", "HTTP/1.1 503 Service Unavailable\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nno", true},
		{"keeps alive", "HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nno", true},
		{"incomplete", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", false},
		{"body until the connection closes", "HTTP/1.1 200 OK\r\n\r\nhello", false},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", false},
		{"informational", "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", false},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", false},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", false},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", false},
		{"length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", false},
		{"two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		{"other coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", false},
		{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello", false},
		{"length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", false},
		{"repeated header", "HTTP/1.1 200 OK\r\nX-A: b\r\nx-a: c\r\nContent-Length: 5\r\n\r\nhello", false},
		{"folded line", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello", false},
		{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", false},
		{"lone LF", "HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 5\r\n\r\nhello", false},
		{"lone CR", "HTTP/1.1 200 OK\r\nX-A: b\rContent-Length: 5\r\n\r\nhello", false},
		{"zero byte", "HTTP/1.1 200 OK\r\nX-A: \x00\r\nContent-Length: 5\r\n\r\nhello", false},
		{"not ASCII", "HTTP/1.1 200 OK\r\nX-A: é\r\nContent-Length: 5\r\n\r\nhello", false},
		{"list in Connection", "HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 5\r\n\r\nhello", false},
		{"contradictory Connection", "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", false},
		{"upgrade", "HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello", false},
		{"trailer", "HTTP/1.1 200 OK\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if usual := compareHeads(t, tt.answer); usual != tt.usual {
				t.Errorf("read as a usual head: %t, want %t", usual, tt.usual)
			}
		})
	}
	if _, ok := buffered("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").readUsualHead(&http.Request{Method: http.MethodHead}); ok {
		t.Error("the answer to HEAD got a body")
	}
}

// compareHeads reports whether an answer has a usual head, and compares it with what net/http reads. Any other head must be left
// unread.
func compareHeads(t *testing.T, answer string) (usual bool) {
	t.Helper()
	req := &http.Request{Method: http.MethodPost}
	c := buffered(answer)
	before := c.r.Buffered()
	res, ok := c.readUsualHead(req)
	if !ok {
		if c.r.Buffered() != before {
			t.Fatal("an unusual head was read in part")
		}
		return false
	}
	theirs := bufio.NewReaderSize(strings.NewReader(answer), readBuffer)
	want, err := http.ReadResponse(theirs, req)
	if err != nil {
		t.Fatalf("net/http rejects it: %v", err)
	}
	ignored := cmpopts.IgnoreFields(http.Response{}, "Body", "Request")
	if diff := cmp.Diff(want, res, ignored); diff != "" {
		t.Errorf("(-net/http +ours):\n%s", diff)
	}
	if (res.Body == http.NoBody) != (want.Body == http.NoBody) {
		t.Error("only one of them has a body")
	}
	rest, _ := io.ReadAll(c.r)
	wantRest, _ := io.ReadAll(theirs)
	if string(rest) != string(wantRest) {
		t.Errorf("%q follows, for net/http %q", rest, wantRest)
	}
	return true
}

func FuzzUsualHead(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 500  a\tb \r\nconnection:close\r\nX-A:\r\ncontent-length:\t000 \r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 599 \r\n!#$%&'*+-.^_`|~: a:b\r\nContent-Length: 123456789012345\r\n\r\n",
	} {
		f.Add(answer)
	}
	f.Fuzz(func(t *testing.T, answer string) { compareHeads(t, answer) })
}

func TestBadAnswer(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 60<<10)
	tests := []struct{ name, answer, want string }{
		{"nothing", "", "unexpected EOF"},
		{"truncated in the head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "unexpected EOF"},
		{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed HTTP"},
		{"status too small", "HTTP/1.1 +99 OK\r\n\r\n", "unexpected status 99"},
		{"other protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", "unexpected status 101"},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "multiple Content-Length headers"},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad Content-Length"},
		{"unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unsupported transfer encoding"},
		{"long header", "HTTP/1.1 200 OK\r\nX-A: " + long + long + "\r\n\r\n", errHeadTooLarge.Error()},
		{"many headers", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 10_000) + "\r\n", errHeadTooLarge.Error()},
		{"long headers of informational answers", strings.Repeat("HTTP/1.1 103 Early\r\nX-A: "+long[:20<<10]+"\r\n\r\n", 4) + hello, errHeadTooLarge.Error()},
		{"endless informational answers", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 10_000), errHeadTooLarge.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := script(t, func(c net.Conn, r *bufio.Reader) {
				answers(tt.answer)(c, r)
				c.(*net.TCPConn).CloseWrite()
				untilGone(c, r) // if the connection stayed open, the test would hang at its end
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
		{"length, empty body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "", nil, true},
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
				t.Errorf("the next Read returns %v, want %v again", again, err)
			}
			if n := idle(tr); n != 0 {
				t.Errorf("%d idle connections", n)
			}
		})
	}
}

// A server may reject a body before it has read it, and close the connection.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(c net.Conn, r *bufio.Reader)
	}{
		{"reads on", untilGone},
		{"stops reading", func(c net.Conn, _ *bufio.Reader) { c.(*net.TCPConn).CloseRead() }},
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
		t.Errorf("the pending Read returned %v", err)
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
	for range 3 { // the connection belongs to another request now: neither Close nor Read may affect it
		res, err := tr.RoundTrip(get(t, s.URL))
		if err != nil {
			t.Fatal(err)
		}
		first.Close()
		if n, err := first.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("Read of the first body = %d, %v, want 0, EOF", n, err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != "hello" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
	}
	if n := s.opened.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}
