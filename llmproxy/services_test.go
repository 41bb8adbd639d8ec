package llmproxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A forwarder is a proxy whose hosts are all itself, with any certificate. It records what they get.
type forwarder struct {
	*httptest.Server
	tls *tls.Config

	mu  sync.Mutex
	got []string // method, URL and the header with the key
}

func newForwarder(t *testing.T) *forwarder {
	t.Helper()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	certified.Close()
	f := &forwarder{tls: certified.TLS}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.connect))
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.Start()
	t.Cleanup(f.Close)
	return f
}

// connect answers the requests that come through one tunnel.
func (f *forwarder) connect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	f.serve(tls.Server(conn, &tls.Config{Certificates: f.tls.Certificates}), r.Host)
}

func (f *forwarder) serve(conn net.Conn, host string) {
	requests := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(requests)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		if strings.HasSuffix(req.URL.Path, "/chat/completions") || strings.HasSuffix(req.URL.Path, "/messages") {
			line := req.Method + " https://" + strings.TrimSuffix(host, ":443") + req.URL.RequestURI()
			for _, name := range []string{"Authorization", "Api-Key", "X-Api-Key", "Anthropic-Version"} {
				if value := req.Header.Get(name); value != "" {
					line += " " + name + ": " + value
				}
			}
			f.mu.Lock()
			f.got = append(f.got, line)
			f.mu.Unlock()
		}
		const answer = `{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"type":"message","content":[],"usage":{}}`
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(answer))+"\r\n\r\n"+answer); err != nil {
			return
		}
	}
}

// A hosted service needs one line and a key. Its requests go to the documented URL, with the key in the documented header.
func TestServiceInOneLine(t *testing.T) {
	t.Setenv("SERVICE_KEY", "secret")
	f := newForwarder(t)
	for _, tt := range []struct{ line, options, want string }{
		{"openai", "", "POST https://api.openai.com/v1/chat/completions Authorization: Bearer secret"},
		{"anthropic", "", "POST https://api.anthropic.com/v1/messages X-Api-Key: secret Anthropic-Version: 2023-06-01"},
		{"azure https://res.openai.azure.com", "", "POST https://res.openai.azure.com/openai/v1/chat/completions Api-Key: secret"},
		{"azure res.services.ai.azure.com:443", "", "POST https://res.services.ai.azure.com/openai/v1/chat/completions Api-Key: secret"},
		{"azure https://res.openai.azure.com", "api_version 2024-10-21", "POST https://res.openai.azure.com/openai/deployments/a%2Fb%20c/chat/completions?api-version=2024-10-21 Api-Key: secret"},
		{"gemini", "", "POST https://generativelanguage.googleapis.com/v1beta/openai/chat/completions Authorization: Bearer secret"},
		{"openrouter", "", "POST https://openrouter.ai/api/v1/chat/completions Authorization: Bearer secret"},
		{"groq", "", "POST https://api.groq.com/openai/v1/chat/completions Authorization: Bearer secret"},
		{"mistral", "", "POST https://api.mistral.ai/v1/chat/completions Authorization: Bearer secret"},
		{"deepseek", "", "POST https://api.deepseek.com/v1/chat/completions Authorization: Bearer secret"},
		{"together", "", "POST https://api.together.xyz/v1/chat/completions Authorization: Bearer secret"},
		{"fireworks", "", "POST https://api.fireworks.ai/inference/v1/chat/completions Authorization: Bearer secret"},
		{"xai", "", "POST https://api.x.ai/v1/chat/completions Authorization: Bearer secret"},
		{"cerebras", "", "POST https://api.cerebras.ai/v1/chat/completions Authorization: Bearer secret"},
	} {
		t.Run(tt.line+" "+tt.options, func(t *testing.T) {
			f.mu.Lock()
			f.got = nil
			f.mu.Unlock()
			url := run(t, "\tllm_proxy {\n\t\tupstream s "+tt.line+" {\n\t\t\tapi_key {env.SERVICE_KEY}\n\t\t\t"+tt.options+`
			transport http {
				network_proxy url `+f.URL+`
				tls_insecure_skip_verify
				versions 1.1
			}
		}
		model m "s/a/b c"
	}`)
			res := send(t, newRequest(t, http.MethodPost, url+"/v1/chat/completions", question("m", "Hi"), "Content-Type", "application/json"))
			if body := text(t, res); res.StatusCode != http.StatusOK {
				t.Errorf("status %d, %s", res.StatusCode, body)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.got) != 1 || f.got[0] != tt.want {
				t.Errorf("sent %q, want %q", f.got, tt.want)
			}
		})
	}
}
