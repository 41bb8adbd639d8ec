// Package delivery takes a request to a target and its answer back: it walks the plan, takes slots, makes attempts, commits
// to the first answer that has content, and relays it. Until the commit every failure goes to the next target, unseen by the
// client; after it, a failure is told as one honest event.
//
// It owns what must be watched while a request is on its way: the timers of each attempt, models that load, servers that
// are unhealthy or stuck, and the end of the process. It does not decide where a request may go (router does), nor what it
// may use (access does), and it knows nothing of the cache. It stands above exchange.
package delivery

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Config is what delivery needs of the configuration.
type Config struct {
	Upstreams []*upstream.Upstream
	// Prices knows what answers cost; nil if only what is local does.
	Prices *prices.Book
	// Draining is done when the process is about to end: open streams then end with an error event. Nil for never.
	Draining context.Context
	// Observe hears of every attempt that failed, as it happens; nil for nobody. It must not block.
	Observe func(*exchange.Record, exchange.Attempt)
	// LogPrompts allows errors for the log to quote what a client or a model said.
	LogPrompts bool
	// Trace begins the span of an attempt, and returns the context to make it in; nil for no tracing.
	Trace func(context.Context, *exchange.Record, exchange.Attempt) (context.Context, Span)
	// Streaming hears of each stream that begins, 1, and that is over, -1; nil for nobody.
	Streaming func(int)
	// Changed hears when a replica becomes healthy or unhealthy, and when a model is hidden there; nil for nobody. It must not
	// block.
	Changed func(Change)
}

// A Span is an attempt as a trace shows it.
type Span interface {
	// Inject puts what the upstream needs to continue the trace into the headers of the attempt's request.
	Inject(http.Header)
	// End closes the span.
	End(*exchange.Record, exchange.Attempt)
}

// A Delivery delivers requests to upstreams. It is safe for concurrent use.
type Delivery struct {
	Config
	Health    *HealthChecker
	upstreams map[*router.Upstream]*upstream.Upstream

	mu      sync.Mutex
	running map[*attempt]struct{} // those under way
	drained bool
}

// New returns a new Delivery.
func New(c Config) *Delivery {
	d := &Delivery{Config: c, Health: newHealthChecker(c.Upstreams, c.Changed), running: map[*attempt]struct{}{}}
	d.upstreams = make(map[*router.Upstream]*upstream.Upstream, len(c.Upstreams))
	for _, u := range c.Upstreams {
		d.upstreams[u.Route] = u
	}
	if c.Draining != nil {
		context.AfterFunc(c.Draining, d.drain)
	}
	return d
}

// drain ends all attempts under way.
func (d *Delivery) drain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drained = true
	for a := range d.running {
		a.end(errDraining)
	}
}

// enter counts an attempt among those under way. One that comes too late is ended at once.
func (d *Delivery) enter(a *attempt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running[a] = struct{}{}
	if d.drained {
		a.end(errDraining)
	}
}

func (d *Delivery) leave(a *attempt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.running, a)
}

// draining reports whether the process is about to end: no new attempt is made then.
func (d *Delivery) draining() bool { return d.Draining != nil && d.Draining.Err() != nil }

// Upstream returns the upstream that the router knows as u.
func (d *Delivery) Upstream(u *router.Upstream) *upstream.Upstream { return d.upstreams[u] }

// Price returns the price of a target of the upstream, written "upstream/model"; nil if it is unknown.
func (d *Delivery) Price(u *upstream.Upstream, target string) *prices.Price {
	return d.Prices.Find(prices.Place{Service: prices.Service(u.Bases[0].Hostname()), Local: u.IsLocal()}, target)
}

// A run is one request on its way through its plan.
type run struct {
	*Delivery
	ctx    context.Context // of whoever waits for the answer
	x      *exchange.Exchange
	ask    *exchange.Ask
	client exchange.Client
	rec    *exchange.Record
	call   upstream.Template
	walk   router.Walk
	pool   int
	// last is the failure of the last attempt, telling the one that says most to the client.
	last, telling *failure
}

