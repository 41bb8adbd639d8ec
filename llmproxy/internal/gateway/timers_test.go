package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A moment is when an upstream sends something.
type moment struct {
	at   time.Duration // since the request
	text string
}

// A timed upstream sends its answer in time, and says about its work what the test wants. Without its last event, its answer does not
// end.
type timed struct {
	began  time.Time
	script []moment
	whole  bool // the answer is JSON
	// work returns what a path of the server says so long after the beginning; empty if it does not answer.
	work func(path string, after time.Duration) string
}

func (u *timed) RoundTrip(req *http.Request) (*http.Response, error) {
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: req}
	if req.URL.Path == "/api/generate" { // to load a model
		res.Body = http.NoBody
		return res, nil
	}
	if req.Method == http.MethodGet {
		body := ""
		if u.work != nil {
			body = u.work(req.URL.Path, time.Since(u.began))
		}
		if body == "" {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		res.Body = io.NopCloser(strings.NewReader(body))
		return res, nil
	}
	r, w := io.Pipe()
	res.Body = r
	res.Header.Set("Content-Type", "text/event-stream")
	if u.whole {
		res.Header.Set("Content-Type", "application/json")
	}
	text := strings.NewReplacer() // in the format of the API
	if req.URL.Path == "/api/chat" {
		res.Header.Set("Content-Type", "application/x-ndjson")
		text = strings.NewReplacer(first, firstLine, finish, lastLine)
	}
	go func() {
		began := time.Now()
		for _, m := range u.script {
			select {
			case <-time.After(m.at - time.Since(began)):
				if _, err := io.WriteString(w, text.Replace(m.text)); err != nil {
					return
				}
			case <-req.Context().Done():
			}
		}
		if n := len(u.script); n > 0 && req.Context().Err() == nil && (u.whole || strings.HasSuffix(u.script[n-1].text, finish) || strings.HasSuffix(u.script[n-1].text, complete)) {
			w.Close()
			return
		}
		<-req.Context().Done()
		w.CloseWithError(req.Context().Err())
	}()
	return res, nil
}

const (
	created  = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n"
	thinks   = "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"item\":{\"type\":\"reasoning\",\"summary\":[]}}\n\n"
	says     = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"local\"}\n\n"
	complete = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{}}\n\n"

	first  = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"local\"},\"finish_reason\":null}]}\n\n"
	finish = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"

	firstLine = `{"message":{"role":"assistant","content":"local"},"done":false}` + "\n"
	lastLine  = `{"message":{"role":"assistant","content":""},"done":true}` + "\n"
)

// What a server says about its work while it works, is stuck, works for others, and so on.
func vllmWorks(_ string, after time.Duration) string {
	return fmt.Sprintf("vllm:generation_tokens_total %d\n", after/time.Second)
}
func vllmPrefills(_ string, after time.Duration) string {
	return fmt.Sprintf("vllm:generation_tokens_total 7\nvllm:kv_cache_usage_perc %f\n", after.Seconds()/1e4)
}
func vllmStuck(string, time.Duration) string { return "vllm:generation_tokens_total 7\n" }
func vllmQueues(path string, after time.Duration) string {
	return vllmWorks(path, after) + "vllm:num_requests_waiting 2\n"
}
func llamaWorks(_ string, after time.Duration) string {
	return fmt.Sprintf("llamacpp:n_decode_total %d\n", after/time.Second)
}
func llamaSlots(path string, after time.Duration) string {
	switch path {
	case "/metrics":
		return "disabled"
	case "/slots":
		return fmt.Sprintf(`[{"id":0,"is_processing":true,"n_prompt_tokens_processed":%d}]`, after/time.Second)
	}
	return "{}"
}
func llamaSlotsStuck(path string, _ time.Duration) string { return llamaSlots(path, 0) }
func ollamaIdles(string, time.Duration) string            { return `{"models":[{"name":"x:latest","model":"x"}]}` }

