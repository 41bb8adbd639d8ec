// Package delivery sends a request to an upstream and its answer back to the client. It walks the plan, takes slots, makes
// attempts, commits to the first answer that has content, and relays it. Until the commit, a failed attempt is followed by the next
// target without the client noticing. After the commit, a failure ends the answer with an error.
//
// It also watches what happens meanwhile: the timeouts of attempts, models that are loading, replicas that are unhealthy or stuck, the
// load of replicas, and the shutdown of the process. It does not decide where a request may go (router does) or how much it may use (access does),
// and it does not know about the cache. It stands above exchange.
package delivery

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/prefix"
)

// A Config configures a Delivery. Every function in it is optional and must not block.
type Config struct {
	Upstreams []*upstream.Upstream
	// Prices has the prices of targets. If it is nil, only local upstreams have a known price.
	Prices *prices.Book
	// Memory is the account of the memory that all requests may take together; nil for no maximum.
	Memory *memory.Account
	// AllowUnmetered lets requests to which a budget applies go where their cost cannot be metered.
	AllowUnmetered bool
	// Address returns the address of a client without a key, whose requests share a turn in the admission queues. It may be invalid.
	Address func(*http.Request) netip.Addr
	// SpillBudgets bound what requests cost that go on to a later pool because of load, by what decides that.
	SpillBudgets map[*admission.Spill]SpillBudget
	// Draining is done when the process is about to exit. Open streams then end with an error event. Nil means never.
	Draining context.Context
	// Observe is called after each failed attempt.
	Observe func(*exchange.Record, exchange.Attempt)
	// LogPrompts is the number of characters of prompts that may be logged. If it is zero, nothing that a client or a model has said is
	// logged, not even if an upstream's error quotes it.
	LogPrompts int
	// Trace starts the span of an attempt and returns the context for the attempt.
	Trace func(context.Context, *exchange.Record, exchange.Attempt) (context.Context, Span)
	// Streaming is called with 1 when a stream begins and with -1 when it ends.
	Streaming func(int)
	// Changed is called when a replica becomes healthy or unhealthy, or when a model is hidden there.
	Changed func(Change)
}

// A Span represents an attempt in a trace.
type Span interface {
	// Inject adds the headers to the attempt's request with which the upstream continues the trace.
	Inject(http.Header)
	// End ends the span.
	End(*exchange.Record, exchange.Attempt)
}

// A Delivery delivers requests to upstreams. It is safe for concurrent use.
type Delivery struct {
	Config
	Health    *HealthChecker
	upstreams map[*router.Upstream]*upstream.Upstream
	lengths   lengths
	prefer    func(router.Candidate, string) router.Preference // nil if no upstream has models that are not in memory
	holding   atomic.Int32                                     // requests that are held

	mu      sync.Mutex
	running map[*attempt]struct{}
	drained bool
}

// New returns a new Delivery.
func New(c Config) *Delivery {
	d := &Delivery{Config: c, Health: newHealthChecker(c.Upstreams, c.Changed), running: map[*attempt]struct{}{}}
	d.upstreams = make(map[*router.Upstream]*upstream.Upstream, len(c.Upstreams))
	for _, u := range c.Upstreams {
		d.upstreams[u.Route] = u
		if u.HasResidents() || u.Kind == upstream.Auto {
			d.prefer = d.preference
		}
	}
	if c.Draining != nil {
		context.AfterFunc(c.Draining, d.drain)
	}
	return d
}

// drain ends all running attempts.
func (d *Delivery) drain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drained = true
	for a := range d.running {
		a.end(errDraining)
	}
}

// register adds a running attempt. If the process is already shutting down, it ends the attempt at once.
func (d *Delivery) register(a *attempt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running[a] = struct{}{}
	if d.drained {
		a.end(errDraining)
	}
}

func (d *Delivery) unregister(a *attempt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.running, a)
}

// draining reports whether the process is about to exit, so that no new attempt may start.
func (d *Delivery) draining() bool { return d.Draining != nil && d.Draining.Err() != nil }

// preference returns whether a candidate has a model in memory.
func (d *Delivery) preference(c router.Candidate, model string) router.Preference {
	u := d.upstreams[c.Target.Upstream]
	return u.Preference(u.Replicas[c.Replica], c.Target.ModelFor(model))
}

// Upstream returns the upstream that belongs to a router's upstream.
func (d *Delivery) Upstream(u *router.Upstream) *upstream.Upstream { return d.upstreams[u] }

// Price returns the price of a request to an endpoint at a target of the upstream, written "upstream/model", or nil if it is unknown. The
// request is nil if it is a form.
func (d *Delivery) Price(u *upstream.Upstream, target string, endpoint *openai.Endpoint, request *openai.Request) *prices.Price {
	at := prices.Place{Service: prices.Service(u.Bases[0].Hostname()), Local: u.IsLocal()}
	if endpoint.Images {
		at.Size, at.Quality = request.Image()
	}
	return d.Prices.Find(at, target)
}

