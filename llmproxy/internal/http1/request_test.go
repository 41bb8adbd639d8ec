package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(*http.Request)
		want string
	}{
		{"https", func(r *http.Request) { r.URL.Scheme = "https" }, "not an http:// address"},
		{"no scheme", func(r *http.Request) { r.URL.Scheme = "" }, "not an http:// address"},
		{"no URL", func(r *http.Request) { r.URL = nil }, "not an http:// address"},
		{"no host", func(r *http.Request) { r.URL.Host = "" }, "the address has no host"},
		{"method", func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nX: y" }, "invalid method"},
		{"host", func(r *http.Request) { r.Host = "a\r\nX: y" }, "invalid host"},
		{"host with a path", func(r *http.Request) { r.Host = "a/b" }, "invalid host"},
		{"host in unicode", func(r *http.Request) { r.Host = "bücher.example" }, "invalid host"},
		{"query", func(r *http.Request) { r.URL.RawQuery = "a HTTP/1.1\r\nX: y" }, "invalid path or query"},
		{"opaque", func(r *http.Request) { r.URL.Opaque = "/a\r\nX: y" }, "invalid path or query"},
		{"space in the query", func(r *http.Request) { r.URL.RawQuery = "a b" }, "invalid path or query"},
		{"header name", func(r *http.Request) { r.Header["X\r\nY"] = []string{"a"} }, "invalid header name"},
		{"header name with a colon", func(r *http.Request) { r.Header["Content-Length:"] = []string{"a"} }, "invalid header name"},
		{"header name with a space", func(r *http.Request) { r.Header["Transfer-Encoding "] = []string{"a"} }, "invalid header name"},
		{"empty header name", func(r *http.Request) { r.Header[""] = []string{"a"} }, "invalid header name"},
		{"header value", func(r *http.Request) { r.Header["Authorization"] = []string{"secret\r\nY: z"} }, "invalid value of header Authorization"},
		{"LF in a header value", func(r *http.Request) { r.Header["X"] = []string{"a\nY: z"} }, "invalid value of header X"},
		{"zero byte", func(r *http.Request) { r.Header["X"] = []string{"a\x00"} }, "invalid value of header X"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := &source{Reader: strings.NewReader("a")}
			req := post(t, "http://127.0.0.1:1/", "")
			req.Body, req.ContentLength = body, 1
			tt.edit(req)
			_, err := (&Transport{}).RoundTrip(req)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if n := body.closed.Load(); n != 1 {
				t.Errorf("the body was closed %d times", n)
			}
		})
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, url, host, want, address string }{
		{"address", "http://10.0.0.5:8000/x", "", "10.0.0.5:8000", "10.0.0.5:8000"},
		{"without a port", "http://gpu", "", "gpu", "gpu:80"},
		{"of its own", "http://gpu", "llm.example", "llm.example", "gpu:80"},
		{"IPv6", "http://[::1]:8000", "", "[::1]:8000", "[::1]:8000"},
		{"IPv6 without a port", "http://[::1]", "", "[::1]", "[::1]:80"},
		{"IPv6 with a zone", "http://[fe80::1%25eth0]:8000", "", "[fe80::1]:8000", "[fe80::1%eth0]:8000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req := get(t, tt.url)
			req.Host = tt.host
			if got := host(req); got != tt.want || validate(req) != nil {
				t.Errorf("Host is %q, want %q; %v", got, tt.want, validate(req))
			}
			if got := hostPort(req); got != tt.address {
				t.Errorf("dials %q, want %q", got, tt.address)
			}
		})
	}
}

