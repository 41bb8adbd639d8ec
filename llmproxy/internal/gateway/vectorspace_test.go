package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// A space is an embedder whose vectors say which one it is.
type space struct {
	*httptest.Server
	mu    sync.Mutex
	name  string
	short bool // its context is too short for anything
	asked [][]string
}

func newSpace(t *testing.T, name string) *space {
	e := &space{name: name}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

// ServeHTTP implements http.Handler.
func (e *space) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct{ Input []string }
	err := json.NewDecoder(r.Body).Decode(&in)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil || e.short {
		http.Error(w, `{"error":{"message":"The context is too long.","code":"context_length_exceeded"}}`, http.StatusBadRequest)
		return
	}
	e.asked = append(e.asked, in.Input)
	var data []string
	for i, text := range in.Input {
		data = append(data, fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":["%s of %s"]}`, i, text, e.name))
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"object":"list","data":[%s],"model":"%s","usage":{"prompt_tokens":%d,"total_tokens":%[3]d}}`, strings.Join(data, ","), e.name, 3*len(in.Input))
}

func (e *space) isShort(short bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.short = short
}

// One answer holds vectors of one space: what a fallback embedded does not go with what the first target did.
func TestABatchIsOfOneSpace(t *testing.T) {
	t.Parallel()
	first, other := newSpace(t, "first"), newSpace(t, "other")
	s := &setup{t: t}
	s.config.Cache = rules(t, nil)
	s.up("a", upstream.OpenAI, nil, first.URL)
	s.up("b", upstream.OpenAI, nil, other.URL)
	s.serve("embed a/x|b/y")
	ask := func(how, space string, texts ...string) {
		t.Helper()
		input, err := json.Marshal(texts)
		if err != nil {
			t.Fatal(err)
		}
		got := s.settled(embedPath, `{"model":"embed","input":`+string(input)+`}`)
		var want []any
		for _, text := range texts {
			want = append(want, []any{text + " of " + space})
		}
		if diff := cmp.Diff(want, vectors(t, got.body)); diff != "" || got.cache() != how {
			t.Errorf("%v: %q %s", texts, got.cache(), diff)
		}
	}
	ask("miss", "first", "1", "2")
	first.isShort(true)
	ask("miss", "other", "2", "3") // 2 is known, but 3 cannot be had from the first
	s.mu.Lock()
	if used := s.records[1].Usage.Input; used != 3+6 {
		t.Errorf("used %d: what was asked for in vain counts", used)
	}
	s.mu.Unlock()
	ask("hit", "other", "2", "3")
	ask("hit", "first", "1")
	first.isShort(false)
	ask("miss", "first", "1", "2", "3") // 1 is known of the first: the others are asked for
	ask("hit", "first", "1", "2", "3")
}

// An ageing store makes half an hour old what it is given first.
type ageing struct {
	caching.Store
	once sync.Once
}

// Put implements caching.Store.
func (a *ageing) Put(model string, items []caching.Item, ttl time.Duration) {
	a.once.Do(func() {
		for i := range items {
			if e, err := caching.UnmarshalEntry(items[i].Value); err == nil {
				e.Created = e.Created.Add(-30 * time.Minute)
				items[i].Value = e.Marshal()
			}
		}
	})
	a.Store.Put(model, items, ttl)
}

// A client that takes only young items does not follow a leader that takes old ones.
func TestABatchOfAnotherAge(t *testing.T) {
	t.Parallel()
	e := &embedder{}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	s := &setup{t: t}
	s.config.Cache = rules(t, func(c *answercache.Cache) { c.Store = &ageing{Store: c.Store} })
	s.up("a", upstream.OpenAI, nil, server.URL)
	s.serve("embed a/x")
	s.settled(embedPath, `{"model":"embed","input":["text 0"]}`)
	e.hold = make(chan struct{})
	const both = `{"model":"embed","input":["text 0","text 1"]}`
	var all sync.WaitGroup
	all.Go(func() { s.post(embedPath, both) })
	until(t, func() bool { return e.times() == 2 })
	all.Go(func() { s.post(embedPath, both, "Cache-Control", "max-age=60") })
	until(t, func() bool { return e.times() == 3 })
	close(e.hold)
	all.Wait()
	if diff := cmp.Diff([][]string{{"text 0"}, {"text 1"}, {"text 0", "text 1"}}, e.asked); diff != "" {
		t.Error(diff)
	}
}