// A run is the delivery of one request.
type run struct {
	*Delivery
	ctx      context.Context // ends when the answer is no longer wanted
	x        *exchange.Exchange
	planned  *exchange.PlannedRequest
	client   exchange.Client
	rec      *exchange.Record
	template upstream.Template
	walk     router.Walk
	pool     int
	route    string        // the rule that led to the plan
	adjusted router.Target // the target whose adjustments the template has
	// slot is the one that the current attempt has. Described is whether it says already what the request is.
	slot      admission.Slot
	described bool
	// forecast is what was expected when the request asked for the slot, at the time asked or, if that is zero, when the attempt started.
	forecast admission.Forecast
	asked    time.Time
	// spillPaid settles what was reserved for the request in a later pool; nil if nothing was. Refused means that the budget for that is
	// used up.
	spillPaid func(cost float64)
	refused   bool
	// masksLoads means that the request goes to a later pool while its model is loading.
	masksLoads bool
	// last is the last failure, mostInformative the one to report to the client.
	last, mostInformative *failure
	began                 time.Time
	held                  bool // it counts as held
	// unpaid is why the budget does not cover a target that would have been tried.
	unpaid *openai.Error
}

// Deliver makes one attempt after another until an answer has been committed, the client made a mistake, or no target is left.
// It fills in the record's Answer. If nothing was committed, it returns the error for the client.
//
// The context must end when nobody wants the answer any more. That is not always when the client of the exchange leaves, because
// other clients may share the answer.
//
// If an answer that is not a stream of events breaks off after the commit, Deliver panics with http.ErrAbortHandler. Otherwise the
// client would take the first half of the body for all of it.
func (d *Delivery) Deliver(ctx context.Context, x *exchange.Exchange, planned *exchange.PlannedRequest, to exchange.Client) *openai.Error {
	s := &run{Delivery: d, ctx: ctx, x: x, planned: planned, client: to, rec: x.Record, route: x.Record.Route}
	s.template.Endpoint, s.template.Own, s.template.ID, s.template.Header = x.Endpoint, x.Own, x.Record.ID, x.Request.Header
	s.template.JSON, s.template.Memory, s.template.Answers = planned.Body.JSON(), planned.Body.Memory(), d.Memory
	s.template.Original, s.template.Passable = planned.Body.Original(), !planned.Shared
	if form := planned.Body.Form; form != nil {
		s.template.Form = func(model string) upstream.Payload { return form.WithModel(model) }
	}
	s.began = time.Now()
	defer s.release()
	defer s.template.Release()
	s.restart()
	if err := s.requireMeter(); err != nil {
		return err
	}
	defer func() { s.settleSpill(s.rec.Cost) }()
	for !s.followPlan() {
		if !s.hold() {
			return s.finalError()
		}
	}
	return nil
}

// restart returns to the start of the plan.
func (s *run) restart() {
	fits := s.walk.Fits
	if s.walk.Plan == nil {
		fits = s.fits(s.x, s.planned)
	}
	s.walk = router.Walk{Plan: s.planned.Plan, Model: s.rec.Model, LocalOnly: s.planned.LocalOnly, Fits: fits, Prefer: s.prefer}
	if s.planned.Plan.NeedsHead() {
		s.walk.Head = func() *prefix.Head { return promptHead(s.x, s.template.JSON) }
	}
	s.pool, s.last, s.mostInformative, s.unpaid, s.refused = 0, nil, nil, nil, false
}

// followPlan makes one attempt after another. It reports whether an answer was committed.
func (s *run) followPlan() bool {
	for {
		step, ok := s.walk.Next()
		if !ok || !s.pause(step) {
			break
		}
		candidate, ok := s.takeSlot(step)
		if !ok {
			if s.refused || s.mustStop() {
				break
			}
			continue
		}
		if !s.pay(candidate) {
			if s.mustStop() {
				break
			}
			continue
		}
		s.enterPool(step.Pool)
		s.adjust(candidate)
		s.masksLoads = s.mayMask(step)
		failed := s.try(candidate, s.walk.Last())
		if failed == nil {
			return true
		}
		s.walk.Failed(failed.Outcome)
		s.keep(failed)
		if failed.cold {
			s.leaveLoading(step)
		}
		if !failed.Verdict.TryNext() || s.mustStop() {
			break
		}
	}
	return false
}

// mayMask reports whether the request may go to a later pool while its model is loading.
func (s *run) mayMask(step router.Step) bool { return !s.walk.LastPool() && s.coversSpill(step) }

// leaveLoading leaves a pool whose model is loading, because another replica of the pool would load it, too.
func (s *run) leaveLoading(step router.Step) {
	if spill, next := s.walk.Spill(step); spill != nil {
		s.paySpill(spill, next) // it was covered before the attempt
	}
	s.walk.Leave(step)
}

