package llmproxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// postTo sends a body to a path of a site and returns the status and the answer.
func postTo(t *testing.T, url, body string, header ...string) (status int, answer string) {
	t.Helper()
	res := send(t, newRequest(t, http.MethodPost, url, body, header...))
	return res.StatusCode, text(t, res)
}

// The simple chat has the keys, the limits, the routes and the log of every other request. What is left of limits belongs to a key's name, so
// those here have names of their own.
func TestSimpleChat(t *testing.T) {
	gpu, big := fakellm.Start(t, "ollama", fakellm.Models("small")), fakellm.Start(t, "openai")
	gpu.Always(fakellm.Text("Hel", "lo"))
	big.Always(fakellm.Text("Good", " day"))
	logs := logsOf(t, `	llm_proxy {
		upstream gpu ollama `+gpu.URL()+`
		upstream big openai `+big.URL()+`
		model auto {
			@long llm {
				endpoint simple_chat
				content long
			}
			route @long big/large
			route gpu/small
		}
		model other big/other
		simple_chat
		key simple-alice secret-of-alice {
			models auto
			rate 4/d
		}
		key simple-bob secret-of-bob {
			models other
		}
	}
	respond /chat/other "next handler" 418`, func(url string) {
		alice := []string{"Authorization", "Bearer secret-of-alice"}
		for _, test := range []struct {
			path, body string
			header     []string
			status     int
			want       string
		}{
			{"/chat", `{"message":"Hi"}`, alice, 200, `{"response":"Hello"}`},
			{"/chat/stream", `{"message":"a long story"}`, alice, 200, "data: Good\n\ndata:  day\n\ndata: [DONE]\n\n"},
			{"/chat", `{"message":"Hi"}`, nil, 401, `{"detail":"`},
			{"/chat/stream", `{"message":"Hi"}`, []string{"Authorization", "Bearer secret-of-bob"}, 403, `{"detail":"`},
			{"/chat", `{"message":5}`, alice, 422, `{"detail":"\"message\" must be a string, not 5."}`},
			{"/chat", `{"message":"Hi"}`, alice, 200, `{"response":"Hello"}`},
			{"/chat", `{"message":"Hi"}`, alice, 200, `{"response":"Hello"}`},
			{"/chat", `{"message":"Hi"}`, alice, 429, `{"detail":"`},
			{"/chat/other", `{"message":"Hi"}`, alice, 418, "next handler"},
		} {
			if status, answer := postTo(t, url+test.path, test.body, test.header...); status != test.status || !strings.HasPrefix(answer, test.want) {
				t.Errorf("%s %s: status %d, %q; want %d, %q", test.path, test.body, status, answer, test.status, test.want)
			}
		}
	})
	for _, want := range []string{`"endpoint":"simple_chat"`, `"model":"auto"`, `"route":"auto/@long"`, `"target":"gpu/small"`, `"key":"simple-alice"`} {
		if !strings.Contains(logs, want) {
			t.Errorf("%s is not in the access log: %s", want, logs)
		}
	}
}

// The model that answers is the configured one, else the one that the site leaves no doubt about.
func TestSimpleChatModel(t *testing.T) {
	for _, test := range []struct{ name, inside, want string }{
		{"named", "\t\tmodel a u/real-a\n\t\tmodel b u/real-b\n\t\tsimple_chat b", "u/real-b"},
		{"auto", "\t\tmodel a u/real-a\n\t\tmodel auto u/real-auto\n\t\tsimple_chat", "u/real-auto"},
		{"the only one", "\t\tmodel gpt-* u\n\t\tmodel a u/real-a\n\t\tsimple_chat", "u/real-a"},
		{"of a pattern", "\t\tmodel a u/real-a\n\t\tmodel gpt-* u\n\t\tsimple_chat gpt-9", "u/gpt-9"},
		{"discovered", "\t\tsimple_chat chatty", "u/chatty"},
		{"the first of the upstream", "\t\tsimple_chat", "u/first"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := fakellm.Start(t, "vllm", fakellm.Models("embed", "first", "chatty", "real-a", "real-b", "real-auto", "gpt-9"))
			fake.Always(fakellm.Text("ok"))
			url := run(t, "\tllm_proxy {\n\t\tupstream u vllm "+fake.URL()+"\n"+test.inside+"\n\t}")
			res := send(t, newRequest(t, http.MethodPost, url+"/chat", `{"message":"Hi"}`))
			if answer := text(t, res); answer != `{"response":"ok"}` || res.Header.Get("X-LLM-Target") != test.want {
				t.Errorf("%s from %s, want %s", answer, res.Header.Get("X-LLM-Target"), test.want)
			}
		})
	}
}

// Without simple_chat, its paths belong to the next handler.
func TestNoSimpleChat(t *testing.T) {
	url := run(t, "\troute {\n\t\tllm_proxy {\n\t\t\tupstream e echo\n\t\t\tmodel m e\n\t\t}\n\t\trespond \"next handler\" 418\n\t}")
	for _, path := range []string{"/chat", "/chat/stream"} {
		if status, answer := postTo(t, url+path, `{"message":"Hi"}`); status != http.StatusTeapot || answer != "next handler" {
			t.Errorf("%s: status %d, %s", path, status, answer)
		}
	}
}
