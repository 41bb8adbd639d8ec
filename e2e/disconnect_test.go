package e2e

import (
	"context"
	"net/http"
	"testing"
	"time"
)

// A client that leaves must free the slot where the model runs. LONG without a limit would run for minutes, so that
// a slot which is free soon was given up.

// soon is more than anything here takes on a machine that has other things to do, and much less than LONG.
const soon = 20 * time.Second

func TestDisconnectLlama(t *testing.T) {
	g := fleetGateway(t)
	log := servers(t).slow.log

	t.Run("stream", func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		stream := chatStream(t, ctx, g.url, `{"model":"llama-slow","stream":true,"messages":[{"role":"user","content":"LONG"}]}`)
		stream.content(t, 2)
		mark := log.mark()
		leave()
		log.await(t, mark, "cancel task", soon)
		log.await(t, mark, "stop processing", soon)
	})

	t.Run("stream, before the first word", func(t *testing.T) {
		leave := inBackground(t, g.url, `{"model":"llama-slow","stream":true,"messages":[{"role":"user","content":"`+wordy+`"}]}`)
		eventually(t, time.Minute, "a prompt that is read", func() bool { return slotIsBusy(t, servers(t).slow) })
		mark := log.mark()
		leave()
		log.await(t, mark, "cancel task", soon)
		eventually(t, time.Minute, "a free slot", func() bool { return !slotIsBusy(t, servers(t).slow) }) // when the batch at hand is done
	})

	// llama.cpp looks whether its client is there once a second, and only while nothing else happens. It must not be
	// asked for /slots or /metrics meanwhile: by us here, or by the gateway.
	t.Run("not a stream", func(t *testing.T) {
		mark := log.mark()
		leave := inBackground(t, g.url, `{"model":"llama-slow","messages":[{"role":"user","content":"LONG"}]}`)
		log.await(t, mark, "processing task", soon)
		mark = log.mark()
		leave()
		log.await(t, mark, "cancel task", soon)
		log.await(t, mark, "stop processing", soon)
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
	answer := call(t, http.MethodGet, s.url()+"/slots", "")
	answer.into(t, &slots)
	for _, slot := range slots {
		if slot.Busy == nil {
			t.Fatalf("it does not say whether its slots are free: %s", answer.body)
		}
		if *slot.Busy {
			return true
		}
	}
	return false
}

// Ollama runs one request at a time here: the next one is answered soon only if the first has ended.
func TestDisconnectOllama(t *testing.T) {
	g := fleetGateway(t)
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
		stream.content(t, 2)
		mark := ollama.log.mark()
		leave()
		ollama.log.await(t, mark, "context for request finished", soon)
		next(t)
	})

	t.Run("not a stream", func(t *testing.T) {
		mark := ollama.log.mark()
		leave := inBackground(t, g.url, `{"model":"ollama-slow","messages":[{"role":"user","content":"LONG"}]}`)
		ollama.log.await(t, mark, "loading cache slot", soon)
		mark = ollama.log.mark()
		leave()
		ollama.log.await(t, mark, "context for request finished", soon)
		next(t)
	})
}

// inBackground asks for a chat whose answer nobody waits for; leave ends it from the client's side.
func inBackground(t *testing.T, base, body string) (leave func()) {
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
