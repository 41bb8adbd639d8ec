package e2e

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wordy keeps the slow model busy for seconds before its first word.
var wordy = strings.Repeat("x", 700)

// Before the first word, whatever happens to the upstream is not the client's business.
func TestKilledBeforeTheFirstWord(t *testing.T) {
	llama := servers(t).llama
	for _, test := range []struct {
		name, model, busy string
		start             func(t *testing.T) *server
	}{
		{"llamacpp", "slow", "processing task", func(t *testing.T) *server { return startLlama(t, "slow") }},
		{"ollama", "slow:latest", "loading cache slot", func(t *testing.T) *server { return startOllama(t, "slow") }},
	} {
		for _, mode := range []string{"stream", "not a stream"} {
			t.Run(test.name+", "+mode, func(t *testing.T) {
				doomed := test.start(t)
				g := startGateway(t, directive(`
				llm_proxy {
					upstream doomed KIND DOOMED
					upstream spare llamacpp SPARE
					model m {
						to doomed/MODEL
						fallback spare/tiny
					}
				}`, "KIND", test.name, "DOOMED", doomed.url(), "SPARE", llama.url(), "MODEL", test.model))

				mark := doomed.log.mark()
				asked := askLater(t, g.url, `{"model":"m",`+streaming(mode)+`"messages":[{"role":"user","content":"`+wordy+`"}]}`)
				doomed.log.await(t, mark, test.busy, time.Minute)
				doomed.kill()
				answer := asked()
				saysHello(t, mode, answer)
				// Which one depends on whether the connection was a new one: on a used one the request is sent once more, and refused.
				if route := answer.header.Get("X-LLM-Route"); route != "fallback:failed" && route != "fallback:unreachable" {
					t.Errorf("X-LLM-Route is %q", route)
				}

				// Now that it is down: refused at once, or not asked any more where a probe was quicker.
				answer = chat(t, g.url, `{"model":"m",`+streaming(mode)+`"messages":[{"role":"user","content":"hi"}]}`)
				saysHello(t, mode, answer)
				if route := answer.header.Get("X-LLM-Route"); route != "fallback:unreachable" {
					t.Errorf("X-LLM-Route is %q", route)
				}
			})
		}
	}
}

// A server that is there again is used again, without a request that had to fail first.
func TestComesBack(t *testing.T) {
	first := startLlama(t, "tiny")
	g := startGateway(t, directive(`
	llm_proxy {
		upstream first llamacpp FIRST
		upstream spare llamacpp SPARE
		model m {
			to first/tiny
			fallback spare/tiny
		}
	}`, "FIRST", first.url(), "SPARE", servers(t).llama.url()))
	answers := func() string {
		answer := chat(t, g.url, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`)
		saysHello(t, "", answer)
		return answer.header.Get("X-LLM-Target")
	}
	if target := answers(); target != "first/tiny" {
		t.Errorf("before: %s", target)
	}
	first.kill()
	if target := answers(); target != "spare/tiny" {
		t.Errorf("while it is down: %s", target)
	}
	again, err := runLlamaAt(first.port(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	again.attend(t)
	eventually(t, time.Minute, "an answer from the server that is there again", func() bool { return answers() == "first/tiny" })
}

// A server that takes the request and then hangs is left when first_token_timeout is over.
func TestHungBeforeTheFirstWord(t *testing.T) {
	hung := startLlama(t, "tiny")
	hung.signal(syscall.SIGSTOP)
	g := startGateway(t, directive(`
	llm_proxy {
		upstream hung llamacpp HUNG {
			first_token_timeout 1s
		}
		upstream spare llamacpp SPARE
		model m {
			to hung/tiny
			fallback spare/tiny
		}
	}`, "HUNG", hung.url(), "SPARE", servers(t).llama.url()))
	answer := chat(t, g.url, `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`)
	saysHello(t, "stream", answer)
	headers(t, answer.header, "spare/tiny", "2", "fallback:timeout")
}

// After the first word the client must learn that the answer is not complete. Servers that are killed just stop;
// Ollama whose runner dies even ends its stream in good order, without [DONE].
func TestBrokenAfterTheFirstWord(t *testing.T) {
	for _, test := range []struct {
		name, kind, model, code, idle string
		start                         func(t *testing.T) *server
		hurt                          func(t *testing.T, s *server)
	}{
		{"llamacpp killed", "llamacpp", "slow", "upstream_error", "1m",
			func(t *testing.T) *server { return startLlama(t, "slow") },
			func(_ *testing.T, s *server) { s.kill() }},
		{"llamacpp hung", "llamacpp", "slow", "upstream_timeout", "2s",
			func(t *testing.T) *server { return startLlama(t, "slow") },
			func(_ *testing.T, s *server) { s.signal(syscall.SIGSTOP) }},
		{"ollama killed", "ollama", "slow:latest", "upstream_error", "1m",
			func(t *testing.T) *server { return startOllama(t, "slow") },
			func(_ *testing.T, s *server) { s.kill() }},
		{"ollama's runner killed", "ollama", "slow:latest", "upstream_error", "1m",
			func(t *testing.T) *server { return startOllama(t, "slow") },
			func(t *testing.T, s *server) { _ = syscall.Kill(s.runner(t), syscall.SIGKILL) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.start(t)
			g := startGateway(t, directive(`
			llm_proxy {
				upstream doomed KIND DOOMED {
					idle_timeout IDLE
				}
				upstream spare llamacpp SPARE
				model m {
					to doomed/MODEL
					fallback spare/tiny
				}
			}`, "KIND", test.kind, "DOOMED", s.url(), "MODEL", test.model, "IDLE", test.idle, "SPARE", servers(t).llama.url()))
			stream := chatStream(t, t.Context(), g.url, `{"model":"m","stream":true,"messages":[{"role":"user","content":"LONG"}]}`)
			stream.content(t, 2)
			test.hurt(t, s)
			story := stream.rest(t)
			story.cut(t, test.code)
			if want := " one two"; !strings.HasPrefix(said(story.text), want) {
				t.Errorf("the text begins %q, want %q", story.text, want)
			}
		})
	}
}

func streaming(mode string) string {
	if mode == "stream" {
		return `"stream":true,`
	}
	return ""
}

// askLater sends now and gives the answer when asked for it.
func askLater(t *testing.T, base, body string) (answer func() reply) {
	t.Helper()
	type outcome struct {
		reply
		err error
	}
	arrived := make(chan outcome, 1)
	go func() {
		answer, err := send(t.Context(), http.MethodPost, base+"/v1/chat/completions", body)
		if err != nil {
			arrived <- outcome{err: err}
			return
		}
		defer func() { _ = answer.Body.Close() }()
		read, err := io.ReadAll(answer.Body)
		arrived <- outcome{reply{answer.StatusCode, answer.Header, read}, err}
	}()
	return func() reply {
		t.Helper()
		select {
		case o := <-arrived:
			if o.err != nil {
				t.Fatal(o.err)
			}
			return o.reply
		case <-time.After(60 * time.Second):
			t.Fatal("no answer within a minute")
			return reply{}
		}
	}
}

func saysHello(t *testing.T, mode string, answer reply) {
	t.Helper()
	if mode != "stream" {
		if got := answer.completion(t).Choices[0].Message.Content; got != hello {
			t.Errorf("got %q", got)
		}
		return
	}
	if answer.status != http.StatusOK {
		t.Fatalf("status %d: %s", answer.status, answer.body)
	}
	read := &stream{lines: lines(strings.NewReader(string(answer.body)))}
	read.rest(t).wholly(t, hello, "stop")
}
