package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestChat(t *testing.T) {
	g := fleetGateway(t)
	for _, s := range chatServers {
		t.Run(s.name, func(t *testing.T) {
			answer := chat(t, g.url, `{"model":"`+s.model+`","messages":[{"role":"user","content":"hi"}]}`)
			c := answer.completion(t)
			if got := c.Choices[0]; got.Message.Content != hello || got.FinishReason != "stop" {
				t.Errorf("got %+v", got)
			}
			if c.Usage == nil || c.Usage.CompletionTokens == 0 {
				t.Errorf("usage is %+v", c.Usage)
			}
			headers(t, answer.header, s.target, "1", s.model)
		})
	}
}

func TestChatStream(t *testing.T) {
	g := fleetGateway(t)
	for _, s := range chatServers {
		for _, withUsage := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, include_usage %v", s.name, withUsage), func(t *testing.T) {
				options := ""
				if withUsage {
					options = `"stream_options":{"include_usage":true},`
				}
				stream := chatStream(t, t.Context(), g.url, `{"model":"`+s.model+`","stream":true,`+options+`"messages":[{"role":"user","content":"hi"}]}`)
				headers(t, stream.Header, s.target, "1", s.model)
				story := stream.rest(t)
				story.wholly(t, hello, "stop")
				if story.pieces < 5 {
					t.Errorf("the text came in %d pieces", story.pieces)
				}
				// The gateway itself asks for usage always; who did not ask must not see it.
				if got := story.usage != nil; got != withUsage {
					t.Errorf("usage is %+v", story.usage)
				}
			})
		}
	}
}

// Ollama 0.11.4 ignores max_completion_tokens and would never end here; the gateway says it in its words.
func TestMaxCompletionTokens(t *testing.T) {
	g := fleetGateway(t)
	for _, s := range chatServers {
		t.Run(s.name, func(t *testing.T) {
			c := chat(t, g.url, `{"model":"`+s.model+`","max_completion_tokens":3,"messages":[{"role":"user","content":"LONG"}]}`).completion(t)
			if got := c.Choices[0]; said(got.Message.Content) != " one two three" || got.FinishReason != "length" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestCompletions(t *testing.T) {
	g := fleetGateway(t)
	for _, s := range chatServers {
		t.Run(s.name, func(t *testing.T) {
			answer := call(t, http.MethodPost, g.url+"/v1/completions", `{"model":"`+s.model+`","max_tokens":3,"prompt":"LONG"}`)
			var c struct{ Choices []struct{ Text string } }
			answer.into(t, &c)
			if len(c.Choices) != 1 || said(c.Choices[0].Text) != " one two three" {
				t.Errorf("got %d %s", answer.status, answer.body)
			}
		})
	}
}

// The first words must be with the client long before the last ones are made.
func TestStreamIsNotHeldBack(t *testing.T) {
	g := fleetGateway(t)
	f := servers(t)
	mark := f.slow.log.mark()
	stream := chatStream(t, t.Context(), g.url, `{"model":"llama-slow","stream":true,"max_tokens":20,"messages":[{"role":"user","content":"LONG"}]}`)
	stream.content(t, 3)
	if log := string(f.slow.log.since(mark)); strings.Contains(log, "stop processing") {
		t.Errorf("the third piece came when the server had finished:\n%s", log)
	}
	stream.rest(t).wholly(t, numbers+numbers, "length")
}

// Ollama answers 403 to a Host and to an Origin that it does not know: neither may reach it.
func TestForeignHostAndOrigin(t *testing.T) {
	g := fleetGateway(t)
	answer := call(t, http.MethodPost, g.url+"/v1/chat/completions", `{"model":"ollama-chat","messages":[{"role":"user","content":"hi"}]}`,
		"Host", "llm.example.com", "Origin", "https://chat.example.com", "Cookie", "session=1", "Authorization", "Bearer of-the-client")
	if got := answer.completion(t).Choices[0].Message.Content; got != hello {
		t.Errorf("got %q", got)
	}
}
