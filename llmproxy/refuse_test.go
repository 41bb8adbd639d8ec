package llmproxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// A body that announces itself as too large is refused at once: with a site's read_idle_timeout, net/http would wait for it
// before it sends what the handler said (seen with Caddy 2.11.7).
func TestTooLargeIsRefusedUnread(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u/m\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(url, "http://")
	for name, framing := range map[string]string{"announced": "Content-Length: 900000000\r\n\r\n{\"model", "without end": "Transfer-Encoding: chunked\r\n\r\n"} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: "+address+"\r\nContent-Type: application/json\r\n"+framing); err != nil {
			t.Fatal(err)
		}
		sent := make(chan int, 1)
		go func() { sent <- endless(c, name == "without end") }()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, _ := io.ReadAll(res.Body) // a reset may follow the answer
		if res.StatusCode != http.StatusRequestEntityTooLarge || !res.Close || !strings.Contains(string(body), `"code":"request_too_large"`) {
			t.Errorf("%s: status %d, close %v, %s", name, res.StatusCode, res.Close, body)
		}
		c.Close()
		if n := <-sent; n > 48<<20 {
			t.Errorf("%s: %d bytes were read", name, n)
		}
	}
	if n := len(fake.Requests()); n > 0 {
		t.Errorf("%d requests were forwarded", n)
	}
}

// endless sends chunks until nobody takes them any more.
func endless(c net.Conn, chunks bool) (sent int) {
	if !chunks {
		return 0
	}
	const size = 1 << 20
	chunk := "100000\r\n" + strings.Repeat("x", size) + "\r\n"
	for {
		if _, err := io.WriteString(c, chunk); err != nil {
			return sent
		}
		sent += size
	}
}
