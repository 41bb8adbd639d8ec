package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheck(t *testing.T) {
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
			if got := host(req); got != tt.want || check(req) != nil {
				t.Errorf("Host is %q, want %q; %v", got, tt.want, check(req))
			}
			if got := hostPort(req); got != tt.address {
				t.Errorf("dials %q, want %q", got, tt.address)
			}
		})
	}
}

// FuzzHead holds that what check lets through is one request, and the one that was meant.
func FuzzHead(f *testing.F) {
	f.Add("POST", "/v1/chat", "a=b", "gpu:8000", "X-A", "b")
	f.Add("GET / HTTP/1.1\r\n\r\nGET", "/\r\n", "a b", "a\r\nb", "content-length", "5\r\n\r\nx")
	f.Add("GET", "*", "\x7f", "[::1%a]", "Transfer-Encoding", "chunked")
	f.Fuzz(func(t *testing.T, method, path, query, hostname, name, value string) {
		req := &http.Request{
			Method: method, Host: hostname, Header: http.Header{name: {value}},
			URL: &url.URL{Scheme: "http", Host: "gpu", Path: "/" + path, RawQuery: query},
		}
		if check(req) != nil || method == http.MethodConnect || method == "PRI" {
			return
		}
		wire := bufio.NewReader(bytes.NewReader(appendHead(nil, req, 0)))
		got, err := http.ReadRequest(wire)
		if err != nil {
			t.Fatalf("not a request: %v", err)
		}
		if rest, _ := io.ReadAll(wire); len(rest) > 0 {
			t.Errorf("%q behind the request", rest)
		}
		if want := req.URL.RequestURI(); got.RequestURI != want || method != "" && got.Method != method || got.Host != host(req) {
			t.Errorf("got %s %q at %q, want %s %q at %q", got.Method, got.RequestURI, got.Host, method, want, host(req))
		}
		want := http.Header{}
		if !isFraming(name) {
			want.Add(name, strings.Trim(value, " \t"))
		}
		got.Header.Del("Content-Length")
		if want.Get("Pragma") == "no-cache" { // net/http adds what it implies
			got.Header.Del("Cache-Control")
		}
		if diff := cmp.Diff(want, got.Header); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
	})
}
