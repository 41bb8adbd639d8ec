package http1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
)

var oneKB = strings.Repeat("x", 1<<10)

// request builds a request as the gateway does: the address is parsed already, and the body is an io.WriterTo.
func request(u *url.URL, body string) *http.Request {
	return &http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, ContentLength: int64(len(body)), Header: http.Header{
			"Accept-Encoding": {"identity"}, "Authorization": {"Bearer key"}, "Content-Type": {"application/json"},
			"User-Agent": {"caddy-llmproxy"}, "X-Request-Id": {"0123456789abcdef"},
		},
		Body: io.NopCloser(strings.NewReader(body)), // keeps WriteTo
	}
}

func exchange(t testing.TB, tr http.RoundTripper, u *url.URL, body string) {
	res, err := tr.RoundTrip(request(u, body))
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Error(err)
	}
	res.Body.Close()
}

// cheapServer starts a server that costs next to nothing and allocates nothing, so that the client is measured.
func cheapServer(t testing.TB) *url.URL {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: llama.cpp\r\nContent-Length: 1024\r\n\r\n" + oneKB)
	address := script(t, func(c net.Conn, r *bufio.Reader) {
		for {
			for { // the head
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) == 2 {
					break
				}
			}
			if _, err := r.Discard(len(oneKB)); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func benchmark(b *testing.B, u *url.URL) {
	ours, theirs := &Transport{}, &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}
	b.Cleanup(ours.CloseIdleConnections)
	b.Cleanup(theirs.CloseIdleConnections)
	for _, tr := range []struct {
		name string
		http.RoundTripper
	}{{"http1", ours}, {"net_http", theirs}} {
		b.Run(tr.name+"/1", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				exchange(b, tr, u, oneKB)
			}
		})
		b.Run(tr.name+"/64", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(64 / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					exchange(b, tr, u, oneKB)
				}
			})
		})
	}
}

// BenchmarkClient measures the client with a server that costs nothing.
func BenchmarkClient(b *testing.B) { benchmark(b, cheapServer(b)) }

// BenchmarkWithServer measures client and net/http's server together.
func BenchmarkWithServer(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, oneKB)
	}))
	b.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		b.Fatal(err)
	}
	benchmark(b, u)
}

func TestAllocations(t *testing.T) {
	u := cheapServer(t)
	tr := transport(t)
	exchange(t, tr, u, oneKB)
	allocs := testing.AllocsPerRun(200, func() { exchange(t, tr, u, oneKB) })
	// Usually 19; the request itself makes 11 of them; net/http's transport makes 52. The race detector makes pools drop items.
	if allocs > 23 {
		t.Errorf("%v allocations a request, want at most 23", allocs)
	}
	t.Logf("%v allocations a request", allocs)
}
