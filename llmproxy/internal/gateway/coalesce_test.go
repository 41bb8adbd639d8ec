package gateway

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/caching/coalesce"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// begin posts a stream and reads its first event; the caller reads or leaves.
func (s *setup) begin(body string) (first string, rest *bufio.Reader, leave func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+chatPath, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := s.server.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cancel(); res.Body.Close() })
	rest = bufio.NewReader(res.Body)
	for !strings.Contains(first, "content\":\"Hello") {
		line, err := rest.ReadString('\n')
		if err != nil {
			s.t.Fatal(err)
		}
		first += line
	}
	return res.Header.Get("X-Llm-Cache"), rest, cancel
}

// If the leader's client disconnects, the followers get the whole answer. If the last of them disconnects, the upstream's request is canceled.
func TestTheLeadersClientLeaves(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, nil)
	gate, left := make(chan struct{}), make(chan struct{}, 2)
	serve := s.server.Config.Handler
	s.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer context.AfterFunc(r.Context(), func() { left <- struct{}{} })()
		serve.ServeHTTP(w, r)
	})
	fake.Always(fakellm.Text("Hello", " world").HoldAfter(1, gate))
	how, _, leave := s.begin(chat("m", true))
	if how != "miss" {
		t.Fatal(how)
	}
	how, rest, _ := s.begin(chat("m", true))
	if how != "coalesced" {
		t.Fatal(how)
	}
	leave()
	<-left
	close(gate)
	all, err := io.ReadAll(rest)
	if err != nil || !strings.Contains(string(all), "world") || !strings.HasSuffix(string(all), "data: [DONE]\n\n") {
		t.Errorf("%v: %s", err, all)
	}
	if n := len(fake.Requests()); n != 1 {
		t.Errorf("%d requests reached the upstream", n)
	}
	if got := s.settled(chatPath, chat("m", true)); got.cache() == "miss" {
		t.Errorf("%q", got.cache())
	}
	s.server.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := 0
	for _, rec := range s.records {
		if rec.Status == exchange.StatusClientClosed && rec.Cache == "miss" {
			gone++
		}
	}
	if gone != 1 {
		t.Errorf("%d records say that the leader's client left", gone)
	}
}

func TestEverybodyLeaves(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, nil)
	fake.Always(fakellm.Text("Hello", " world").StallAfter(1))
	_, _, leaveFirst := s.begin(chat("m", true))
	_, _, leaveSecond := s.begin(chat("m", true))
	leaveFirst()
	leaveSecond()
	fake.WaitIdle(t)
	until(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.records) == 2 })
	if n := s.config.Cache.Shared.Leaders.PendingBytes(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
	fake.Always(fakellm.Text("Hello"))
	if got := s.settled(chatPath, chat("m", true)); got.cache() != "miss" {
		t.Errorf("%q", got.cache())
	}
}

// A leader that fails before its answer began leaves the others to try by themselves.
func TestTheLeaderFails(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, nil)
	gate := make(chan struct{})
	fake.Next(fakellm.InternalError().Hold(gate))
	fake.Always(fakellm.Text("Hello", " world"))
	const clients = 20
	replies := make([]reply, clients)
	var all sync.WaitGroup
	all.Go(func() { replies[0] = s.post(chatPath, chat("m", false)) })
	until(t, func() bool { return len(fake.Requests()) == 1 })
	for i := 1; i < clients; i++ {
		all.Go(func() { replies[i] = s.post(chatPath, chat("m", i%2 == 0)) })
	}
	close(gate)
	all.Wait()
	for i, got := range replies[1:] {
		if got.status != 200 || !strings.Contains(got.body, "world") {
			t.Errorf("%d: %d %s", i+1, got.status, got.body)
		}
	}
}

// A stream that breaks off is told to all who read along, and is not kept.
func TestAFlightBreaksOff(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, nil)
	gate := make(chan struct{})
	fake.Next(fakellm.Text("Hello", " world", " again").HoldAfter(1, gate).CutAfter(2))
	_, leader, _ := s.begin(chat("m", true))
	_, follower, _ := s.begin(chat("m", true))
	close(gate)
	a, errA := io.ReadAll(leader)
	b, errB := io.ReadAll(follower)
	if errA != nil || errB != nil || !strings.Contains(string(a), `data: {"error":{`) || string(a) != string(b) {
		t.Errorf("%v %v\n%s\n%s", errA, errB, a, b)
	}
}

// While as much is being recorded as the cache may hold, further answers are not kept.
func TestTooMuchIsUnderWay(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, func(c *answercache.Cache) { c.MaxSize = 900 })
	gate := make(chan struct{})
	fake.Next(fakellm.Text("Hello", " world").HoldAfter(1, gate))
	fake.Always(fakellm.Text("Hello"))
	_, rest, _ := s.begin(chat("m", true))
	if got := s.settled(chatPath, chat("m2", false)); got.status != http.StatusOK || got.cache() != "miss" {
		t.Errorf("%d %q", got.status, got.cache())
	}
	if n := s.config.Cache.Shared.Counts.Stored.Load(); n != 0 {
		t.Errorf("%d were kept", n)
	}
	close(gate)
	if _, err := io.ReadAll(rest); err != nil {
		t.Error(err)
	}
	until(t, func() bool { return s.config.Cache.Shared.Leaders.PendingBytes() == 0 })
	s.settled(chatPath, chat("m2", false))
	if n := s.config.Cache.Shared.Counts.Stored.Load(); n != 1 {
		t.Errorf("%d were kept", n)
	}
}