// Deliver walks the plan: one attempt after the other until one was committed to, or the failure is the client's own, or
// nothing is left. The context is that of whoever waits for the answer. It fills in the record's Answer as it goes. The error
// is what the client is to be told, if nothing was committed. It panics with http.ErrAbortHandler when an answer that is
// not a stream of events broke off after its first byte: half a body with a proper end would pass for a whole one.
func (d *Delivery) Deliver(ctx context.Context, x *exchange.Exchange, ask *exchange.Ask, to exchange.Client) *openai.Error {
	s := &run{Delivery: d, ctx: ctx, x: x, ask: ask, client: to, rec: x.Record}
	s.call.Endpoint, s.call.ID, s.call.Header = x.Endpoint, x.Record.ID, x.Request.Header
	s.call.JSON, s.call.Memory = ask.Body.JSON(), ask.Body.Memory()
	if form := ask.Body.Form; form != nil {
		s.call.Form = func(model string) upstream.Payload { return form.WithModel(model) }
	}
	s.walk = router.Walk{Plan: ask.Plan, Model: s.rec.Model, LocalOnly: ask.LocalOnly, Fits: d.fits(x, ask)}
	for {
		step, ok := s.walk.Next()
		if !ok || !s.pause(step) {
			break
		}
		candidate, ok := s.slot(step)
		if !ok {
			if s.hopeless() {
				break
			}
			continue
		}
		s.enterPool(step.Pool)
		s.adjust(candidate)
		failed := s.try(candidate, s.walk.Last())
		if failed == nil {
			return nil
		}
		s.walk.Failed(failed.Outcome)
		s.note(failed)
		if !failed.Verdict.TryNext() || s.hopeless() {
			break
		}
	}
	return s.giveUp()
}

// hopeless reports whether no attempt can be made any more: nobody waits for the answer, or no time is left.
func (s *run) hopeless() bool {
	return s.ctx.Err() != nil || s.draining() || !s.ask.Deadline.IsZero() && !time.Now().Before(s.ask.Deadline)
}

// enterPool records that a later pool is begun with, and why.
func (s *run) enterPool(pool int) {
	switch {
	case pool <= s.pool:
	case s.last != nil && s.last.spill:
		s.rec.Route = "spill"
	case s.last != nil:
		s.rec.Route = "fallback:" + s.last.Verdict.String()
	case s.walk.NoneFits(s.pool):
		s.rec.Route = "fallback:" + router.Unsupported.String()
	case s.walk.Reason(s.pool) != router.OK:
		s.rec.Route = "fallback:" + s.walk.Reason(s.pool).String()
	}
	s.pool = pool
}

// note keeps what the client may have to be told, and what the next attempt must know of the last.
func (s *run) note(f *failure) {
	s.last = f
	if s.telling == nil || f.Verdict.MoreInformative(s.telling.Verdict) {
		s.telling = f
	}
}

// adjust bounds the output by what the target has just said that it allows. What another target allows is another matter.
func (s *run) adjust(candidate router.Candidate) {
	s.call.MaxOutput = 0
	if s.last != nil && s.last.Verdict == router.Adjustable && s.last.configured == candidate.Target {
		s.call.MaxOutput = s.last.MaxOutput
	}
}

// giveUp returns the failure that says most to the client.
func (s *run) giveUp() *openai.Error {
	f := s.telling
	switch {
	case s.ctx.Err() != nil:
		return exchange.ClientClosed
	case f == nil && s.draining():
		return shuttingDown()
	case f == nil:
		return exchange.NoUpstream("No upstream is available for this model. Try again in a moment.")
	}
	s.rec.Verdict, s.rec.Target, s.rec.Configured = f.Verdict, f.target, f.configured
	told := f.tell()
	switch {
	case s.draining() && f.Verdict.TryNext():
		told = shuttingDown()
	case s.ask.LocalOnly && f.Verdict.TryNext():
		told.Message += " The request must stay on local upstreams, so that nothing else was tried."
	}
	told.Header = http.Header{}
	s.x.SetAnswerHeaders(told.Header, s.tried())
	if f.Verdict == router.Overloaded && f.RetryAfter > 0 && !s.draining() {
		told.Header["Retry-After"] = []string{seconds(f.RetryAfter)}
	}
	return told
}

// tried says what was tried and how it ended: "2; gpu/llama3 unreachable, openai/gpt-4o overloaded".
func (s *run) tried() string {
	b := strconv.AppendInt(nil, int64(len(s.rec.Attempts)), 10)
	for i, a := range s.rec.Attempts {
		separator := ", "
		if i == 0 {
			separator = "; "
		}
		b = append(append(append(append(b, separator...), a.Target...), ' '), a.Verdict.String()...)
	}
	return string(b)
}

// seconds is a wait as Retry-After has it, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
