package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// firstRequest is the request of the README. curl -d sends it with the content type of a form.
const firstRequest = `{"model":"auto","stream":true,"messages":[{"role":"user","content":"Hello"}]}`

// Without any upstream or configuration, the first curl still gets an answer; once Ollama runs on its usual port, the same
// gateway answers with it. The Caddyfile is the one of the README, on another port.
func TestQuickstart(t *testing.T) {
	for _, port := range []int{11434, 8000, 8080} { // the ports on which llm_proxy looks for servers
		if conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second); err == nil {
			_ = conn.Close()
			t.Fatalf("something listens on port %d, which must be free for this test; stop it", port)
		}
	}
	example, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	port, admin := twoPorts(t)
	g := startCaddy(t, port, admin, string(example), fmt.Sprint("PORT=", port), "CADDY_ADMIN="+admin)

	transcript, target := firstAnswer(t, g)
	if !strings.Contains(transcript.text, "echo") || !strings.HasPrefix(target, "echo/") {
		t.Errorf("%q answered %q, want the echo upstream", target, transcript.text)
	}

	ollama, err := runOllama(11434, t.TempDir())
	if ollama != nil {
		ollama.stopAfter(t)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "an answer from Ollama", func() bool {
		transcript, target = firstAnswer(t, g)
		return strings.HasPrefix(target, "ollama/")
	})
	if !transcript.done || transcript.failure != nil || transcript.text == "" {
		t.Errorf("Ollama answered %+v", transcript)
	}
}

func firstAnswer(t *testing.T, g *gateway) (transcript, string) {
	t.Helper()
	answer := open(t, http.MethodPost, g.url+"/v1/chat/completions", firstRequest, "Content-Type", "application/x-www-form-urlencoded")
	s := &stream{Response: answer, lines: lines(answer.Body)}
	got := s.readAll(t)
	if answer.StatusCode != http.StatusOK || !got.done {
		t.Fatalf("got %s, %+v", answer.Status, got)
	}
	return got, answer.Header.Get("X-LLM-Target")
}

// An address alone is a complete configuration: the kind is detected, and the models are served under their own names.
func TestAddressAlone(t *testing.T) {
	f := servers(t)
	for _, test := range []struct {
		name   string
		server *server
		models []string
	}{
		{"ollama", f.ollama, []string{"tiny:latest", "team/tiny:v1"}},
		{"llamacpp", f.llama, []string{"tiny"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := startGateway(t, "\tllm_proxy "+test.server.addr)
			for _, model := range test.models {
				answer := chat(t, g.url, `{"model":"`+model+`","messages":[{"role":"user","content":"hi"}]}`)
				if got := answer.completion(t).Choices[0].Message.Content; got != hello {
					t.Errorf("%s: got %q", model, got)
				}
				wantHeaders(t, answer.header, test.server.addr+"/"+model, "1", "discover")
			}
			answer := chat(t, g.url, `{"model":"nobody-has-this","messages":[{"role":"user","content":"hi"}]}`)
			if failure := answer.failure(t); answer.status != http.StatusNotFound || failure.Code != "model_not_found" {
				t.Errorf("unknown model: %d %s", answer.status, answer.body)
			}
		})
	}
}

// For a detected Ollama, the gateway translates max_completion_tokens, without which the answer would not end.
func TestKindIsDetected(t *testing.T) {
	g := startGateway(t, "\tllm_proxy "+servers(t).ollama.addr)
	eventually(t, time.Minute, "an answer cut at max_completion_tokens", func() bool {
		ctx, leave := context.WithTimeout(t.Context(), 5*time.Second)
		defer leave()
		answer, err := send(ctx, http.MethodPost, g.url+"/v1/chat/completions", `{"model":"tiny:latest","max_completion_tokens":3,"messages":[{"role":"user","content":"LONG"}]}`)
		if err != nil {
			return false
		}
		defer func() { _ = answer.Body.Close() }()
		read, _ := io.ReadAll(answer.Body)
		return strings.Contains(string(read), `" one two three"`)
	})
}

// An open stream survives a reload, whatever the new configuration, while new requests use the new configuration.
func TestReloadInMidStream(t *testing.T) {
	slow := servers(t).slow
	before := fill(`
	llm_proxy {
		upstream slow llamacpp SLOW
		model before slow/slow
	}`, "SLOW", slow.url())
	for name, after := range map[string]string{
		"another name": strings.Replace(before, "model before", "model after", 1),
		"no upstream":  "\tllm_proxy {\n\t\tupstream echo echo\n\t\tmodel after echo\n\t}",
	} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, before)
			stream := chatStream(t, t.Context(), g.url, `{"model":"before","stream":true,"max_tokens":40,"messages":[{"role":"user","content":"LONG"}]}`)
			stream.readContent(t, 2)
			g.reload(t, after)
			if ids := configuredIDs(t, g.url); !slices.Contains(ids, "after") {
				t.Errorf("after the reload the models are %q", ids)
			}
			stream.readAll(t).wantComplete(t, strings.Repeat(numbers, 4), "length")
		})
	}
}

