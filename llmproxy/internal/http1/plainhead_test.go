package http1

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// buffered is a connection of which an answer has come.
func buffered(answer string) *conn {
	c := &conn{r: bufio.NewReaderSize(strings.NewReader(answer), readBuffer)}
	_, _ = c.r.Peek(1)
	return c
}

func TestPlainHead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		plain        bool
	}{
		{"llama.cpp", "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 5\r\nKeep-Alive: timeout=5, max=100\r\n\r\nhello", true},
		{"uvicorn", "HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true},
		{"Ollama", "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Length: 0\r\n\r\n", true},
		{"closes", "HTTP/1.1 503 Service Unavailable\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nno", true},
		{"keeps alive", "HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nno", true},
		{"not all of it", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", false},
		{"until it closes", "HTTP/1.1 200 OK\r\n\r\nhello", false},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", false},
		{"informational", "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", false},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", false},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", false},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", false},
		{"length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", false},
		{"two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		{"another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", false},
		{"a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello", false},
		{"a length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", false},
		{"a header twice", "HTTP/1.1 200 OK\r\nX-A: b\r\nx-a: c\r\nContent-Length: 5\r\n\r\nhello", false},
		{"a folded line", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello", false},
		{"a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", false},
		{"a line feed alone", "HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 5\r\n\r\nhello", false},
		{"a carriage return alone", "HTTP/1.1 200 OK\r\nX-A: b\rContent-Length: 5\r\n\r\nhello", false},
		{"a zero byte", "HTTP/1.1 200 OK\r\nX-A: \x00\r\nContent-Length: 5\r\n\r\nhello", false},
		{"beyond ASCII", "HTTP/1.1 200 OK\r\nX-A: é\r\nContent-Length: 5\r\n\r\nhello", false},
		{"a list in Connection", "HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 5\r\n\r\nhello", false},
		{"closes, and does not", "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", false},
		{"an upgrade", "HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello", false},
		{"a trailer", "HTTP/1.1 200 OK\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if plain := alike(t, tt.answer); plain != tt.plain {
				t.Errorf("read as a plain head: %t, want %t", plain, tt.plain)
			}
		})
	}
	if _, ok := buffered("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").plainHead(&http.Request{Method: http.MethodHead}); ok {
		t.Error("the answer to HEAD got a body")
	}
}

// alike holds a plain head against what net/http finds. What is none is left as it was.
func alike(t *testing.T, answer string) (plain bool) {
	t.Helper()
	req := &http.Request{Method: http.MethodPost}
	c := buffered(answer)
	before := c.r.Buffered()
	res, ok := c.plainHead(req)
	if !ok {
		if c.r.Buffered() != before {
			t.Fatal("something was read of what is left to net/http")
		}
		return false
	}
	theirs := bufio.NewReaderSize(strings.NewReader(answer), readBuffer)
	want, err := http.ReadResponse(theirs, req)
	if err != nil {
		t.Fatalf("net/http does not take it: %v", err)
	}
	ignored := cmpopts.IgnoreFields(http.Response{}, "Body", "Request")
	if diff := cmp.Diff(want, res, ignored); diff != "" {
		t.Errorf("(-net/http +plain):\n%s", diff)
	}
	if (res.Body == http.NoBody) != (want.Body == http.NoBody) {
		t.Error("one of both has no body")
	}
	rest, _ := io.ReadAll(c.r)
	wantRest, _ := io.ReadAll(theirs)
	if string(rest) != string(wantRest) {
		t.Errorf("%q stands behind it, for net/http %q", rest, wantRest)
	}
	return true
}

func FuzzPlainHead(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 500  a\tb \r\nconnection:close\r\nX-A:\r\ncontent-length:\t000 \r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 599 \r\n!#$%&'*+-.^_`|~: a:b\r\nContent-Length: 123456789012345\r\n\r\n",
	} {
		f.Add(answer)
	}
	f.Fuzz(func(t *testing.T, answer string) { alike(t, answer) })
}
