package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// send sends the beginning of a request with a body on a connection of its own, and returns the connection.
func (s *setup) send(framing, body string) net.Conn {
	s.t.Helper()
	return s.sendTo("/v1/chat/completions", framing, body)
}

// sendTo is like send for another path.
func (s *setup) sendTo(path, framing, body string) net.Conn {
	s.t.Helper()
	address := strings.TrimPrefix(s.server.URL, "http://")
	dial := net.Dial
	if s.bubble != nil {
		dial = func(network, address string) (net.Conn, error) { return s.bubble.dial(s.t.Context(), network, address) }
	}
	c, err := dial("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: "+address+"\r\nContent-Type: application/json\r\n"+framing+"\r\n\r\n"+body); err != nil {
		s.t.Fatal(err)
	}
	return c
}

func readReply(t *testing.T, c net.Conn) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res, string(body)
}

// A client that sends no more of its body gets an error, and holds nothing any more.
func TestStalledUpload(t *testing.T) {
	for _, test := range []struct{ name, framing, body string }{
		{"nothing", "Content-Length: 1000000", ""},
		{"a part", "Content-Length: 1000000", `{"model":"m","messages":[{"role":"user","content":"`},
		{"chunks", "Transfer-Encoding: chunked", "5\r\n{\"mod\r\n"},
		{"compressed", "Content-Encoding: gzip\r\nContent-Length: 1000", "\x1f\x8b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &setup{t: t, bubble: new(bubble)}
				s.up("echo", upstream.Echo, nil)
				usage := new(memory.Usage)
				s.config.Memory = memory.NewAccount(usage, 1<<20)
				s.serve("m echo")
				began := time.Now()
				res, body := readReply(t, s.send(test.framing, test.body))
				if res.StatusCode != http.StatusRequestTimeout || !res.Close || !strings.Contains(body, `"code":"request_timeout"`) {
					t.Errorf("status %d, close %t: %s", res.StatusCode, res.Close, body)
				}
				if took := time.Since(began); took != 30*time.Second {
					t.Errorf("it took %v", took)
				}
				synctest.Wait()
				if usage.Bytes() != 0 {
					t.Errorf("%d bytes are still reserved", usage.Bytes())
				}
			})
		})
	}
}

// Requests beyond the memory get 503, and are served when others have ended.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &setup{t: t, bubble: new(bubble)}
		s.up("echo", upstream.Echo, nil)
		usage := new(memory.Usage)
		s.config.Memory = memory.NewAccount(usage, 100<<10)
		s.serve("m echo")
		held := s.send("Content-Length: 60000", strings.Repeat(" ", 50_000)) // a body that is still arriving
		synctest.Wait()
		large := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("x", 50_000) + `"}]}`
		for _, test := range []struct {
			name, body string
			header     []string
			status     int
			code       string
		}{
			{"small", chat("m", false), nil, 200, ""},
			{"no memory left", large, nil, 503, "gateway_overloaded"},
			{"none for unpacking", gzipped(large), []string{"Content-Encoding", "gzip"}, 503, "gateway_overloaded"},
			{"none for a zstd window", "\x28\xb5\x2f\xfd\x00\x38\x01\x00\x00", []string{"Content-Encoding", "zstd"}, 413, "request_too_large"},
			{"more than there is at all", strings.Repeat(" ", 200_000), nil, 413, "request_too_large"},
		} {
			got := s.post("/v1/chat/completions", test.body, test.header...)
			if got.status != test.status || !strings.Contains(got.body, test.code) || (got.header.Get("Retry-After") == "1") != (test.status == 503) {
				t.Errorf("%s: status %d, Retry-After %q: %s", test.name, got.status, got.header.Get("Retry-After"), got.body)
			}
		}
		held.Close()
		synctest.Wait()
		if usage.Bytes() != 0 {
			t.Errorf("%d bytes are still reserved", usage.Bytes())
		}
		if got := s.post("/v1/chat/completions", large); got.status != 200 {
			t.Errorf("after the others have ended: status %d: %s", got.status, got.body)
		}
	})
}

// An announced length reserves nothing: bodies take memory as they arrive.
func TestAnnouncementsTakeNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &setup{t: t, bubble: new(bubble)}
		s.up("echo", upstream.Echo, nil)
		usage := new(memory.Usage)
		s.config.Memory = memory.NewAccount(usage, 1<<30)
		s.serve("m echo")
		const clients = 60
		before := heap()
		for range clients {
			s.send(fmt.Sprint("Content-Length: ", 32<<20), "{")
		}
		synctest.Wait()
		if grown := heap() - before; grown > clients*128<<10 {
			t.Errorf("%d announcements of 32 MiB took %d KiB of heap", clients, grown>>10)
		}
		if held := usage.Bytes(); held > clients*16<<10 {
			t.Errorf("%d bytes are reserved", held)
		}
	})
}

// heap returns the size of what is in use, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
