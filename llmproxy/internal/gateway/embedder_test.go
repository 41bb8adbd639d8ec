package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// A vectorServer turns texts into vectors that a test has chosen: by how similar each text is to all others that have 1.
type vectorServer struct {
	*httptest.Server
	mu      sync.Mutex
	similar map[string]float64 // 1 where nothing is said
	calls   [][]string         // the texts of each
	headers []http.Header
	hold    chan struct{} // what answers wait for; nil for nothing
}

func startEmbedder(t *testing.T) *vectorServer {
	e := &vectorServer{similar: map[string]float64{}}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

// ServeHTTP implements http.Handler.
func (e *vectorServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Model string
		Input []string
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Model != "embed" || r.URL.Path != "/v1/embeddings" {
		http.Error(w, fmt.Sprint(r.URL.Path, asked.Model, err), http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	e.calls, e.headers = append(e.calls, asked.Input), append(e.headers, r.Header)
	var items []string
	for i, text := range asked.Input {
		similarity, ok := e.similar[text]
		if !ok {
			similarity = 1
		}
		items = append(items, fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":[%v,%v]}`, i, similarity, math.Sqrt(1-similarity*similarity)))
	}
	hold := e.hold
	e.mu.Unlock()
	if hold != nil {
		<-hold
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"object":"list","data":[%s],"model":"embed","usage":{"prompt_tokens":1,"total_tokens":1}}`, strings.Join(items, ","))
}

func (e *vectorServer) asked() [][]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls
}

// Whatever the embedder does, the request is answered as without it, and soon.
func TestTheEmbedderFails(t *testing.T) {
	t.Parallel()
	list := func(items string) fakellm.Answer {
		return fakellm.Raw(200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"object":"list","data":[`+items+`]}`))
	}
	const one = `{"index":0,"embedding":[1,0]}`
	for name, answer := range map[string]fakellm.Answer{
		"internal error": fakellm.InternalError(), "busy": fakellm.Busy(), "unknown model": fakellm.UnknownModel(), "unauthorized": fakellm.Unauthorized(),
		"garbage": fakellm.Garbage(), "error inside": fakellm.ErrorInside200(), "hangs": fakellm.Text("x").Hold(make(chan struct{})),
		"one of two": list(one), "none": list(""), "not a number": list(one + `,{"index":1,"embedding":[NaN,1]}`), "null": list(one + `,{"index":1,"embedding":[null]}`),
		"without direction": list(one + `,{"index":1,"embedding":[0,0]}`), "infinite": list(one + `,{"index":1,"embedding":[1e99]}`),
		"base64": list(one + `,{"index":1,"embedding":"AACAPw=="}`), "empty": list(one + `,{"index":1,"embedding":[]}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := fakellm.Start(t, "llamacpp", fakellm.Models("embed"))
			bad.Always(answer)
			bad.OnPath("/v1/embeddings", answer)
			var failures []error
			s, fake := semantic(t, bad.URL(), func(_ *setup, rules *Semantic) {
				rules.Timeout = 50 * time.Millisecond
				rules.Failed = func(err error) { failures = append(failures, err) }
			})
			s.settled(chatPath, asks(firstAsked))
			for i := range 6 {
				got := s.settled(chatPath, asks(fmt.Sprint(thenAsked, strings.Repeat("!", i))))
				if got.status != 200 || got.cache() != "miss" || !strings.Contains(got.body, "Hello") {
					t.Errorf("%d %q %s", got.status, got.cache(), got.body)
				}
			}
			if n := len(fake.Requests()); n != 7 {
				t.Errorf("%d requests reached the upstream", n)
			}
			if len(failures) != 3 { // then it is left alone
				t.Errorf("%d failures are told: %v", len(failures), failures)
			}
			if rec := s.record(); rec.Embedding != "resting" {
				t.Errorf("%+v", rec)
			}
		})
	}
}

func TestTheEmbedderIsDown(t *testing.T) {
	t.Parallel()
	e := startEmbedder(t)
	var failed error
	var tries atomic.Int32
	s, _ := semantic(t, e.URL, func(s *setup, rules *Semantic) {
		s.config.Observe = func(*Record, Attempt) { tries.Add(1) }
		rules.Failed = func(err error) { failed = errors.Join(failed, err) }
	})
	s.settled(chatPath, asks(firstAsked))
	e.Close()
	if got := s.settled(chatPath, asks(thenAsked)); got.status != 200 || got.cache() != "miss" || failed == nil {
		t.Errorf("%d %q %v", got.status, got.cache(), failed)
	}
	if rec := s.record(); rec.Embedding != "failed" || len(rec.Attempts) != 1 || tries.Load() != 1 { // nobody waits for a second one
		t.Errorf("%+v", rec)
	}
}

// Identical questions at the same time are embedded once, whether there is an answer to a similar one or not.
func TestOneEmbedding(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"semantic", "coalesced"} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			e := startEmbedder(t)
			if want == "coalesced" {
				e.similar[thenAsked] = 0.5
			}
			e.hold = make(chan struct{})
			s, fake := semantic(t, e.URL, nil)
			s.settled(chatPath, asks(firstAsked))
			const clients = 50
			replies := make([]reply, clients)
			var all sync.WaitGroup
			for i := range clients {
				all.Go(func() { replies[i] = s.post(chatPath, asks(thenAsked)) })
			}
			until(t, func() bool { return len(e.asked()) == 1 })
			close(e.hold)
			all.Wait()
			count := map[string]int{}
			for _, got := range replies {
				count[got.cache()]++
				if got.status != 200 || !strings.Contains(got.body, "Hello") {
					t.Errorf("%d %s", got.status, got.body)
				}
			}
			upstream := len(fake.Requests())
			if len(e.asked()) != 1 || want == "semantic" && (count[want] != clients || upstream != 1) ||
				want == "coalesced" && (count["miss"] != 1 || count[want]+count["hit"] != clients-1 || upstream != 2) {
				t.Errorf("%d embeddings, %d requests reached the upstream; %v", len(e.asked()), upstream, count)
			}
		})
	}
}

// Who asks first may leave while the question is embedded: those who wait get their answer.
func TestTheFirstLeavesDuringTheEmbedding(t *testing.T) {
	t.Parallel()
	e := startEmbedder(t)
	e.hold = make(chan struct{})
	s, _ := semantic(t, e.URL, nil)
	s.settled(chatPath, asks(firstAsked))
	leave := s.start(asks(thenAsked))
	until(t, func() bool { return len(e.asked()) == 1 })
	second := make(chan reply)
	go func() { second <- s.post(chatPath, asks(thenAsked)) }()
	leave()
	close(e.hold)
	if got := <-second; got.status != 200 || got.cache() != "semantic" {
		t.Errorf("%d %q", got.status, got.cache())
	}
}
