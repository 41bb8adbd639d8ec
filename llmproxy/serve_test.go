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

func TestServesAndLogs(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	logs := logsOf(t, `	llm_proxy {
		upstream u openai `+fake.URL()+` {
			api_key the-secret
		}
		model m u/real
	}
	respond /other "next handler" 418`, func(url string) {
		if res := ask(t, url, "m", false); res.StatusCode != 200 || res.Header.Get("X-LLM-Target") != "u/real" {
			t.Errorf("status %d, target %q", res.StatusCode, res.Header.Get("X-LLM-Target"))
		}
		if got := text(t, ask(t, url, "m", true)); !strings.HasSuffix(got, "data: [DONE]\n\n") {
			t.Errorf("stream: %s", got)
		}
		if code, _ := get(t, url+"/other"); code != http.StatusTeapot {
			t.Errorf("another path: status %d", code)
		}
	})
	for _, want := range []string{`"llm":{"id":"req_`, `"target":"u/real"`, `"verdict":"ok"`, `"input_tokens":`} {
		if !strings.Contains(logs, want) {
			t.Errorf("%s is not in the access log: %s", want, logs)
		}
	}
	if strings.Contains(logs, "the-secret") {
		t.Error("the upstream's key is in the log")
	}
}

// The quota is found at its path also below handle_path /llm/*, which takes away its beginning.
func TestQuotaUnderAPrefix(t *testing.T) {
	for prefix, paths := range map[string]map[string]bool{
		"/*":     {"/llm/usage": true, "/usage": false, "/llm/llm/usage": false},
		"/llm/*": {"/llm/usage": true, "/llm/llm/usage": true, "/usage": false, "/llm/other": false},
		"/ai/*":  {"/ai/llm/usage": true, "/ai/usage": false, "/llm/usage": false},
	} {
		t.Run(prefix, func(t *testing.T) {
			handler := "handle_path"
			if prefix == "/*" {
				handler = "handle"
			}
			url := run(t, "\t"+handler+" "+prefix+" {\n\t\tllm_proxy {\n\t\t\tupstream e echo\n\t\t\tmodel m e\n\t\t}\n\t}")
			for path, want := range paths {
				if status, body := get(t, url+path); strings.Contains(body, `"object":"llm.usage"`) != want {
					t.Errorf("%s: status %d, %s", path, status, body)
				}
			}
		})
	}
}

// Without a configured kind, the server's kind is detected.
func TestKindIsDetected(t *testing.T) {
	for _, kind := range []string{"ollama", "vllm", "llamacpp", "openai"} {
		t.Run(kind, func(t *testing.T) {
			fake := fakellm.Start(t, kind, fakellm.Models("m"))
			url := run(t, "\tllm_proxy "+fake.Addr())
			res := ask(t, url, "m", true)
			if got := text(t, res); res.StatusCode != 200 || !strings.Contains(got, "[DONE]") || res.Header.Get("X-LLM-Route") != "discover" {
				t.Errorf("status %d, route %q: %s", res.StatusCode, res.Header.Get("X-LLM-Route"), got)
			}
		})
	}
}

// A body that is too large is rejected without reading all of it. With read_idle_timeout set for the site, net/http would wait
// for the body before it sends the answer (seen with Caddy 2.11.7).
func TestTooLargeBodyIsRejectedUnread(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	url := run(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u/m\n\t}")
	address := strings.TrimPrefix(url, "http://")
	for _, test := range []struct {
		name, framing string
		send          func(net.Conn) (sent int)
	}{
		{"announced length", "Content-Length: 900000000\r\n\r\n{\"model", func(net.Conn) int { return 0 }},
		{"endless chunks", "Transfer-Encoding: chunked\r\n\r\n", sendChunks},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: "+address+"\r\nContent-Type: application/json\r\n"+test.framing); err != nil {
				t.Fatal(err)
			}
			sent := make(chan int, 1)
			go func() { sent <- test.send(c) }()
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body) // the connection may be reset after the answer
			if res.StatusCode != http.StatusRequestEntityTooLarge || !res.Close || !strings.Contains(string(body), `"code":"request_too_large"`) {
				t.Errorf("status %d, close %v, %s", res.StatusCode, res.Close, body)
			}
			c.Close()
			if n := <-sent; n > 128<<20 { // max_body is 32 MiB, and the buffers of the kernel may take 36 more
				t.Errorf("%d bytes were sent", n)
			}
		})
	}
	if n := len(fake.Requests()); n > 0 {
		t.Errorf("%d requests were forwarded", n)
	}
}

// sendChunks sends chunks until the connection is closed.
func sendChunks(c net.Conn) (sent int) {
	const size = 1 << 20
	chunk := "100000\r\n" + strings.Repeat("x", size) + "\r\n"
	for {
		if _, err := io.WriteString(c, chunk); err != nil {
			return sent
		}
		sent += size
	}
}
