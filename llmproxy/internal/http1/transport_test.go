package http1

import (
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
		{"framing is ours", func(r *http.Request) {
			r.Header = http.Header{"content-length": {"7"}, "Transfer-encoding": {"chunked"}, "HOST": {"evil"}, "trailer": {"X-A"}}
			r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader("a")), 1
		}, seen{"POST", "/v1/x?a=b%20c", host, "a", 1, nil, one}},
		{"unknown length", func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(iotest.OneByteReader(strings.NewReader("abc"))), -1
		}, seen{"POST", "/v1/x?a=b%20c", host, "abc", -1, []string{"chunked"}, http.Header{}}},
		{"length zero beside a body is unknown too", func(r *http.Request) {
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
		t.Errorf("%d connections for all of it, want 1", n)
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
		{"writes itself", strings.NewReader(big), int64(len(big))},
		{"is read", struct{ io.Reader }{strings.NewReader(big)}, int64(len(big))},
		{"is read in small pieces", iotest.HalfReader(strings.NewReader(big)), int64(len(big))},
		{"is a file", file, int64(len(big))},
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
	const address = "http://127.0.0.1:1" // nobody listens there
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
				if j%10 == 5 { // some leave early
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