// FuzzRequestHead checks that the head of a valid request is read as exactly that request.
func FuzzRequestHead(f *testing.F) {
	f.Add("POST", "/v1/chat", "a=b", "gpu:8000", "X-A", "b")
	f.Add("GET / HTTP/1.1\r\n\r\nGET", "/\r\n", "a b", "a\r\nb", "content-length", "5\r\n\r\nx")
	f.Add("GET", "*", "\x7f", "[::1%a]", "Transfer-Encoding", "chunked")
	f.Fuzz(func(t *testing.T, method, path, query, hostname, name, value string) {
		req := &http.Request{
			Method: method, Host: hostname, Header: http.Header{name: {value}},
			URL: &url.URL{Scheme: "http", Host: "gpu", Path: "/" + path, RawQuery: query},
		}
		if validate(req) != nil || method == http.MethodConnect || method == "PRI" {
			return
		}
		wire := bufio.NewReader(bytes.NewReader(appendHead(nil, req, 0)))
		got, err := http.ReadRequest(wire)
		if err != nil {
			t.Fatalf("not a request: %v", err)
		}
		if rest, _ := io.ReadAll(wire); len(rest) > 0 {
			t.Errorf("%q follows the request", rest)
		}
		if want := req.URL.RequestURI(); got.RequestURI != want || method != "" && got.Method != method || got.Host != host(req) {
			t.Errorf("got %s %q at %q, want %s %q at %q", got.Method, got.RequestURI, got.Host, method, want, host(req))
		}
		want := http.Header{}
		if !isFraming(name) {
			want.Add(name, strings.Trim(value, " \t"))
		}
		got.Header.Del("Content-Length")
		if want.Get("Pragma") == "no-cache" { // net/http adds the header that it implies
			got.Header.Del("Cache-Control")
		}
		if diff := cmp.Diff(want, got.Header); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
	})
}

// A recorder is a connection that records each write.
type recorder struct {
	net.Conn
	pieces [][]byte
	at     []*byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.pieces = append(r.pieces, bytes.Clone(p))
	r.at = append(r.at, &p[0])
	return len(p), nil
}

// segments is a body in pieces, each written by itself.
type segments [][]byte

func (s segments) Read([]byte) (int, error) { panic("read instead of written by WriteTo") }