// An answer that was begun before a purge is given to those who read along, and not kept.
func TestAPurgeDuringAFlight(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, nil)
	gate := make(chan struct{})
	fake.Next(fakellm.Text("Hello", " old").HoldAfter(1, gate))
	fake.Always(fakellm.Text("Hello", " new"))
	_, rest, _ := s.begin(chat("m", true))
	if _, err := s.config.Cache.Shared.Purge(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	close(gate)
	if all, err := io.ReadAll(rest); err != nil || !strings.Contains(string(all), "old") {
		t.Errorf("%v: %s", err, all)
	}
	until(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.records) == 1 })
	if got := s.settled(chatPath, chat("m", false)); got.cache() != "miss" || !strings.Contains(got.body, "new") {
		t.Errorf("%q %s", got.cache(), got.body)
	}
	if got := s.settled(chatPath, chat("m", false)); got.cache() != "hit" {
		t.Errorf("%q", got.cache())
	}
}

// A panicking store has no entries. It ends another flight, so that its caller asks again, and then panics once.
type panicking struct {
	caching.Store
	other *coalesce.Leader[caching.Key, caching.Head]
	asked atomic.Int64
}

func (p *panicking) Get(ctx context.Context, model string, keys []caching.Key) [][]byte {
	switch p.asked.Add(1) {
	case 1:
		p.other.Close()
	case 2:
		panic(http.ErrAbortHandler)
	}
	return p.Store.Get(ctx, model, keys)
}

// A panic between the beginning of a flight and its leader's request leaves no flight behind for which all others wait.
func TestAPanicEndsTheFlight(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, func(c *answercache.Cache) {
		c.Store = &panicking{Store: c.Store, other: c.Shared.Leaders.Private(coalesce.Limits{}, func() {})}
	})
	fake.Always(fakellm.Text("Hello"))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+chatPath, strings.NewReader(chat("m", false)))
	if err != nil {
		t.Fatal(err)
	}
	if res, err := s.server.Client().Do(req); err == nil {
		res.Body.Close()
		t.Fatalf("status %d: nothing panicked", res.StatusCode)
	}
	if got := s.settled(chatPath, chat("m", false)); got.status != 200 || got.cache() != "miss" {
		t.Errorf("%d %q", got.status, got.cache())
	}
}

// A late store gives its first answer to nobody, and only when told to.
type late struct {
	caching.Store
	asked, answer chan struct{}
	once          sync.Once
}

func (l *late) Get(ctx context.Context, model string, keys []caching.Key) [][]byte {
	first := false
	l.once.Do(func() { first = true })
	if !first {
		return l.Store.Get(ctx, model, keys)
	}
	close(l.asked)
	<-l.answer
	return make([][]byte, len(keys))
}

// A request that looked before an answer was stored, and joins after its leader has closed, gets the answer all the same.
func TestAnAnswerThatCameMeanwhile(t *testing.T) {
	t.Parallel()
	store := &late{asked: make(chan struct{}), answer: make(chan struct{})}
	s, fake := cached(t, func(c *answercache.Cache) {
		store.Store = c.Store
		c.Store = store
	})
	fake.Always(fakellm.Text("Hello"))
	var all sync.WaitGroup
	var got reply
	all.Go(func() { got = s.post(chatPath, chat("m", false)) })
	<-store.asked
	s.settled(chatPath, chat("m", false))
	close(store.answer)
	all.Wait()
	if got.cache() != "hit" || len(fake.Requests()) != 1 {
		t.Errorf("%q; %d requests reached the upstream", got.cache(), len(fake.Requests()))
	}
	if again := s.settled(chatPath, chat("m", false)); again.cache() != "hit" {
		t.Errorf("%q", again.cache())
	}
}

// Ten thousand ask the same at once: one request reaches the upstream.
func TestTenThousandAsOne(t *testing.T) {
	s, fake := cached(t, nil)
	fake.Always(fakellm.Text("Hello", " world"))
	gateway := s.server.Config.Handler
	const clients = 10_000
	start := make(chan struct{})
	var all sync.WaitGroup
	bodies := make([]string, clients)
	for i := range clients {
		all.Go(func() {
			<-start
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(chat("m", true)))
			gateway.ServeHTTP(w, r)
			bodies[i] = strings.ReplaceAll(w.Body.String(), ": ping\n\n", "") // a busy machine may take longer than 15 s
		})
	}
	close(start)
	all.Wait()
	for i := range bodies {
		if bodies[i] != bodies[0] || !strings.HasSuffix(bodies[i], "data: [DONE]\n\n") {
			t.Fatalf("%d got another answer than the first one:\n%s", i, cmp.Diff(bodies[0], bodies[i]))
		}
	}
	if n := len(fake.Requests()); n != 1 {
		t.Errorf("%d requests reached the upstream", n)
	}
}
