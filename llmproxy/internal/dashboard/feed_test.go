package dashboard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// recent returns the list of requests of the process, as a handler has it.
func recent(tb testing.TB) *overview.Recent {
	tb.Helper()
	c := new(state.Closer)
	tb.Cleanup(func() { c.Close() })
	return overview.AcquireRecent(c)
}

func record(to *overview.Recent, identity string) {
	rec := &exchange.Record{ID: "id", Endpoint: "chat", Status: 200, Started: time.Now()}
	rec.Identity, rec.Model = identity, "m"
	rec.AddAttempt(exchange.Attempt{Target: "gpu/m", Address: "http://10.0.0.1:8000/v1", Status: 200})
	to.Record(rec)
}

// shown returns the numbers of the requests in the messages that have arrived.
func shown(t *testing.T, w *watcher) (list []uint64) {
	t.Helper()
	for {
		select {
		case text := <-w.messages:
			name, data, ok := bytes.Cut(bytes.TrimSuffix(text, []byte("\n\n")), []byte("\ndata: "))
			if !ok {
				t.Fatalf("%q", text)
			}
			if string(name) != "event: status" {
				continue
			}
			var s overview.Snapshot
			if err := json.Unmarshal(data, &s); err != nil {
				t.Fatal(err)
			}
			for i := range s.Requests {
				list = append(list, s.Requests[len(s.Requests)-1-i].Number)
			}
		default:
			return list
		}
	}
}

// Every page gets every request that it may see once, whenever it was opened.
func TestEveryPageGetsEveryRequestOnce(t *testing.T) {
	requests := recent(t)
	synctest.Test(t, func(t *testing.T) {
		var f feed
		defer f.close()
		record(requests, "key/alice")
		record(requests, "key/bob")
		all, own := f.join(overview.Viewer{}), f.join(overview.Viewer{Key: "alice", Identity: "key/alice"})
		time.Sleep(interval + time.Millisecond)
		synctest.Wait()
		record(requests, "key/alice")
		later := f.join(overview.Viewer{})
		time.Sleep(interval)
		synctest.Wait()
		record(requests, "key/bob")
		time.Sleep(interval)
		synctest.Wait()
		for name, test := range map[string]struct {
			page *watcher
			want string
		}{"all": {all, "[1 2 3 4]"}, "own": {own, "[1 3]"}, "later": {later, "[1 2 3 4]"}} {
			if got := fmt.Sprint(shown(t, test.page)); got != test.want {
				t.Errorf("%s: %s", name, got)
			}
		}
	})
}

// While no page is open, nothing runs.
func TestNothingRunsWhileNobodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f feed
		for range 2 {
			w := f.join(overview.Viewer{})
			time.Sleep(2 * interval)
			f.leave(w)
			f.leave(w)
			time.Sleep(interval)
			synctest.Wait() // and at the end of the bubble no goroutine may be left
			if f.running {
				t.Error("the producer runs")
			}
		}
	})
}

func TestASlowPageIsDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f feed
		defer f.close()
		slow := f.join(overview.Viewer{})
		time.Sleep((backlog + 2) * interval)
		synctest.Wait()
		n := 0
		for range slow.messages {
			n++
		}
		if n != backlog {
			t.Errorf("it got %d messages", n)
		}
	})
}

func TestTooManyPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f feed
		for range maxWatchers {
			if f.join(overview.Viewer{}) == nil {
				t.Fatal("a page was refused too early")
			}
		}
		if f.join(overview.Viewer{}) != nil {
			t.Error("one page too many")
		}
		f.close()
		if f.join(overview.Viewer{}) != nil {
			t.Error("a page could be opened after the end")
		}
	})
}

// The page may only load what is its own. So no file may have code or styles within the page, or name another site.
func TestFilesAskNobodyElse(t *testing.T) {
	t.Parallel()
	for name, f := range files {
		if strings.HasPrefix(name, "uplot/") {
			continue // names its author
		}
		text := string(f.content)
		for _, forbidden := range []string{"http:", "https:", "<style", " style=", "javascript:", "innerHTML", "eval("} {
			if i := strings.Index(text, forbidden); i >= 0 && !strings.HasPrefix(text[i:], "http://www.w3.org/2000/svg") {
				t.Errorf("%s has %s", name, forbidden)
			}
		}
	}
	if len(files) < 10 {
		t.Errorf("only %d files", len(files))
	}
}

// With ten pages open and 100 requests a second, this happens twice a second.
func BenchmarkTick(b *testing.B) {
	for _, pages := range []int{1, 10} {
		b.Run(fmt.Sprint(pages), func(b *testing.B) {
			requests := recent(b)
			for range 1000 {
				record(requests, "key/alice")
			}
			f := feed{watchers: map[*watcher]struct{}{}}
			for range pages {
				f.watchers[&watcher{messages: make(chan []byte, backlog), greeted: true}] = struct{}{}
			}
			last := uint64(1000)
			b.ReportAllocs()
			for b.Loop() {
				for range 50 {
					record(requests, "key/alice")
				}
				for view, members := range f.open() {
					last = f.tell(view, members, last)
				}
				for w := range f.watchers {
					<-w.messages
				}
			}
		})
	}
}