func (s segments) WriteTo(w io.Writer) (n int64, err error) {
	for _, piece := range s {
		written, err := w.Write(piece)
		n += int64(written)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// atOnce is a body that writes all its pieces together.
type atOnce [][]byte

func (atOnce) Read([]byte) (int, error) { panic("read instead of written by WriteTo") }

func (b atOnce) WriteTo(w io.Writer) (int64, error) {
	return w.(interface {
		WriteSegments([][]byte) (int64, error)
	}).WriteSegments(b)
}

// TestWriteSegments checks that a spliced body is sent with one system call, and never more than was announced.
func TestWriteSegments(t *testing.T) {
	t.Parallel()
	small, large := []byte("small"), []byte(strings.Repeat("L", 100<<10))
	for _, tt := range []struct {
		name  string
		body  atOnce
		extra int64 // announced in excess of the body
		err   bool
	}{
		{"small", atOnce{small, small}, 0, false},
		{"spliced", atOnce{large, small, nil, small}, 0, false},
		{"in many pieces", slices.Repeat(atOnce{small, large}, 20), 0, false},
		{"more than announced", atOnce{large, small}, -1, true},
		{"less than announced", atOnce{large, small}, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			whole := bytes.Join(tt.body, nil)
			near, far := net.Pipe()
			got := make(chan []byte, 1)
			go func() {
				b, _ := io.ReadAll(far)
				got <- b
			}()
			req := post(t, "http://gpu", "")
			req.Body, req.ContentLength = io.NopCloser(tt.body), int64(len(whole))+tt.extra
			err := (&conn{nc: near}).write(req, tt.body)
			near.Close()
			_, body, _ := bytes.Cut(<-got, []byte("\r\n\r\n"))
			if _, ours := errors.AsType[*bodyError](err); ours != tt.err {
				t.Errorf("got %v", err)
			}
			if !tt.err && !bytes.Equal(body, whole) || int64(len(body)) > req.ContentLength {
				t.Errorf("%d bytes of the body were sent, want %d", len(body), len(whole))
			}
		})
	}
}

func TestWritePieces(t *testing.T) {
	t.Parallel()
	small, large := []byte(strings.Repeat("s", 1<<10)), []byte(strings.Repeat("L", 100<<10))
	tests := []struct {
		name string
		body io.Reader
		want string // H is the head, s and L are pieces; what is written together is joined, and what is not copied is in brackets
	}{
		{"small piece", segments{small}, "Hs"},
		{"small pieces", segments{small, small, small}, "Hsss"},
		{"large piece", segments{large}, "H [L]"},
		{"spliced at the start", segments{small, small, large, small}, "Hss [L] s"},
		{"spliced in the middle", segments{large, small, large}, "H [L] s [L]"},
		{"empty pieces", segments{nil, small, nil}, "Hs"},
		{"read", strings.NewReader(string(small)), "Hs"},
		{"read, without WriteTo", struct{ io.Reader }{bytes.NewReader(small)}, "Hs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			length := int64(strings.Count(tt.want, "s")*len(small) + strings.Count(tt.want, "L")*len(large))
			r := &recorder{}
			req := post(t, "http://gpu", "")
			req.Body, req.ContentLength = io.NopCloser(tt.body), length
			if err := (&conn{nc: r}).write(req, tt.body); err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, piece := range r.pieces {
				what := ""
				if head, body, found := bytes.Cut(piece, []byte("\r\n\r\n")); found && bytes.HasPrefix(head, []byte("POST / HTTP/1.1\r\n")) {
					what, piece = "H", body
				}
				what += strings.Repeat("s", bytes.Count(piece, small)) + strings.Repeat("L", bytes.Count(piece, large))
				if r.at[i] == &large[0] {
					what = "[" + what + "]"
				}
				got = append(got, what)
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("written as %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWriteHugeHead(t *testing.T) {
	t.Parallel()
	// The buffer grows with the head. The body must still be framed correctly.
	requests := make(chan string, 3)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- r.Header.Get("X-A") + string(body)
	})
	tr := transport(t)
	value, text := strings.Repeat("x", 200<<10), strings.Repeat("y", 300<<10)
	for _, length := range []int64{int64(len(text)), -1} {
		for _, body := range []io.Reader{strings.NewReader(text), struct{ io.Reader }{strings.NewReader(text)}} {
			req := post(t, s.URL, "")
			req.Header.Set("X-A", value)
			req.Body, req.ContentLength = io.NopCloser(body), length
			do(t, tr, req)
			if got := <-requests; got != value+text {
				t.Errorf("the server got %d bytes, want %d", len(got), len(value)+len(text))
			}
		}
	}
}

func TestBodyError(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk error")
	tests := []struct {
		name   string
		body   io.Reader
		length int64
		want   string
	}{
		{"fails", iotest.ErrReader(broken), 5, "disk error"},
		{"fails in the middle", io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), 5, "disk error"},
		{"fails in the middle, chunked", io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), -1, "disk error"},
		{"too short", struct{ io.Reader }{strings.NewReader("abc")}, 5, "2 bytes shorter than announced"},
		{"too long", struct{ io.Reader }{strings.NewReader("abcdef")}, 5, "longer than announced"},
		{"too short, with WriteTo", strings.NewReader("abc"), 5, "2 bytes shorter than announced"},
		{"too long, with WriteTo", strings.NewReader("abcdef"), 5, "longer than announced"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			address := script(t, func(_ net.Conn, r *bufio.Reader) {
				b, _ := io.ReadAll(r)
				_, body, _ := strings.Cut(string(b), "\r\n\r\n")
				got <- body
			})
			body := &source{Reader: tt.body}
			req := post(t, address, "")
			req.Body, req.ContentLength = body, tt.length
			if from, ok := tt.body.(io.WriterTo); ok {
				req.Body = struct {
					*source
					io.WriterTo
				}{body, from}
			}
			_, err := transport(t).RoundTrip(req)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if strings.Contains(tt.want, "disk") && !errors.Is(err, broken) {
				t.Errorf("%v does not wrap its cause", err)
			}
			if n := body.closed.Load(); n != 1 {
				t.Errorf("the body was closed %d times", n)
			}
			if sent := <-got; len(sent) > 5 && tt.length > 0 || strings.HasSuffix(sent, "0\r\n\r\n") {
				t.Errorf("the server got %q: more than announced, or a complete body", sent)
			}
		})
	}
}
