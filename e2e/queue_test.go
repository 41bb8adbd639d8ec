package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"
)

// In front of a server with two slots, three keys have 40 requests at once, 34 of them the greedy one. The server never gets more
// than it has slots for. What the queue has no place for gets status 429, the place of a client that leaves goes to the next one, and
// the polite keys, which come last, do not wait for the greedy one's backlog.
//
// The two requests that come first take both slots and never end. So all others wait until their client leaves, and the order in
// which they come does not depend on how fast the server is.
func TestAdmissionQueue(t *testing.T) {
	const places, perKey = 34, 28
	llama := startLlama(t, "slow", "--parallel", "2", "--verbose")
	g := startGateway(t, fill(`
	llm_proxy {
		upstream gpu llamacpp LLAMA {
			queue PLACES 1h
			queue_per_key PER-KEY
		}
		model m gpu/slow
		key greedy sk-greedy
		key polite sk-polite
		key modest sk-modest
	}`, "LLAMA", llama.url(), "PLACES", places, "PER-KEY", perKey))
	w := &waitingRoom{gateway: g, arrived: make(chan queued, 64)}

	endless, leave := context.WithCancel(t.Context())
	defer leave()
	for range 2 {
		first, err := send(endless, http.MethodPost, g.url+"/v1/chat/completions", `{"model":"m","stream":true,"messages":[{"role":"user","content":"LONG"}]}`, "Authorization", "Bearer sk-greedy")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = first.Body.Close() }()
		(&stream{Response: first, lines: lines(first.Body)}).readContent(t, 1)
	}
	for range 32 {
		w.ask(t, "greedy")
	}
	for range 32 - perKey {
		w.next(t).wantRefused(t)
	}
	w.wantWaiting(t, map[string]int{"greedy": perKey})

	// A client that leaves while it waits makes place for another one.
	left := slices.IndexFunc(w.leave, func(leave context.CancelFunc) bool { return leave != nil })
	w.leave[left]()
	if o := w.next(t); o.number != left || !errors.Is(o.err, context.Canceled) {
		t.Fatalf("request %d left, and request %d ended: %v, status %d", left, o.number, o.err, o.status)
	}
	w.wantWaiting(t, map[string]int{"greedy": perKey - 1})
	w.ask(t, "greedy")
	for range 3 {
		w.ask(t, "polite")
		w.ask(t, "modest")
	}
	w.wantWaiting(t, map[string]int{"greedy": perKey, "polite": 3, "modest": 3})
	wantOwnPlaces(t, g, "polite", 3)
	if busy := busySlots(t, llama); busy != 2 {
		t.Errorf("%d slots of the server are busy, want 2", busy)
	}

	mark := llama.log.mark()
	leave()
	var order []string
	for range places {
		o := w.next(t)
		o.wantAnswered(t)
		order = append(order, o.key)
	}
	t.Logf("the requests ended in the order %q", order)
	// A fair queue serves the keys in turn, so that these 6 requests are among the first 10 or so to end. In the order of their arrival,
	// they would be the last 6 of 34.
	for i, key := range order[places/2:] {
		if key != "greedy" {
			t.Errorf("%d requests ended before one of the key %s", places/2+i, key)
		}
	}
	if w.most != 2 {
		t.Errorf("the gateway never had more than %d requests in progress, want 2", w.most)
	}
	w.wantWaiting(t, map[string]int{})
	wantNoneDeferred(t, llama, mark)
}

// wantNoneDeferred fails if the server got a request while its slots were busy, by its log. The mark is where the two endless
// requests were given up: what comes before the server has noticed that is not counted.
func wantNoneDeferred(t *testing.T, llama *server, mark int) {
	t.Helper()
	const deferred, stopped = "defer task", "stop processing"
	log := llama.log.since(0)
	before, after := log[:mark], log[mark:]
	for range 2 {
		_, rest, found := bytes.Cut(after, []byte(stopped))
		if !found {
			t.Fatalf("the server has not stopped the endless requests:\n%s", after)
		}
		after = rest
	}
	for _, part := range [][]byte{before, after} {
		if i := bytes.Index(part, []byte(deferred)); i >= 0 {
			t.Errorf("the server got a request while both slots were busy:\n%s", part[max(0, i-1000):i+len(deferred)])
		}
	}

	// Without the gateway, the server does get one, and its log tells.
	mark = llama.log.mark()
	for range 3 {
		chatLater(t, llama.url(), `{"model":"slow","messages":[{"role":"user","content":"LONG"}]}`)
	}
	llama.log.waitFor(t, mark, deferred, time.Minute)
}

// busySlots returns how many slots are in use by the server's account. A server that is asked often notices late that a client left.
func busySlots(t *testing.T, llama *server) (n int) {
	t.Helper()
	var slots []struct {
		Busy bool `json:"is_processing"`
	}
	do(t, http.MethodGet, llama.url()+"/slots", "").into(t, &slots)
	for _, slot := range slots {
		if slot.Busy {
			n++
		}
	}
	return n
}

