package http1

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A difference is a way in which this client treats an answer differently from net/http on purpose. FuzzDifferential accepts no others.
type difference struct {
	name, reason string
	// applies reports whether the two outcomes differ in this way, and in no other.
	applies func(raw []byte, ours, theirs outcome) bool
}

var differences = []difference{
	{
		"trailers", "nothing reads the trailers of a model server, so they are checked and dropped",
		func(_ []byte, ours, theirs outcome) bool {
			ours.Trailer, theirs.Trailer = nil, nil
			return cmp.Equal(ours, theirs)
		},
	},
	{
		"switched protocols", "the gateway never asks to switch, so a 101 is a fault of the server",
		func(_ []byte, ours, theirs outcome) bool {
			return !ours.Accepted && theirs.Status == http.StatusSwitchingProtocols
		},
	},
	{
		"a status below 100", "no such status exists, and a client could not be told",
		func(_ []byte, ours, theirs outcome) bool {
			return !ours.Accepted && theirs.Accepted && theirs.Status < 100
		},
	},
	{
		"many informational answers", "a server may send one every few seconds while it works; they are bounded by their size, not by their number",
		func(raw []byte, ours, theirs outcome) bool {
			return ours.Accepted && !theirs.Accepted && bytes.Count(raw, []byte("HTTP/1.")) > 5
		},
	},
	{
		"a large head", "64 KiB are far more than the head of any model server; net/http reads up to 10 MiB, and keeps them",
		func(raw []byte, ours, theirs outcome) bool {
			return !ours.Accepted && theirs.Accepted && headSize(raw) >= maxHead
		},
	},
	{
		"a long line in chunked framing", "a line of framing and the trailer have 4 KiB each, in whatever pieces they arrive; net/http's bound depends on its buffer",
		func(raw []byte, ours, theirs outcome) bool {
			return ours.chunked() && theirs.chunked() && ours.Whole != theirs.Whole && len(raw) > maxChunkLine
		},
	},
	{
		"a chunk of an exabyte", "its length overflows a count, of the body here or of the framing there, so that one of the two stops earlier",
		func(raw []byte, ours, theirs outcome) bool {
			if !hugeChunk.Match(raw) || ours.Whole || !strings.HasPrefix(ours.Body, theirs.Body) && !strings.HasPrefix(theirs.Body, ours.Body) {
				return false
			}
			ours.Body = theirs.Body
			return ours.chunked() && cmp.Equal(ours, theirs)
		},
	},
	{
		"a connection with bytes after its answer", "net/http first returns it to its pool, and closes it when it reads them; here it is closed at once",
		func(_ []byte, ours, theirs outcome) bool {
			ours.Trailer, theirs.Trailer, theirs.Reused, theirs.Surplus = nil, nil, false, true
			return cmp.Equal(ours, theirs)
		},
	},
}

var (
	informational = regexp.MustCompile(`^HTTP/1\.\d 1\d\d`)
	endOfHead     = regexp.MustCompile(`\r?\n\r?\n`)
	hugeChunk     = regexp.MustCompile(`\n[0-9A-Fa-f]{14,}`)
)

// headSize returns the size of an answer's head in bytes, with the informational answers before it.
func headSize(raw []byte) int {
	for size := 0; ; {
		head := raw[size:]
		end := endOfHead.FindIndex(head)
		if end == nil {
			return len(raw)
		}
		if size += end[1]; !informational.Match(head) {
			return size
		}
	}
}

// An outcome is what a client makes of an answer.
type outcome struct {
	Accepted bool
	Status   int
	Text     string // of the status
	Proto    string
	Header   http.Header
	Length   int64
	Encoding []string
	Body     string
	Whole    bool // the body ended properly
	Trailer  http.Header
	Reused   bool // the connection serves another request
	Surplus  bool // bytes followed the answer; known only of an answer whose connection is not reused here, but by net/http
}

func (o outcome) chunked() bool { return len(o.Encoding) > 0 }

// A recorded is a connection to a server that answers the first request with some bytes and then closes.
type recorded struct {
	mu      sync.Mutex
	asked   *sync.Cond
	answer  *bytes.Reader
	sent    bool // something was written
	closed  bool
	expired bool
}

func newRecorded(raw []byte) *recorded {
	c := &recorded{answer: bytes.NewReader(raw)}
	c.asked = sync.NewCond(&c.mu)
	return c
}

func (c *recorded) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.sent && !c.closed && !c.expired {
		c.asked.Wait()
	}
	if c.closed {
		return 0, net.ErrClosed
	}
	if c.expired {
		return 0, os.ErrDeadlineExceeded
	}
	return c.answer.Read(p)
}

func (c *recorded) Write(p []byte) (int, error) { c.set(&c.sent); return len(p), nil }
func (c *recorded) Close() error                { c.set(&c.closed); return nil }

func (c *recorded) SetDeadline(t time.Time) error {
	if !t.IsZero() {
		c.set(&c.expired)
	}
	return nil
}

func (c *recorded) set(flag *bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*flag = true
	c.asked.Broadcast()
}

