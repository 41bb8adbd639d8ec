package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// longPrompt keeps the slow model busy for seconds before its first token.
var longPrompt = strings.Repeat("x", 700)

// Before the first token, a failure of the upstream is hidden from the client.
func TestKilledBeforeFirstToken(t *testing.T) {
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
				victim := test.start(t)
				g := startGateway(t, fill(`
				llm_proxy {
					upstream victim KIND VICTIM
					upstream spare llamacpp SPARE
					model m {
						to victim/MODEL
						fallback spare/tiny
					}
				}`, "KIND", test.name, "VICTIM", victim.url(), "SPARE", llama.url(), "MODEL", test.model))

				mark := victim.log.mark()
				asked := chatLater(t, g.url, `{"model":"m",`+streaming(mode)+`"messages":[{"role":"user","content":"`+longPrompt+`"}]}`)
				victim.log.waitFor(t, mark, test.busy, time.Minute)
				victim.kill()
				answer := asked()
				wantHello(t, mode, answer)
				// On a reused connection, the request is sent again, and refused; on a new one, it fails.
				if route := answer.header.Get("X-LLM-Route"); route != "fallback:failed" && route != "fallback:unreachable" {
					t.Errorf("X-LLM-Route is %q", route)
				}

				// Now it is down: the connection is refused, or the health check has found out already.
				answer = chat(t, g.url, `{"model":"m",`+streaming(mode)+`"messages":[{"role":"user","content":"hi"}]}`)
				wantHello(t, mode, answer)
				if route := answer.header.Get("X-LLM-Route"); route != "fallback:unreachable" {
					t.Errorf("X-LLM-Route is %q", route)
				}
			})
		}
	}
}

