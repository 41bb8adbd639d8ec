package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// A recorder is a connection that keeps what is written, piece by piece, as it was given.
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

// segments is a body in pieces that writes itself.
type segments [][]byte

func (s segments) Read([]byte) (int, error) { panic("read, although it can write itself") }

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

// atOnce is a body that gives all its pieces together.
type atOnce [][]byte

func (atOnce) Read([]byte) (int, error) { panic("read, although it can write itself") }

func (b atOnce) WriteTo(w io.Writer) (int64, error) {
	return w.(interface {
		WriteSegments([][]byte) (int64, error)
	}).WriteSegments(b)
}

// TestWriteSegments holds that a spliced body leaves with one call of the system, and that no more leaves than was announced.
func TestWriteSegments(t *testing.T) {
	t.Parallel()
	small, large := []byte("small"), []byte(strings.Repeat("L", 100<<10))
	for _, tt := range []struct {
		name  string
		body  atOnce
		extra int64 // announced beyond what there is
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
				t.Errorf("%d bytes of the body left, want %d", len(body), len(whole))
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
		want string // H the head, s and L the pieces; what stands together left together and was copied, [] uncopied
	}{
		{"small", segments{small}, "Hs"},
		{"some small ones", segments{small, small, small}, "Hsss"},
		{"large", segments{large}, "H [L]"},
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
	// The buffer grows with the head; what follows must still be framed right.
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

func TestBodyAtFault(t *testing.T) {
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
		{"too short, writes itself", strings.NewReader("abc"), 5, "2 bytes shorter than announced"},
		{"too long, writes itself", strings.NewReader("abcdef"), 5, "longer than announced"},
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
				t.Errorf("the server got %q: more than announced, or an end that is none", sent)
			}
		})
	}
}