func (c *recorded) SetReadDeadline(time.Time) error  { return nil }
func (c *recorded) SetWriteDeadline(time.Time) error { return nil }
func (c *recorded) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *recorded) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

var differentialMethods = [...]string{http.MethodGet, http.MethodHead, http.MethodPost}

func differentialRequest(t testing.TB, method string) *http.Request {
	t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("{}")
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://model.example/", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// read reads an answer to its end.
func read(res *http.Response, err error) (o outcome) {
	if err != nil {
		return outcome{}
	}
	o = outcome{
		Accepted: true, Status: res.StatusCode, Text: res.Status, Proto: res.Proto, Header: res.Header, Length: res.ContentLength,
		Encoding: res.TransferEncoding,
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		res.Body.Close()
		return o
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	o.Body, o.Whole = string(body), err == nil
	if len(res.Trailer) > 0 && err == nil {
		o.Trailer = res.Trailer
	}
	return o
}

func readHere(t testing.TB, method string, raw []byte) outcome {
	t.Helper()
	tr, nc := &Transport{}, newRecorded(raw)
	defer tr.CloseIdleConnections()
	c := &conn{t: tr, address: "model.example:80", nc: nc}
	c.interrupt = c.expire
	req := differentialRequest(t, method)
	o := read(c.exchange(req, req.Body))
	o.Reused = idle(tr) > 0
	return o
}

func readThere(t testing.TB, method string, raw []byte) outcome {
	t.Helper()
	tr := &http.Transport{DisableCompression: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return newRecorded(raw), nil }}
	defer tr.CloseIdleConnections()
	req, reused := differentialRequest(t, method), false
	trace := &httptrace.ClientTrace{PutIdleConn: func(err error) { reused = err == nil }}
	o := read(tr.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace))))
	o.Reused = reused
	return o
}

// hasSurplus reports whether the last byte belongs to no answer: without it, the answer is the same.
func hasSurplus(t testing.TB, method string, raw []byte, whole outcome) bool {
	t.Helper()
	shorter := readHere(t, method, raw[:len(raw)-1])
	shorter.Reused = whole.Reused
	return cmp.Equal(shorter, whole)
}

// FuzzDifferential checks that any bytes are accepted, rejected and read as by net/http's transport, except for the differences.
func FuzzDifferential(f *testing.F) {
	log.SetOutput(io.Discard) // net/http reports bytes on idle connections
	f.Cleanup(func() { log.SetOutput(os.Stderr) })
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, raw := range []string{
		hello, "HTTP/1.0 200 OK\r\n\r\nhello", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 100 Continue\r\n\r\n" + hello, strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 7) + hello, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + hello,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", ok + "Content-Length: 5, 5\r\n\r\nhello",
		ok + "Content-Length: +5\r\n\r\nhello", ok + "Content-Length: -1\r\n\r\n", ok + "Content-Length: \r\n\r\nhello", ok + "Content-Length: 9\r\n\r\nhello",
		ok + "Content-Length: 3\r\n\r\nhello", ok + "\r\nhello", ok + "Connection: close\r\n\r\nhello", ok + "Connection: close\r\nContent-Length: 5\r\n\r\nhello",
		ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ok + "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
		ok + "Trailer: A\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n", ok + "Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
		ok + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ok + "Transfer-Encoding: identity\r\n\r\nhello",
		ok + "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", ok + "A: b\r\n c\r\nContent-Length: 0\r\n\r\n", ok + "A : b\r\nContent-Length: 0\r\n\r\n", ok + ": b\r\n\r\n",
		ok + "A: \x00\r\nContent-Length: 0\r\n\r\n", ok + "A: caf\xe9\r\nContent-Length: 0\r\n\r\n", ok + "A: " + strings.Repeat("x", maxHead) + "\r\n\r\n",
		"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "http/1.1 200 OK\r\n\r\n",
		"\r\n" + hello, ok + "Content-Le", "", "SSH-2.0-OpenSSH\r\n", hello + hello,
		ok + "server: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n0\r\n\r\n",
		ok + "Access-Control-Allow-Origin: \r\nContent-Length: 2\r\nContent-Type: application/json; charset=utf-8\r\nKeep-Alive: timeout=5, max=100\r\nServer: llama.cpp\r\n\r\n{}",
		ok + "Pragma: no-cache\r\nContent-Length: 0\r\n\r\n", ok + "Connection: keep-alive, close\r\nContent-Length: 0\r\n\r\n",
	} {
		for method := range differentialMethods {
			f.Add([]byte(raw), uint8(method))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, m uint8) {
		method := differentialMethods[int(m)%len(differentialMethods)]
		ours, theirs := readHere(t, method, raw), readThere(t, method, raw)
		if cmp.Equal(ours, theirs) {
			return
		}
		if theirs.Reused && !ours.Reused {
			ours.Surplus = hasSurplus(t, method, raw, ours)
		}
		for _, d := range differences {
			if d.applies(raw, ours, theirs) {
				return
			}
		}
		t.Errorf("%s %.2000q (-net/http +here):\n%s", method, raw, cmp.Diff(theirs, ours))
	})
}