// wantOwnPlaces fails unless GET /llm/status shows the key this many requests that wait, each with a position of its own.
func wantOwnPlaces(t *testing.T, g *gateway, key string, n int) {
	t.Helper()
	var status struct {
		Key      string
		Requests []struct{ Position int }
	}
	answer := do(t, http.MethodGet, g.url+"/llm/status", "", "Authorization", "Bearer sk-"+key)
	answer.into(t, &status)
	positions := map[int]bool{}
	for _, r := range status.Requests {
		if r.Position > 0 {
			positions[r.Position] = true
		}
	}
	if status.Key != key || len(status.Requests) != n || len(positions) != n {
		t.Errorf("the status of %s is %s, want %d requests that wait", key, answer.body, n)
	}
}

// A waitingRoom is the requests of a test that wait at a gateway.
type waitingRoom struct {
	gateway *gateway
	leave   []context.CancelFunc // by number of the request; nil once it has ended
	arrived chan queued          // in the order in which requests end
	most    int                  // requests in progress at once, by the gateway's account
}

// A queued is a request that has ended.
type queued struct {
	number int
	key    string
	mode   string // "stream", or not
	reply
	err error
}

// ask sends a request; every other one is a stream. The streams of all keys but the greedy one ask for comments about their place.
func (w *waitingRoom) ask(t *testing.T, key string) {
	ctx, leave := context.WithCancel(t.Context())
	o := queued{number: len(w.leave), key: key, mode: []string{"stream", "whole"}[len(w.leave)%2]}
	w.leave = append(w.leave, leave)
	header := []string{"Authorization", "Bearer sk-" + key}
	if o.commented() {
		header = append(header, "X-LLM-Queue", "comments")
	}
	go func() {
		defer func() { w.arrived <- o }()
		var answer *http.Response
		if answer, o.err = send(ctx, http.MethodPost, w.gateway.url+"/v1/chat/completions", `{"model":"m",`+streaming(o.mode)+`"messages":[{"role":"user","content":"hi"}]}`, header...); o.err != nil {
			return
		}
		defer func() { _ = answer.Body.Close() }()
		o.status, o.header = answer.StatusCode, answer.Header
		o.body, o.err = io.ReadAll(answer.Body)
	}()
}

func (o queued) commented() bool { return o.mode == "stream" && o.key != "greedy" }

// next returns the next request that ends. Meanwhile, it watches the gateway's queue.
func (w *waitingRoom) next(t *testing.T) queued {
	t.Helper()
	timeout := time.After(3 * time.Minute)
	for {
		select {
		case o := <-w.arrived:
			w.leave[o.number]()
			w.leave[o.number] = nil
			return o
		case <-time.After(50 * time.Millisecond):
			w.look(t)
		case <-timeout:
			t.Fatal("no request ended for 3 minutes")
		}
	}
}

// look returns how many requests of each key wait, and fails if the gateway has more in progress than the server has slots.
func (w *waitingRoom) look(t *testing.T) map[string]int {
	t.Helper()
	var queues []struct {
		Requests int
		Waiting  []struct{ Key string }
	}
	answer := do(t, http.MethodGet, "http://"+w.gateway.admin+"/llm_proxy/queues", "")
	answer.into(t, &queues)
	if len(queues) != 1 {
		t.Fatalf("the queues are %s", answer.body)
	}
	if w.most = max(w.most, queues[0].Requests); w.most > 2 {
		t.Fatalf("the gateway has %d requests in progress at a server with 2 slots", w.most)
	}
	waiting := map[string]int{}
	for _, r := range queues[0].Waiting {
		waiting[r.Key]++
	}
	return waiting
}

// wantWaiting waits until this many requests of each key wait.
func (w *waitingRoom) wantWaiting(t *testing.T, want map[string]int) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprint("waiting requests: ", want), func() bool { return fmt.Sprint(w.look(t)) == fmt.Sprint(want) })
}

// wantRefused fails unless the request found the queue full.
func (o queued) wantRefused(t *testing.T) {
	t.Helper()
	if o.err != nil {
		t.Fatal(o.err)
	}
	if o.status != http.StatusTooManyRequests || o.failure(t).Code != "queue_full" {
		t.Errorf("got %d %s, want 429 queue_full", o.status, o.body)
	}
	if seconds, err := strconv.Atoi(o.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After is %q", o.header.Get("Retry-After"))
	}
}

// wantAnswered fails unless the request has waited, was told so, and has its whole answer.
func (o queued) wantAnswered(t *testing.T) {
	t.Helper()
	if o.err != nil {
		t.Fatal(o.err)
	}
	wantHello(t, o.mode, o.reply)
	if o.commented() && !bytes.HasPrefix(o.body, []byte(": queued position=")) {
		t.Errorf("no comment about the place in the queue: %s", o.body)
	}
	if o.mode == "stream" {
		return // after 15 s, it gets a ping, and its headers are sent before the wait is over
	}
	if waited, err := strconv.Atoi(o.header.Get("X-LLM-Queue-Ms")); err != nil || waited < 1 {
		t.Errorf("X-LLM-Queue-Ms is %q", o.header.Get("X-LLM-Queue-Ms"))
	}
}
