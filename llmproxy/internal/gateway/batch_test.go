package gateway

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// embedder answers with a vector that is made of the text alone, and takes note of what it was asked for.
type embedder struct {
	mu    sync.Mutex
	asked [][]string
	hold  chan struct{} // until it is closed, nothing is answered; nil for at once
}

func (e *embedder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct{ Input []string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	e.asked = append(e.asked, in.Input)
	e.mu.Unlock()
	if e.hold != nil {
		<-e.hold
	}
	data := make([]string, len(in.Input))
	for i, text := range in.Input {
		data[len(data)-1-i] = fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":[%d,0.50]}`, i, crc32.ChecksumIEEE([]byte(text)))
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"object":"list","data":[%s],"model":"x","usage":{"prompt_tokens":%d,"total_tokens":%[2]d}}`, strings.Join(data, ","), 3*len(in.Input))
}

func (e *embedder) times() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.asked)
}

// A batch asks only for what is not known.
func TestABatchAsksForWhatIsNew(t *testing.T) {
	t.Parallel()
	upstreamServer := &embedder{}
	server := httptest.NewServer(upstreamServer)
	t.Cleanup(server.Close)
	s := &setup{t: t}
	s.config.Cache = rules(t, nil)
	s.config.LogPrompts = 20
	s.up("a", upstream.OpenAI, nil, server.URL)
	s.serve("embed a/x")
	batch := func(from, to int, more string) string {
		items := make([]string, 0, to-from)
		for i := from; i < to; i++ {
			items = append(items, fmt.Sprintf(`"text %d"`, i))
		}
		return `{"model":"embed","input":[` + strings.Join(items, ",") + `]` + more + `}`
	}
	s.settled(embedPath, batch(0, 90, ""))
	got := s.settled(embedPath, batch(0, 100, ""))
	if got.cache() != "miss" || got.status != 200 {
		t.Fatalf("%d %q %s", got.status, got.cache(), got.body)
	}
	if asked := upstreamServer.asked; len(asked) != 2 || len(asked[1]) != 10 || asked[1][0] != "text 90" {
		t.Errorf("asked for %v", asked)
	}
	if !strings.Contains(got.body, `"usage":{"prompt_tokens":300,"total_tokens":300}`) {
		t.Errorf("usage: %s", got.body[len(got.body)-100:])
	}
	s.wantVectors(got, 0, 100)
	for _, test := range []struct {
		name, body string
		from, to   int
	}{
		{"all", batch(0, 100, ""), 0, 100},
		{"some", batch(50, 60, ""), 50, 60},
		{"one twice", strings.Replace(batch(7, 8, ""), "]", `,"text 8","text 9"]`, 1), 7, 10},
		{"one", `{"input":["text 5"],"model":"embed"}`, 5, 6},
	} {
		got := s.settled(embedPath, test.body)
		if got.cache() != "hit" {
			t.Errorf("%s: %q", test.name, got.cache())
		}
		s.wantVectors(got, test.from, test.to)
	}
	for name, more := range map[string]string{"base64": `,"encoding_format":"base64"`, "dimensions": `,"dimensions":4`} {
		if got := s.settled(embedPath, batch(0, 2, more)); got.cache() != "miss" {
			t.Errorf("%s: %q", name, got.cache())
		}
	}
	twice := s.settled(embedPath, `{"model":"embed","input":["new","text 1","new"]}`)
	if last := upstreamServer.asked[len(upstreamServer.asked)-1]; len(last) != 1 || last[0] != "new" {
		t.Errorf("asked for %v", last)
	}
	if v := vectors(t, twice.body); len(v) != 3 || !cmp.Equal(v[0], v[2]) || cmp.Equal(v[0], v[1]) {
		t.Errorf("%v", v)
	}
	rec := s.record()
	if rec.Usage.Input != 3 || rec.SavedInput == 0 { // shares are rounded
		t.Errorf("used %d, spared %d", rec.Usage.Input, rec.SavedInput)
	}
	if signals := rec.Signals(); signals.Messages != 3 || signals.PromptTokens != 3 { // the client's request, not the part that was sent
		t.Errorf("the record says %d inputs of %d tokens", signals.Messages, signals.PromptTokens)
	}
}

// If there is no memory in which the answer to a part of a batch could be joined with the rest, the upstream is asked for all of it.
func TestABatchWithoutMemory(t *testing.T) {
	t.Parallel()
	upstreamServer := &embedder{}
	server := httptest.NewServer(upstreamServer)
	t.Cleanup(server.Close)
	s := &setup{t: t}
	s.config.Cache = rules(t, func(c *answercache.Cache) { c.MaxSize = 4000 })
	s.up("a", upstream.OpenAI, nil, server.URL)
	s.serve("embed a/x")
	s.settled(embedPath, `{"model":"embed","input":["text 0","text 1"]}`)
	got := s.settled(embedPath, `{"model":"embed","input":["text 0","text 1","text 2"]}`)
	if got.status != 200 || len(upstreamServer.asked) != 2 || len(upstreamServer.asked[1]) != 3 {
		t.Fatalf("%d, asked for %v", got.status, upstreamServer.asked)
	}
	got = s.settled(embedPath, `{"model":"embed","input":["text 0","text 1","text 2"]}`)
	if got.cache() != "hit" {
		t.Errorf("%q: the items are not stored", got.cache())
	}
	s.wantVectors(got, 0, 3)
	if n := s.config.Cache.Shared.Leaders.PendingBytes(); n != 0 {
		t.Errorf("%d bytes are pending", n)
	}
}

// Identical batches at the same time ask once for what is not known.
func TestABatchIsAskedForOnce(t *testing.T) {
	t.Parallel()
	upstreamServer := &embedder{}
	server := httptest.NewServer(upstreamServer)
	t.Cleanup(server.Close)
	s := &setup{t: t}
	s.config.Cache = rules(t, nil)
	s.up("a", upstream.OpenAI, nil, server.URL)
	s.serve("embed a/x")
	var entered atomic.Int64
	serve := s.server.Config.Handler
	s.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered.Add(1)
		serve.ServeHTTP(w, r)
	})
	s.settled(embedPath, `{"model":"embed","input":["text 0","text 1"]}`)
	upstreamServer.hold = make(chan struct{})
	const clients = 8
	got := make([]reply, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { got[i] = s.post(embedPath, `{"model":"embed","input":["text 0","text 1","text 2","text 3"]}`) })
	}
	until(t, func() bool { return entered.Load() == clients+1 && upstreamServer.times() == 2 })
	close(upstreamServer.hold)
	all.Wait()
	for i := range got {
		s.wantVectors(got[i], 0, 4)
	}
	if asked := upstreamServer.asked; len(asked) != 2 || !cmp.Equal(asked[1], []string{"text 2", "text 3"}) {
		t.Errorf("asked for %v", asked)
	}
	for i := range 4 {
		if got := s.settled(embedPath, fmt.Sprintf(`{"model":"embed","input":"text %d"}`, i)); got.cache() != "hit" {
			t.Errorf("text %d: %q", i, got.cache())
		}
	}
}

func (s *setup) wantVectors(got reply, from, to int) {
	s.t.Helper()
	var want []any
	for i := from; i < to; i++ {
		want = append(want, []any{float64(crc32.ChecksumIEEE(fmt.Appendf(nil, "text %d", i))), 0.5})
	}
	if diff := cmp.Diff(want, vectors(s.t, got.body)); diff != "" {
		s.t.Error(diff)
	}
}

func vectors(t testing.TB, body string) (v []any) {
	t.Helper()
	var answer struct {
		Data []struct {
			Index     int
			Embedding any
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%.200s: %v", body, err)
	}
	for i, d := range answer.Data {
		if d.Index != i {
			t.Errorf("item %d has index %d", i, d.Index)
		}
		v = append(v, d.Embedding)
	}
	return v
}

// If the upstream refuses the smaller batch, the client gets its error.
func TestABatchThatFails(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, nil)
	s.settled(embedPath, `{"model":"embed","input":["a","b"]}`)
	fake.Always(fakellm.RateLimited())
	if got := s.settled(embedPath, `{"model":"embed","input":["a","c"]}`); got.status != 429 || !strings.Contains(got.body, `"error"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := s.settled(embedPath, `{"model":"embed","input":["a","b"]}`); got.status != 200 || got.cache() != "hit" {
		t.Errorf("%d %q", got.status, got.cache())
	}
}