// The timeouts that nobody configured, and those that somebody did: what they cut, and what they must not cut.
func TestTimers(t *testing.T) {
	t.Parallel()
	const minute, second = time.Minute, time.Second
	chatAt := func(moments ...time.Duration) (script []moment) { // the first content, more of it, and the end
		for i, at := range moments {
			text := first
			if i == len(moments)-1 {
				text = finish
			}
			script = append(script, moment{at, text})
		}
		return script
	}
	comments := func(every, from, to time.Duration) (script []moment) {
		for at := from; at <= to; at += every {
			script = append(script, moment{at, ": alive\n\n"})
		}
		return script
	}
	for _, tt := range []struct {
		name     string
		kind     *upstream.Kind
		timers   upstream.Timers
		path     string // chat unless it is set
		whole    bool
		prompt   int // in tokens
		script   []moment
		work     func(string, time.Duration) string
		fallback bool
		want     router.Verdict // of the first attempt
		after    time.Duration  // how long it took
	}{
		// Before the first content.
		{name: "silence, with a fallback", fallback: true, want: router.Timeout, after: 30 * second},
		{name: "silence, without one", want: router.Timeout, after: 10 * minute},
		{name: "late, without a fallback", script: chatAt(9*minute, 9*minute+second), want: router.OK, after: 9*minute + second},
		{name: "a long prompt for a service", prompt: 20_000, fallback: true, script: chatAt(65*second, 66*second), want: router.OK, after: 66 * second},
		{name: "silence after a long prompt for a service", prompt: 20_000, fallback: true, want: router.Timeout, after: 70 * second},
		{name: "a long prompt for a slow machine", kind: upstream.Ollama, work: ollamaIdles, prompt: 20_000, fallback: true, script: chatAt(6*minute, 7*minute), want: router.OK, after: 7 * minute},
		{name: "configured, with a long prompt", timers: upstream.Timers{FirstToken: 20 * second}, prompt: 20_000, fallback: true, want: router.Timeout, after: 20 * second},
		{name: "whole, silence", whole: true, want: router.Timeout, after: 10 * minute},
		{name: "whole, in time", whole: true, script: []moment{{9 * minute, soundWhole}}, fallback: true, want: router.OK, after: 9 * minute},
		{name: "comments", fallback: true, script: comments(5*second, second, minute), want: router.Timeout, after: 30 * second},

		// A local server that shows that it works.
		{name: "vllm works", kind: upstream.VLLM, work: vllmWorks, fallback: true, script: chatAt(2*minute, 3*minute), want: router.OK, after: 3 * minute},
		{name: "vllm reads a prompt", kind: upstream.VLLM, work: vllmPrefills, fallback: true, script: chatAt(2*minute, 3*minute), want: router.OK, after: 3 * minute},
		{name: "vllm works, with a configured timeout", kind: upstream.VLLM, work: vllmWorks, timers: upstream.Timers{FirstToken: 3 * second}, fallback: true, script: chatAt(20*second, 21*second), want: router.OK, after: 21 * second},
		{name: "vllm works for ever", kind: upstream.VLLM, work: vllmWorks, fallback: true, want: router.Timeout, after: 10 * minute},
		{name: "vllm works for ever, without a fallback", kind: upstream.VLLM, work: vllmWorks, want: router.Timeout, after: 30 * minute},
		{name: "vllm works for others", kind: upstream.VLLM, work: vllmQueues, fallback: true, want: router.Timeout, after: 30 * second},
		{name: "vllm works for others, without a fallback", kind: upstream.VLLM, work: vllmQueues, script: chatAt(12*minute, 13*minute), want: router.OK, after: 13 * minute},
		{name: "vllm is stuck", kind: upstream.VLLM, work: vllmStuck, fallback: true, want: router.Timeout, after: 20 * second},
		{name: "vllm is stuck, without a fallback", kind: upstream.VLLM, work: vllmStuck, want: router.Timeout, after: 10 * minute},
		{name: "vllm does not say", kind: upstream.VLLM, fallback: true, want: router.Timeout, after: 31 * second},
		{name: "llama.cpp works", kind: upstream.LlamaCpp, work: llamaWorks, fallback: true, script: chatAt(38*second, 39*second), want: router.OK, after: 39 * second},
		{name: "llama.cpp works, by its slots", kind: upstream.LlamaCpp, work: llamaSlots, fallback: true, script: chatAt(2*minute, 3*minute), want: router.OK, after: 3 * minute},
		{name: "llama.cpp does not work, by its slots", kind: upstream.LlamaCpp, work: llamaSlotsStuck, fallback: true, want: router.Timeout, after: 30 * second},
		{name: "ollama shows nothing", kind: upstream.Ollama, work: ollamaIdles, fallback: true, want: router.Timeout, after: 30 * second},
		{name: "vllm works on a whole answer", kind: upstream.VLLM, work: vllmWorks, whole: true, script: []moment{{15 * minute, soundWhole}}, want: router.OK, after: 15 * minute},
		{name: "vllm works on a whole answer, beyond its answer timeout", kind: upstream.VLLM, work: vllmWorks, whole: true, timers: upstream.Timers{Total: 2 * minute, Whole: minute}, want: router.Timeout, after: minute},
		{name: "a stream beyond the answer timeout", timers: upstream.Timers{Whole: minute}, script: chatAt(0, 2*minute), want: router.OK, after: 2 * minute},
		{name: "vllm works, beyond its timeout", kind: upstream.VLLM, work: vllmWorks, timers: upstream.Timers{Total: minute}, want: router.Timeout, after: minute},

		// A model that thinks.
		{name: "a response was created", path: "/v1/responses", fallback: true, script: []moment{{0, created}}, want: router.Timeout, after: 30 * second},
		{name: "a reasoning item was opened", path: "/v1/responses", fallback: true, script: []moment{{0, created}, {second, thinks}, {4 * minute, says + complete}}, want: router.OK, after: 4 * minute},
		{name: "a reasoning item was opened, and then nothing", path: "/v1/responses", fallback: true, script: []moment{{0, created}, {second, thinks}}, want: router.Timeout, after: 5*minute + second},
		{name: "a reasoning item, and short timeouts", path: "/v1/responses", timers: upstream.Timers{FirstToken: 30 * second, Idle: 2 * second}, script: []moment{{0, created + thinks}, {5 * second, says + complete}}, want: router.OK, after: 5 * second},

		// After the first content.
		{name: "a tool call that is held back", script: chatAt(0, 4*minute), want: router.OK, after: 4 * minute},
		{name: "silence in the middle", script: []moment{{0, first}}, want: router.Timeout, after: 5 * minute},
		{name: "silence after more content", script: []moment{{0, first}, {4 * minute, first}}, want: router.Timeout, after: 9 * minute},
		{name: "vllm is silent in the middle, and works", kind: upstream.VLLM, work: vllmWorks, script: chatAt(0, 20*minute), want: router.OK, after: 20 * minute},
		{name: "the same with a short timeout", kind: upstream.VLLM, work: vllmWorks, timers: upstream.Timers{Idle: 2 * second}, script: chatAt(0, 30*second, 90*second), want: router.OK, after: 90 * second},
		{name: "vllm is silent in the middle, and works for ever", kind: upstream.VLLM, work: vllmWorks, script: []moment{{0, first}}, want: router.Timeout, after: 30 * minute},
		{name: "vllm is stuck in the middle", kind: upstream.VLLM, work: vllmStuck, script: []moment{{0, first}}, want: router.Timeout, after: 50 * second},
		{name: "comments in the middle", script: append([]moment{{0, first}}, append(comments(30*second, second, 8*minute), moment{8*minute + second, finish})...), want: router.OK, after: 8*minute + second},
		{name: "comments to the end", script: append([]moment{{0, first}}, comments(30*second, second, 20*minute)...), want: router.Timeout, after: 10 * minute},
		{name: "vllm sends comments, and works", kind: upstream.VLLM, work: vllmWorks, script: append([]moment{{0, first}}, append(comments(30*second, second, 20*minute), moment{20*minute + second, finish})...), want: router.OK, after: 20*minute + second},
		{name: "comments for ever", timers: upstream.Timers{Idle: 2 * second}, script: append([]moment{{0, first}}, comments(second, second, minute)...), want: router.Timeout, after: 8 * second},
		{name: "comments for a while", timers: upstream.Timers{Idle: 10 * second}, script: append([]moment{{0, first}}, append(comments(second, second, 30*second), moment{31 * second, finish})...), want: router.OK, after: 31 * second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if tt.kind == nil {
					tt.kind = upstream.OpenAI
				}
				box := &timed{began: time.Now(), script: tt.script, whole: tt.whole, work: tt.work}
				s := &setup{t: t}
				s.up("box", tt.kind, func(c *upstream.Config) { c.Transport, c.Timers = box, tt.timers }, "http://box")
				s.up("api", upstream.OpenAI, func(c *upstream.Config) {
					c.Transport = &timed{script: []moment{{0, first + finish + created + says + complete}}}
				}, "http://api")
				models := "m box/x"
				if tt.fallback {
					models += " | api/y"
				}
				gateway := s.assemble(models)
				w, rec := httptest.NewRecorder(), new(exchange.Record)
				path := tt.path
				if path == "" {
					path = chatPath
				}
				body := fmt.Sprintf(`{"model":"m","stream":%t,"messages":[{"role":"user","content":"%s"}]}`, !tt.whole, strings.Repeat("word", tt.prompt))
				task, _ := TaskOf(path)
				began := time.Now()
				gateway.Serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body)), task, rec)
				got := rec.Attempts[0]
				if got.Verdict != tt.want {
					t.Errorf("verdict %s after %s, want %s: %v, %s", got.Verdict, got.Duration, tt.want, got.Err, w.Body)
				}
				if slack := got.Duration - tt.after; slack < -time.Second || slack > 3*time.Second {
					t.Errorf("it took %s, want %s", got.Duration, tt.after)
				}
				took, pings := time.Since(began), bytes.Count(w.Body.Bytes(), []byte(": ping"))
				if want := int(tt.after / exchange.PingEvery); !tt.whole && (pings > int(took/exchange.PingEvery) || len(tt.script) < 8 && pings < want-1-len(tt.script)) {
					t.Errorf("%d pings in %s", pings, took)
				}
			})
		})
	}
}