func configuredIDs(t *testing.T, base string) (ids []string) {
	t.Helper()
	var list struct{ Data []struct{ ID string } }
	do(t, "GET", base+"/v1/models", "").into(t, &list)
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	return ids
}

// When Caddy exits, open streams end with an error long before the grace period of a minute is over.
func TestExitInMidStream(t *testing.T) {
	g := sharedGateway(t)
	log := servers(t).slow.log
	stream := chatStream(t, t.Context(), g.url, `{"model":"llama-slow","stream":true,"messages":[{"role":"user","content":"LONG"}]}`)
	stream.readContent(t, 2)
	mark, started := log.mark(), time.Now()
	g.signal(syscall.SIGTERM)

	transcript := stream.readAll(t)
	if took := time.Since(started); took > soon {
		t.Errorf("the stream took %v to end", took)
	}
	if transcript.failure == nil || transcript.done || transcript.finish != "" || transcript.err != nil {
		t.Errorf("got %+v with the error %+v", transcript, transcript.failure)
	}
	log.waitFor(t, mark, "stop processing", soon)
	select {
	case <-g.done:
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(soon):
		t.Error("Caddy has not exited")
	}
}

// Over each version of HTTP: a stream arrives token by token, a client that cancels stops the server although its connection may
// stay open, and a server that dies during a stream is reported by an error event and a clean end.
func TestProtocols(t *testing.T) {
	for name, transport := range protocols(t) {
		t.Run(name, func(t *testing.T) {
			slow := startLlama(t, "slow")
			client := &http.Client{Transport: transport}
			base := startTLS(t, fill(`
			llm_proxy {
				upstream slow llamacpp SLOW
				model m slow/slow
			}`, "SLOW", slow.url()))
			long := `{"model":"m","stream":true,"messages":[{"role":"user","content":"LONG"}]`

			whole := chatStreamBy(t, t.Context(), client, base, long+`,"max_tokens":10}`)
			if whole.Proto != name {
				t.Fatalf("got an answer over %s", whole.Proto)
			}
			wantHeaders(t, whole.Header, "slow/slow", "1", "m")
			mark := slow.log.mark()
			whole.readContent(t, 3)
			if log := string(slow.log.since(mark)); strings.Contains(log, "stop processing") {
				t.Errorf("the third event arrived after the server had finished:\n%s", log)
			}
			whole.readAll(t).wantComplete(t, numbers, "length")

			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			chatStreamBy(t, ctx, client, base, long+`}`).readContent(t, 2)
			mark = slow.log.mark()
			leave()
			slow.log.waitFor(t, mark, "cancel task", soon)

			victim := chatStreamBy(t, t.Context(), client, base, long+`}`)
			victim.readContent(t, 2)
			slow.kill()
			victim.readAll(t).wantCutOff(t, "upstream_error")
		})
	}
}

// protocols returns transports that speak one version of HTTP each, by version.
func protocols(t *testing.T) map[string]http.RoundTripper {
	t.Helper()
	trusting := &tls.Config{InsecureSkipVerify: true} // the site has a self-signed certificate
	one, two := new(http.Protocols), new(http.Protocols)
	one.SetHTTP1(true)
	two.SetHTTP2(true)
	h1 := &http.Transport{TLSClientConfig: trusting.Clone(), Protocols: one}
	h2 := &http.Transport{TLSClientConfig: trusting.Clone(), Protocols: two}
	h3 := &http3.Transport{TLSClientConfig: trusting.Clone()}
	t.Cleanup(func() {
		h1.CloseIdleConnections()
		h2.CloseIdleConnections()
		_ = h3.Close()
	})
	return map[string]http.RoundTripper{"HTTP/1.1": h1, "HTTP/2.0": h2, "HTTP/3.0": h3}
}

// startTLS runs Caddy with this directive in a site with a self-signed certificate, and returns the site's URL.
func startTLS(t *testing.T, directive string) string {
	t.Helper()
	port, admin := twoPorts(t)
	secure, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	startCaddy(t, port, admin, fmt.Sprintf(`{
	admin %s
	skip_install_trust
	auto_https disable_redirects
	grace_period 4s
}

http://127.0.0.1:%d {
%s
}

https://localhost:%d {
	tls internal
%[3]s
}
`, admin, port, directive, secure))
	eventually(t, time.Minute, "the site's certificate", func() bool {
		conn, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", secure), &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			err = conn.Close()
		}
		return err == nil
	})
	return fmt.Sprintf("https://localhost:%d", secure)
}