// mustStop reports whether no further attempt may start: the answer is no longer wanted, the process is shutting down, or the
// deadline has passed.
func (s *run) mustStop() bool {
	return s.ctx.Err() != nil || s.draining() || !s.planned.Deadline.IsZero() && !time.Now().Before(s.planned.Deadline)
}

// enterPool records why a later pool is tried.
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

// keep remembers a failure, for the next attempt and for the client.
func (s *run) keep(f *failure) {
	s.last = f
	if s.mostInformative == nil || f.Verdict.MoreInformative(s.mostInformative.Verdict) {
		s.mostInformative = f
	}
}

// adjust changes the request by what the target has said that it takes. Other targets may take other requests.
func (s *run) adjust(candidate router.Candidate) {
	if s.adjusted != candidate.Target {
		s.adjusted = candidate.Target
		s.template.Unadjusted()
	}
	if s.last != nil && s.last.Verdict == router.Adjustable && s.last.configured == candidate.Target {
		s.template.Adjust(s.last.Finding)
	}
}

// finalError returns the error for the client after everything has failed.
func (s *run) finalError() *openai.Error {
	f := s.mostInformative
	switch {
	case s.ctx.Err() != nil:
		return exchange.ErrClientClosed
	case f == nil && s.unpaid != nil:
		return s.unpaid
	case f == nil && s.draining():
		return shuttingDown()
	case f == nil:
		return exchange.NoUpstream("No upstream is available for this model. Try again in a moment.")
	}
	s.rec.Verdict, s.rec.Target, s.rec.Configured = f.Verdict, f.target, f.configured
	e := f.apiError()
	if f.spill {
		s.refuseHeld(e)
	}
	switch {
	case s.draining() && f.Verdict.TryNext():
		e = shuttingDown()
	case s.planned.LocalOnly && f.Verdict.TryNext():
		e.Message += " The request must stay on local upstreams, so no other upstream was tried."
	case s.unpaid != nil && f.Verdict.TryNext():
		e.Message += " The budget does not cover the other upstreams."
	}
	if e.Header == nil {
		e.Header = http.Header{}
	}
	s.x.SetAnswerHeaders(e.Header, attempts(s.rec))
	if f.Verdict == router.Overloaded && f.RetryAfter > 0 && !s.draining() {
		e.Header["Retry-After"] = []string{exchange.RetryAfter(f.RetryAfter)}
	}
	return e
}

// attempts returns what was tried and how it ended: "2; gpu/llama3 unreachable, openai/gpt-4o overloaded".
func attempts(rec *exchange.Record) string {
	b := strconv.AppendInt(nil, int64(len(rec.Attempts)), 10)
	for i, a := range rec.Attempts {
		separator := ", "
		if i == 0 {
			separator = "; "
		}
		b = append(append(append(append(b, separator...), a.Target...), ' '), a.Verdict.String()...)
	}
	return string(b)
}

// offer returns what is known of the cost of the request at a target.
func (s *run) offer(t router.Target) offer {
	u, model := s.upstreams[t.Upstream], t.ModelFor(s.rec.Model)
	request := s.template.JSON
	o := offer{
		endpoint: s.x.Endpoint, request: request, form: s.planned.Body.Form, size: s.planned.Body.Size,
		price: s.Price(u, u.Name+"/"+model, s.x.Endpoint, request), learned: s.lengths.nearlyAll(u.Name + "/" + model),
		window: int64(u.Capabilities(model).ContextWindow),
	}
	if request != nil {
		o.prompt = int64(u.CorrectEstimate(model, request.Signals().PromptTokens))
	}
	return o
}

// pay reserves the cost of an attempt at a candidate that has a slot. If the budget does not cover it, pay gives the slot back and leaves
// out the target.
func (s *run) pay(c router.Candidate) bool {
	if s.planned.Budget == nil {
		return true
	}
	o := s.offer(c.Target)
	least, likely := o.costs()
	if likely == 0 {
		return true
	}
	err := s.planned.Budget.Pay(s.ctx, least, likely)
	if err == nil {
		return true
	}
	s.slot.Release(admission.Usage{})
	s.walk.Failed(router.Outcome{Verdict: router.Unsupported})
	s.unpaid = err
	return false
}

// requireMeter leaves out the targets at which the cost of the request cannot be metered, if a budget applies to it. It returns an error if
// no target is left.
func (s *run) requireMeter() *openai.Error {
	if s.planned.Budget == nil || s.AllowUnmetered {
		return nil
	}
	metered := func(t router.Target) bool { o := s.offer(t); return o.canMeter() }
	if fits := s.walk.Fits; s.planned.Plan.Any(s.planned.LocalOnly, func(t router.Target) bool { return !metered(t) }) {
		s.walk.Fits = func(t router.Target) bool { return metered(t) && (fits == nil || fits(t)) }
	}
	if s.planned.Plan.Any(s.planned.LocalOnly, metered) {
		return nil
	}
	o := s.offer(router.Target{Upstream: s.planned.Plan.Default()})
	return o.notMetered()
}
