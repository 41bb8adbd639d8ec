package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// The request of the README, as curl sends it: -d alone says that the body is a form.
const firstRequest = `{"model":"auto","stream":true,"messages":[{"role":"user","content":"Hello"}]}`

// With nothing there and nothing configured the first curl works all the same; once Ollama is up on its usual port,
// the same gateway answers from it. Runs the Caddyfile that the README names, on another port.
func TestQuickstart(t *testing.T) {
	for _, port := range []int{11434, 8000, 8080} { // where llm_proxy looks by itself
		if conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second); err == nil {
			_ = conn.Close()
			t.Fatalf("something listens on port %d, where this test must find nothing: stop it first", port)
		}
	}
	example, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	port, admin := twoPorts(t)
	g := startCaddy(t, port, admin, string(example), fmt.Sprint("PORT=", port), "CADDY_ADMIN="+admin)

	story, target := first(t, g)
	if !strings.Contains(story.text, "echo") || !strings.HasPrefix(target, "echo/") {
		t.Errorf("%q answered %q, want the echo that says what it is", target, story.text)
	}

	ollama, err := runOllama(11434, t.TempDir())
	if ollama != nil {
		ollama.attend(t)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "an answer from the Ollama that has come up", func() bool {
		story, target = first(t, g)
		return strings.HasPrefix(target, "ollama/")
	})
	if !story.done || story.failure != nil || story.text == "" {
		t.Errorf("Ollama answered %+v", story)
	}
}

func first(t *testing.T, g *gateway) (story, string) {
	t.Helper()
	answer := open(t, http.MethodPost, g.url+"/v1/chat/completions", firstRequest, "Content-Type", "application/x-www-form-urlencoded")
	s := &stream{Response: answer, lines: lines(answer.Body)}
	told := s.rest(t)
	if answer.StatusCode != http.StatusOK || !told.done {
		t.Fatalf("got %s, %+v", answer.Status, told)
	}
	return told, answer.Header.Get("X-LLM-Target")
}

// An address alone is complete: what listens there is found out, and its models are served under their own names.
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
				headers(t, answer.header, test.server.addr+"/"+model, "1", "discover")
			}
			answer := chat(t, g.url, `{"model":"nobody-has-this","messages":[{"role":"user","content":"hi"}]}`)
			if failure := answer.failure(t); answer.status != http.StatusNotFound || failure.Code != "model_not_found" {
				t.Errorf("unknown model: %d %s", answer.status, answer.body)
			}
		})
	}
}

// That an Ollama was found shows in what is repaired for it: it does not know max_completion_tokens, and would not end.
func TestKindIsFound(t *testing.T) {
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