// A server that comes back is used again, without a request having to fail first.
func TestComesBack(t *testing.T) {
	first := startLlama(t, "tiny")
	g := startGateway(t, fill(`
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
		wantHello(t, "", answer)
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
	again.stopAfter(t)
	eventually(t, time.Minute, "an answer from the server that came back", func() bool { return answers() == "first/tiny" })
}

// A server that accepts the request and then hangs is abandoned after first_token_timeout.
func TestHungBeforeFirstToken(t *testing.T) {
	hung := startLlama(t, "tiny")
	hung.signal(syscall.SIGSTOP)
	g := startGateway(t, fill(`
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
	wantHello(t, "stream", answer)
	wantHeaders(t, answer.header, "spare/tiny", "2", "fallback:timeout")
}

// After the first token, the client must learn that the answer is incomplete. A server that is killed just stops; an Ollama whose
// runner dies reports it, and its error reaches the client without a code.
func TestBrokenAfterFirstToken(t *testing.T) {
	for _, test := range []struct {
		name, kind, model, code, idle string
		start                         func(t *testing.T) *server
		fail                          func(t *testing.T, s *server)
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
		{"ollama's runner killed", "ollama", "slow:latest", "", "1m",
			func(t *testing.T) *server { return startOllama(t, "slow") },
			func(t *testing.T, s *server) { _ = syscall.Kill(s.runner(t), syscall.SIGKILL) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.start(t)
			g := startGateway(t, fill(`
			llm_proxy {
				upstream victim KIND VICTIM {
					idle_timeout IDLE
				}
				upstream spare llamacpp SPARE
				model m {
					to victim/MODEL
					fallback spare/tiny
				}
			}`, "KIND", test.kind, "VICTIM", s.url(), "MODEL", test.model, "IDLE", test.idle, "SPARE", servers(t).llama.url()))
			stream := chatStream(t, t.Context(), g.url, `{"model":"m","stream":true,"messages":[{"role":"user","content":"LONG"}]}`)
			stream.readContent(t, 2)
			test.fail(t, s)
			transcript := stream.readAll(t)
			transcript.wantCutOff(t, test.code)
			if want := " one two"; !strings.HasPrefix(normalized(transcript.text), want) {
				t.Errorf("the text begins with %q, want %q", transcript.text, want)
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

// chatLater sends a chat request now; answer waits for its answer.
func chatLater(t *testing.T, base, body string) (answer func() reply) {
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

func wantHello(t *testing.T, mode string, answer reply) {
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
	read.readAll(t).wantComplete(t, hello, "stop")
}

// soon is longer than anything here takes on a busy machine, and much shorter than the answer to LONG without a limit, which
// takes minutes: a slot that is free within this time was freed because the client left.
const soon = 20 * time.Second

func TestDisconnectLlama(t *testing.T) {
	g := sharedGateway(t)
	log := servers(t).slow.log

	t.Run("stream", func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		stream := chatStream(t, ctx, g.url, `{"model":"llama-slow","stream":true,"messages":[{"role":"user","content":"LONG"}]}`)
		stream.readContent(t, 2)
		mark := log.mark()
		leave()
		log.waitFor(t, mark, "cancel task", soon)
		log.waitFor(t, mark, "stop processing", soon)
	})

	t.Run("stream, before the first token", func(t *testing.T) {
		leave := chatInBackground(t, g.url, `{"model":"llama-slow","stream":true,"messages":[{"role":"user","content":"`+longPrompt+`"}]}`)
		eventually(t, time.Minute, "the server reads the prompt", func() bool { return slotIsBusy(t, servers(t).slow) })
		mark := log.mark()
		leave()
		log.waitFor(t, mark, "cancel task", soon)
		eventually(t, time.Minute, "a free slot", func() bool { return !slotIsBusy(t, servers(t).slow) }) // after the current batch
	})

	// llama.cpp checks once a second whether its client is still there, and only while nothing else happens. So neither this test nor
	// the gateway may ask for /slots or /metrics meanwhile.
	t.Run("not a stream", func(t *testing.T) {
		mark := log.mark()
		leave := chatInBackground(t, g.url, `{"model":"llama-slow","messages":[{"role":"user","content":"LONG"}]}`)
		log.waitFor(t, mark, "processing task", soon)
		mark = log.mark()
		leave()
		log.waitFor(t, mark, "cancel task", soon)
		log.waitFor(t, mark, "stop processing", soon)
	})

	if slotIsBusy(t, servers(t).slow) {
		t.Error("a slot is not free")
	}
}

func slotIsBusy(t *testing.T, s *server) bool {
	t.Helper()
	var slots []struct {
		Busy *bool `json:"is_processing"`
	}
	answer := do(t, http.MethodGet, s.url()+"/slots", "")
	answer.into(t, &slots)
	for _, slot := range slots {
		if slot.Busy == nil {
			t.Fatalf("no is_processing in the slots: %s", answer.body)
		}
		if *slot.Busy {
			return true
		}
	}
	return false
}

// Ollama runs one request at a time here: the next one is answered soon only if the first was stopped.
func TestDisconnectOllama(t *testing.T) {
	g := sharedGateway(t)
	ollama := servers(t).ollama
	ollama.load(t, "slow")
	next := func(t *testing.T) {
		t.Helper()
		started := time.Now()
		chat(t, g.url, `{"model":"ollama-slow","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}`).completion(t)
		if took := time.Since(started); took > soon {
			t.Errorf("the next request took %v", took)
		}
	}

	t.Run("stream", func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		stream := chatStream(t, ctx, g.url, `{"model":"ollama-slow","stream":true,"messages":[{"role":"user","content":"LONG"}]}`)
		stream.readContent(t, 2)
		mark := ollama.log.mark()
		leave()
		ollama.log.waitFor(t, mark, "context for request finished", soon)
		next(t)
	})

	t.Run("not a stream", func(t *testing.T) {
		mark := ollama.log.mark()
		leave := chatInBackground(t, g.url, `{"model":"ollama-slow","messages":[{"role":"user","content":"LONG"}]}`)
		ollama.log.waitFor(t, mark, "loading cache slot", soon)
		mark = ollama.log.mark()
		leave()
		ollama.log.waitFor(t, mark, "context for request finished", soon)
		next(t)
	})
}

// chatInBackground sends a chat request whose answer nobody reads; leave disconnects the client.
func chatInBackground(t *testing.T, base, body string) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		answer, err := send(ctx, http.MethodPost, base+"/v1/chat/completions", body)
		if err != nil {
			return
		}
		defer func() { _ = answer.Body.Close() }()
		<-ctx.Done()
	}()
	return func() {
		cancel()
		<-gone
	}
}
