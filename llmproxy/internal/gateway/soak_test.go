//go:build unix

package gateway

import (
	"flag"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// soakFor is how long TestFlappingUpstream runs: a few seconds among the other tests, `make soak` a minute.
var soakFor = flag.Duration("soak", 3*time.Second, "how long the upstream flaps")

// An upstream that comes and goes, fails in every way and is well again: every request is answered, since another target is
// sound all the time; and the gateway does not work itself to death about it.
func TestFlappingUpstream(t *testing.T) {
	s := &setup{t: t}
	flapping, steady := fakellm.Start(t, "vllm"), fakellm.Start(t, "openai")
	s.up("box", upstream.VLLM, func(c *upstream.Config) {
		c.MaxConcurrent = 2
		c.Timers = upstream.Timers{FirstToken: 200 * time.Millisecond, Total: 2 * time.Second}
	}, flapping.URL())
	s.up("api", upstream.OpenAI, nil, steady.URL())
	s.serve("m box/x | api/y")

	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { flap(t, flapping, stop) })
	var answers, byBox atomic.Int64
	for i := range 4 {
		all.Go(func() {
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-stop:
					return
				case <-pace.C:
				}
				got := s.post("/v1/chat/completions", chat("m", i%2 == 0))
				if got.status != http.StatusOK || got.err != nil || strings.Contains(got.body, `"error"`) {
					t.Errorf("status %d, error %v, attempts %q: …%s", got.status, got.err, got.header.Get("X-Llm-Attempts"), got.body[max(0, len(got.body)-300):])
					return
				}
				answers.Add(1)
				if got.header.Get("X-Llm-Target") == "box/x" {
					byBox.Add(1)
				}
			}
		})
	}
	before, begun := cpuTime(t), time.Now()
	timer := time.NewTimer(*soakFor)
	<-timer.C
	until(t, func() bool { return answers.Load() > 0 && byBox.Load() > 0 }) // on a machine that others use, too
	busy := (cpuTime(t) - before).Seconds() / time.Since(begun).Seconds()
	close(stop)
	all.Wait()
	t.Logf("%d answers, %d by the flapping upstream, %.2f CPUs, clients and servers included", answers.Load(), byBox.Load(), busy)
	s.free()
}

// flap lets the upstream fail in one way after the other, and be well in between.
func flap(t *testing.T, fake *fakellm.Server, stop <-chan struct{}) {
	change := time.NewTicker(200 * time.Millisecond)
	defer change.Stop()
	well := fakellm.Text("one", " two").Batch(8) // all of it at once: who has got the first token has got the last, however soon it goes down
	for i := 0; ; i++ {
		select {
		case <-stop:
			fake.Up(t)
			return
		case <-change.C:
		}
		switch i % 12 {
		case 1:
			fake.Down()
		case 3:
			fake.Up(t)
		case 5:
			fake.Always(fakellm.InternalError())
		case 7:
			fake.Always(fakellm.Busy())
		case 8:
			fake.Always(well.CutAfter(0))
		case 9:
			fake.Always(well.StallAfter(0))
		case 10:
			fake.Always(well.ErrorEventAfter(0))
		default:
			fake.Always(well)
		}
	}
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
