package admission

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// learned lets a group learn from so many answers: prompts of 1000 and 3000 tokens, which take 1.1 s and 3.1 s to read, and answers of 100
// tokens, which take 10 s to write.
func learned(g *group, answers int) {
	for i := range answers {
		slot := Slot{}
		if !g.take(&slot) {
			panic("no slot is free")
		}
		prompt := 1000 + 2000*(i%2)
		slot.Release(Usage{Known: true, Complete: true, Prompt: prompt, Output: 101, Prefill: 100*time.Millisecond + time.Duration(prompt)*time.Millisecond, Decode: 10 * time.Second})
	}
}

// about reports whether a duration is within a tenth of what is expected.
func about(d, want time.Duration) bool { return d >= want*9/10 && d <= want*11/10 }

func TestForecast(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		answers, slots  int
		running, queued int // requests of another key
		after           time.Duration
		position        int
		wait            time.Duration
		known           bool
	}{
		{"a free slot", 30, 2, 1, 0, 0, 0, 0, true},
		{"nothing is known", 0, 1, 1, 0, 0, 1, 0, false},
		{"too little is known", enoughSamples - 1, 1, 1, 0, 0, 1, 0, false},
		{"one slot, just taken", 30, 1, 1, 0, 0, 1, 12 * time.Second, true},
		{"one slot, taken a while ago", 30, 1, 1, 0, 6 * time.Second, 1, 6 * time.Second, true},
		{"others wait, and have had their share", 30, 1, 1, 5, 0, 1, 12 * time.Second, true},
		{"what is known is old", 30, 1, 1, 0, maxAge, 1, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := groupsOf(1, test.slots, 16)[0]
				learned(g, test.answers)
				for range test.running + test.queued {
					slot := &Slot{Request: Request{Caller: Caller{Key: "other"}, Prompt: 2000}}
					if !g.take(slot) {
						Enqueue(slot, true, []Place{g.place()})
					}
				}
				time.Sleep(test.after)
				slot := Slot{Request: Request{Caller: Caller{Key: "alice"}, Prompt: 3000}}
				f := slot.Forecast([]Place{g.place()})
				if f.Position != test.position || f.Known != test.known || !about(f.Wait, test.wait) {
					t.Errorf("got %+v", f)
				}
				if test.known && !about(f.FirstToken, test.wait+3100*time.Millisecond) {
					t.Errorf("the first token is expected after %s", f.FirstToken)
				}
			})
		})
	}
}

// A request behind others of its own key waits for all of them, and is told so.
func TestForecastInTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := groupsOf(1, 1, 16)[0]
		learned(g, 30)
		enterAs("alice", Normal, g)
		for n := 1; n <= 3; n++ {
			_, ticket := enterAs("alice", Normal, g)
			if f := ticket.First; f.Position != n || !f.Known || f.Wait < time.Duration(n)*9*time.Second || f.Wait > time.Duration(n)*13*time.Second {
				t.Errorf("request %d: %+v", n, f)
			}
		}
		_, urgent := enterAs("bob", High, g)
		if f := urgent.First; f.Position != 1 {
			t.Errorf("a request of a higher class: %+v", f)
		}
	})
}

// The best of several places counts.
func TestForecastOfSeveralPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gs := groupsOf(2, 1, 16)
		learned(gs[0], 30)
		learned(gs[1], 30)
		enterAs("x", Normal, gs[0])
		time.Sleep(5 * time.Second)
		enterAs("x", Normal, gs[1])
		slot := Slot{}
		if f := slot.Forecast([]Place{gs[0].place(), gs[1].place()}); !f.Known || f.Wait > 6*time.Second {
			t.Errorf("got %+v, want the wait for the first slot, which has been in use for 5 s", f)
		}
	})
}

// The maximum that a request allows bounds the expected length of its answer.
func TestExpectedLength(t *testing.T) {
	t.Parallel()
	var a answers
	mean := func(prompt, limit int) float64 { return a.mean(&Request{Prompt: prompt, MaxOutput: limit}) }
	if n := mean(500, 0); n != usualOutput {
		t.Errorf("without any answer: %v", n)
	}
	if n := mean(500, 16); n != 16 {
		t.Errorf("at most 16: %v", n)
	}
	for _, n := range []int{100, 200, 300, 1000} {
		a.learn(500, n, 0)
	}
	if n := mean(500, 0); n < 390 || n > 410 {
		t.Errorf("mean %v, want 400", n)
	}
	if n := mean(500, 200); n < 170 || n > 180 {
		t.Errorf("mean %v with at most 200 tokens, want 175", n)
	}
	if n := mean(4000, 0); n < 390 || n > 410 {
		t.Errorf("mean %v for a prompt of another size, want 400", n)
	}
	for range 1000 {
		a.learn(500, 50, 0)
		a.learn(4000, 800, 0)
	}
	for _, tt := range []struct {
		prompt      int
		least, most float64
	}{{500, 50, 60}, {4000, 780, 800}, {100_000, 400, 450}} {
		if n := mean(tt.prompt, 0); n < tt.least || n > tt.most {
			t.Errorf("mean %v for a prompt of %d tokens, want %v to %v", n, tt.prompt, tt.least, tt.most)
		}
	}
}

