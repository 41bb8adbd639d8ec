package overview

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// finished returns the record of a chat that has ended just now, after two seconds.
func finished(identity string, attempts ...exchange.Attempt) *exchange.Record {
	rec := &exchange.Record{ID: "id", Endpoint: "chat", Status: 200, Started: time.Now().Add(-2 * time.Second), Duration: 2 * time.Second}
	_, rec.Key, _ = strings.Cut(identity, "/")
	rec.Identity, rec.Model, rec.Stream = identity, "m", true
	rec.FirstContent, rec.Usage.Output = time.Second, 60
	for _, a := range attempts {
		rec.AddAttempt(a)
	}
	return rec
}

func numbers(s *Snapshot) (list []uint64) {
	for _, r := range s.Requests {
		list = append(list, r.Number)
	}
	return list
}

// sum returns what a list shows to a viewer, without the handlers of the process.
func sum(r *Recent, v Viewer, after uint64) *Snapshot {
	s := new(Snapshot)
	r.sum(v, after, time.Now(), s)
	return s
}

func TestRecentKeepsTheLatestRequests(t *testing.T) {
	t.Parallel()
	r := NewRecent()
	r.Record(&exchange.Record{Endpoint: "models"})
	if got := sum(r, Viewer{}, 0); len(got.Requests) != 0 {
		t.Errorf("a list of models is among the requests: %+v", got.Requests)
	}
	for range 3 {
		r.Record(finished("key/alice"))
	}
	if diff := cmp.Diff([]uint64{3, 2, 1}, numbers(sum(r, Viewer{}, 0))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]uint64{3}, numbers(sum(r, Viewer{}, 2))); diff != "" {
		t.Error(diff)
	}
	for range 10_000 {
		r.Record(finished("key/alice"))
	}
	got := sum(r, Viewer{}, 0)
	if n := len(got.Requests); n != maxShown || got.Requests[0].Number != 10_003 || len(r.entries) != kept {
		t.Errorf("%d requests from number %d on, in a list of %d", n, got.Requests[0].Number, len(r.entries))
	}
}

func TestAViewerSeesOnlyItsOwnRequests(t *testing.T) {
	t.Parallel()
	r := NewRecent()
	r.Record(finished("key/alice"))
	r.Record(finished("user/alice"))
	r.Record(finished(""))
	bob := finished("key/bob")
	bob.Cache = "hit"
	r.Record(bob)
	for name, test := range map[string]struct {
		viewer Viewer
		want   []uint64
		hits   int64
	}{
		"everything":  {Viewer{}, []uint64{4, 3, 2, 1}, 0}, // its hits are those of the caches
		"alice's key": {Viewer{"alice", "key/alice"}, []uint64{1}, 0},
		"bob's key":   {Viewer{"bob", "key/bob"}, []uint64{4}, 1},
		"a stranger":  {Viewer{"eve", "key/eve"}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := sum(r, test.viewer, 0)
			if diff := cmp.Diff(test.want, numbers(s)); diff != "" {
				t.Error(diff)
			}
			if s.Traffic.Requests != len(test.want) || s.Cache.Hits != test.hits {
				t.Errorf("%+v %+v", s.Traffic, s.Cache)
			}
		})
	}
}

// Only the metadata of a request are shown: no message of an error, which may quote the request, and to callers no address.
func TestARequestIsShownWithItsAttempts(t *testing.T) {
	t.Parallel()
	r := NewRecent()
	rec := finished("key/alice",
		exchange.Attempt{Target: "gpu/a", Address: "http://10.0.0.1", Verdict: router.Unreachable, Duration: time.Millisecond, Err: errSecret{}},
		exchange.Attempt{Target: "gpu/b", Address: "http://10.0.0.2", Verdict: router.Failed, Status: 500, Duration: time.Second},
		exchange.Attempt{Target: "big/" + strings.Repeat("x", 1000), Address: "http://10.0.0.3", Status: 200, Duration: time.Second},
	)
	rec.Err = &openai.Error{Code: "upstream_error", Message: "secret"}
	rec.HasCost, rec.Cost, rec.Queue = true, .5, 250*time.Millisecond
	r.Record(rec)
	usd := .5
	want := Request{
		Number: 1, ID: "id", Started: rec.Started, Key: "alice", Endpoint: "chat", Model: "m", Stream: true, Status: 200, Verdict: "ok", Error: "upstream_error",
		Queue: .25, TTFT: 1, Duration: 2, Output: 60, USD: &usd,
		Attempts: []Try{
			{Target: "gpu/a", Address: "http://10.0.0.1", Verdict: "unreachable", Duration: .001},
			{Target: "gpu/b", Address: "http://10.0.0.2", Verdict: "failed", Status: 500, Duration: 1},
			{Target: "big/" + strings.Repeat("x", maxName-4) + "…", Address: "http://10.0.0.3", Verdict: "ok", Status: 200, Duration: 1},
		},
	}
	if diff := cmp.Diff(want, sum(r, Viewer{}, 0).Requests[0]); diff != "" {
		t.Error(diff)
	}
	for _, a := range sum(r, Viewer{"alice", "key/alice"}, 0).Requests[0].Attempts {
		if a.Address != "" {
			t.Errorf("a caller sees %s", a.Address)
		}
	}
}

