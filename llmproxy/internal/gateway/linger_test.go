package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// A client that writes all of its body before it reads must be able to write it, and gets the answer.
func TestRefusalsReachClientsThatWriteFirst(t *testing.T) {
	t.Parallel()
	const size = 12 << 20 // more than the buffers of a connection hold
	for name, test := range map[string]struct {
		key    string
		length bool // with Content-Length, else in chunks
		status int
	}{
		"413": {"secret-alice", true, 413}, "413 in chunks": {"secret-alice", false, 413}, "401": {"wrong", true, 401}, "401 in chunks": {"wrong", false, 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := one(t, "openai", nil)
			s.guarded(&keys.Entry{Name: "alice"})
			s.config.MaxBody = 1 << 20
			s.serve("m u")
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.server.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(patient)); err != nil {
				t.Fatal(err)
			}
			length := fmt.Sprintf("Content-Length: %d", size)
			if !test.length {
				length = "Transfer-Encoding: chunked"
			}
			if _, err := fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n", test.key, length); err != nil {
				t.Fatal(err)
			}
			block := strings.Repeat(" ", 64<<10)
			for range size / len(block) {
				text := block
				if !test.length {
					text = fmt.Sprintf("%x\r\n%s\r\n", len(block), block)
				}
				if _, err := io.WriteString(conn, text); err != nil {
					t.Fatal(err)
				}
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); res.StatusCode != test.status || err != nil || !strings.HasPrefix(string(body), `{"error":`) {
				t.Errorf("status %d, %v, body %s", res.StatusCode, err, body)
			}
		})
	}
}