// An answer that was cut off by its request's limit would have become as long as others that were longer.
func TestCutAnswers(t *testing.T) {
	t.Parallel()
	var a answers
	for range 300 {
		a.learn(500, 400, 0)
		a.learn(500, 50, 50)
	}
	if n := a.mean(&Request{Prompt: 500}); n < 390 || n > 410 {
		t.Errorf("mean %v, want 400", n)
	}
	if n := a.mean(&Request{Prompt: 500, MaxOutput: 50}); n != 50 {
		t.Errorf("mean %v with at most 50 tokens", n)
	}
}

// Requests that come later and are served earlier count. Here, every other one is: a caller sends one as often as the greedy one is served.
func TestForecastCountsLaterRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := groupsOf(1, 1, 64)[0]
		learned(g, 30)
		waiting := map[*Slot]*Ticket{}
		enter := func(caller string) Forecast {
			slot := &Slot{Request: Request{Caller: Caller{Key: caller}, Prompt: 2000}}
			if g.take(slot) {
				return Forecast{}
			}
			ticket, ok := Enqueue(slot, true, []Place{g.place()})
			if !ok {
				t.Fatal("the queue is full")
			}
			waiting[slot] = ticket
			return ticket.First
		}
		serve := func() {
			time.Sleep(12 * time.Second)
			g.queue.inUse.Release(Usage{Known: true, Complete: true, Prompt: 2000, Output: 101, Prefill: 2100 * time.Millisecond, Decode: 10 * time.Second})
			<-waiting[g.queue.inUse].Granted()
		}
		for range 31 {
			enter("greedy")
		}
		before := enter("greedy")
		for range 20 {
			enter("polite")
			serve()
			serve()
		}
		after := enter("greedy")
		perRequest := before.Wait / time.Duration(before.Position)
		if before.Position != 31 || !before.Known || perRequest < 11*time.Second || perRequest > 13*time.Second {
			t.Errorf("before: %+v", before)
		}
		if per := after.Wait / time.Duration(after.Position); after.Position > 14 || per < 20*time.Second || per > 28*time.Second {
			t.Errorf("after: %+v, before: %+v", after, before)
		}
	})
}

// The server's counts of the prompts correct the estimates.
func TestEstimatesOfPrompts(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 1, 1)[0]
	for i := range 40 {
		slot := Slot{Request: Request{Prompt: 1000 + 2000*(i%2)}}
		g.take(&slot)
		prompt := 2 * slot.Prompt // in a language with many tokens for few bytes
		slot.Release(Usage{Known: true, Complete: true, Prompt: prompt, Output: 101, Prefill: time.Duration(prompt) * time.Millisecond, Decode: 10 * time.Second})
	}
	slot := Slot{Request: Request{Prompt: 2000}}
	g.take(&slot)
	if f := slot.Begun(); !f.Known || !about(f.FirstToken, 4*time.Second) {
		t.Errorf("got %+v, want 4 s", f)
	}
}

// Only so many callers are counted, those that no longer send anything are forgotten, and those that send most count in forecasts.
func TestArrivals(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var a arrivals
	a.resume(now)
	for i := range 2 * maxArrived {
		a.count(Caller{Key: strconv.Itoa(i)}, 1, 1)
		for range i % maxLater {
			a.count(Caller{Key: strconv.Itoa(i)}, 1, 1)
		}
	}
	if len(a.callers) != maxArrived || len(a.list) != maxArrived {
		t.Errorf("%d callers are counted, and %d listed", len(a.callers), len(a.list))
	}
	most, n := a.most()
	for _, c := range most[:n] {
		if c.requests != maxLater {
			t.Errorf("%+v is one of those who send most", c)
		}
	}
	if n != maxLater {
		t.Errorf("%d callers count", n)
	}
	a.count(Caller{Key: "0"}, 1, 1)
	for range 4 {
		now = now.Add(arrivalsAge * 3 / 4)
		a.pass(now)
	}
	if _, ok := a.callers[Caller{Key: "0"}]; ok || len(a.list) != len(a.callers) || a.time > arrivalsAge.Seconds() {
		t.Errorf("%d callers are left, %d listed, %v s", len(a.callers), len(a.list), a.time)
	}
	a.resume(now.Add(2 * arrivalsAge))
	if len(a.callers) != 0 || a.time != 0 {
		t.Errorf("after a long break, %d callers are left", len(a.callers))
	}
}

// Speeds shows what was learned.
func TestSpeeds(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 1, 1)[0]
	learned(g, 30)
	list := g.queue.Speeds()
	if len(list) != 1 || list[0].Model != "m" || list[0].Answers != 30 || !list[0].Recent || list[0].PromptRate < 990 || list[0].PromptRate > 1010 || list[0].OutputRate < 9.9 || list[0].OutputRate > 10.1 || list[0].Output < 100.9 || list[0].Output > 101.1 {
		t.Errorf("got %+v", list)
	}
	for i := range 3 * maxModels {
		slot := Slot{}
		g.queue.Take(&g.Rules, string(rune('a'+i)), &slot)
		slot.Release(Usage{Known: true, Complete: true, Prompt: 1, Output: 1})
	}
	if n := len(g.queue.Speeds()); n != maxModels {
		t.Errorf("%d models are remembered, at most %d may be", n, maxModels)
	}
}