type errSecret struct{}

func (errSecret) Error() string { return "secret" }

func TestTrafficOfTheLastMinute(t *testing.T) {
	t.Parallel()
	r := NewRecent()
	old := finished("")
	old.Started = old.Started.Add(-2 * time.Minute)
	r.Record(old)
	half := finished("", exchange.Attempt{Address: "a"}) // half of its tokens were generated before the last minute
	half.Started, half.Duration = time.Now().Add(-92*time.Second), time.Minute+2*time.Second
	half.FirstContent = 2 * time.Second
	r.Record(half)
	r.Record(finished("", exchange.Attempt{Address: "a"}))
	failed := finished("", exchange.Attempt{Address: "b", Verdict: router.Failed})
	failed.Status, failed.FirstContent, failed.Usage.Output = 502, 0, 0
	r.Record(failed)
	s := new(Snapshot)
	replicas := r.sum(Viewer{}, 0, time.Now(), s)
	got := s.Traffic
	if got.Window != 60 || got.Requests != 3 || got.Failed != 1 || got.RequestsPerSecond != .05 || got.TokensPerSecond < 1.45 || got.TokensPerSecond > 1.55 {
		t.Errorf("%+v", got)
	}
	if *got.TTFTMedian != 1 || *got.TTFT95 != 2 {
		t.Errorf("time to the first token: median %v, p95 %v", *got.TTFTMedian, *got.TTFT95)
	}
	if len(replicas) != 1 || len(replicas["a"].first) != 2 {
		t.Errorf("%+v", replicas)
	}
	for range kept { // in an instant: the window is what the list covers
		r.Record(finished(""))
	}
	if got := sum(r, Viewer{}, 0).Traffic; got.Window < 1 || got.Window > 30 || got.RequestsPerSecond < 30 {
		t.Errorf("of a full list: %+v", got)
	}
}

func TestPaceIsMeasuredBetweenTwoLooks(t *testing.T) {
	t.Parallel()
	var p pace
	start := time.Now()
	for _, look := range []struct {
		at    time.Duration
		value int64
		want  float64
	}{
		{0, 100, 0},                        // the first look
		{time.Second, 150, 50},             //
		{1500 * time.Millisecond, 999, 50}, // too soon
		{3 * time.Second, 350, 100},
		{4 * time.Second, 10, 0},  // another replica at this address
		{60 * time.Second, 90, 0}, // nobody has looked
	} {
		if got := p.of("a", look.value, start.Add(look.at)); got != look.want {
			t.Errorf("after %v: %v", look.at, got)
		}
	}
	p.of("b", 1, start.Add(2*time.Minute))
	if len(p.counts) != 1 {
		t.Errorf("%d counts are kept", len(p.counts))
	}
}

// Every request pays for Record, whether somebody looks or not.
func BenchmarkRecord(b *testing.B) {
	r, rec := NewRecent(), finished("key/alice", exchange.Attempt{Target: "gpu/a", Address: "http://10.0.0.1", Status: 200})
	b.ReportAllocs()
	for b.Loop() {
		r.Record(rec)
	}
}

func BenchmarkTake(b *testing.B) {
	r := NewRecent()
	for i := range kept {
		rec := finished("key/"+strconv.Itoa(i%10), exchange.Attempt{Target: "gpu/a", Address: "http://10.0.0.1", Status: 200})
		rec.Started = rec.Started.Add(-time.Duration(kept-i) * 10 * time.Millisecond)
		r.Record(rec)
	}
	b.ReportAllocs()
	for b.Loop() {
		sum(r, Viewer{}, kept-100)
	}
}
