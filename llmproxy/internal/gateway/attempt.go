package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// errNoStream says that the client, who has waited long for its stream, cannot be given anything else any more.
var errNoStream = errors.New("the upstream answered no stream, and the client's has begun")

// maxErrorBody bounds what is read of an error answer.
const maxErrorBody = 64 << 10

// An attempt is one try at one target, with a context of its own: cancelling it stops the upstream.
type attempt struct {
	c         *call
	u         *upstream.Upstream
	candidate router.Candidate
	model     string
	target    string // "upstream/model"
	started   time.Time
	span      Span // nil where nobody traces
	status    int
	size      int64 // of the request's body
	life      life
	patience  patience
	idle      time.Duration
	total     *time.Timer // nil where nothing bounds all of it
	last      bool        // no other target is left
	quiet     bool        // its end says nothing of the replica
	neighbours
}

func (c *call) attempt(candidate router.Candidate, last bool) *attempt {
	a := &attempt{c: c, u: c.g.upstreams[candidate.Target.Upstream], candidate: candidate, model: candidate.Target.ModelFor(c.rec.Model), started: time.Now()}
	a.target = a.u.Name + "/" + a.model
	ctx := c.r.Context()
	if c.g.Trace != nil {
		ctx, a.span = c.g.Trace(ctx, c.rec, a.done(router.OK))
	}
	a.life.begin(ctx)
	timers := a.u.Timers
	a.idle = or(timers.Idle, idleDefault)
	a.last = last
	c.rec.Target, c.rec.Configured = a.target, candidate.Target // before a sign of life may be sent, which may tell it
	a.await(a.forContent())
	if timers.Total > 0 {
		a.total = time.AfterFunc(timers.Total, func() { a.life.end(errTotal) })
	}
	c.g.underWay.enter(a)
	return a
}

func (a *attempt) close() {
	a.patience.stop()
	if a.total != nil {
		a.total.Stop()
	}
	a.c.g.underWay.leave(a)
	a.life.close()
}

// run sends the request, holds the answer until it is worth committing to, and commits.
func (a *attempt) run() *failure {
	if a.c.localOnly && !a.u.IsLocal() {
		return a.fail(router.Config, errStays) // the walk does not come here; should it ever, nothing leaves
	}
	if failed := a.load(); failed != nil {
		return failed
	}
	req := a.u.Request(&a.life, &a.c.up, a.candidate.Replica, a.model)
	a.size = req.ContentLength
	a.candidate.Replica.Enter(a)
	defer a.candidate.Replica.Leave(a)
	if a.span != nil {
		a.span.Inject(req.Header)
	}
	res, err := a.u.RoundTrip(req)
	if err != nil {
		return a.fail(a.verdict(err), err)
	}
	a.status = res.StatusCode
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated { // some frameworks say 201 to every POST
		return a.refused(res)
	}
	answer, err := relay.Hold(res, a.expect())
	if err != nil {
		return a.unfit(err)
	}
	defer answer.Close()
	if a.c.pulse.Stop() && !relay.Streams(answer) {
		return a.fail(router.Broken, errNoStream)
	}
	a.commit(answer)
	return nil
}

// refused reads an error answer.
func (a *attempt) refused(res *http.Response) *failure {
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err != nil && a.life.Err() != nil {
		return a.fail(a.verdict(err), err)
	}
	found := a.u.Speaks().Classify(res.StatusCode, res.Header, body)
	f := a.fail(found.Verdict, a.refusal(res.StatusCode, body))
	f.Finding, f.body = found, body
	a.learn(found)
	return f
}

// unfit judges an answer of status 200 that was none.
func (a *attempt) unfit(err error) *failure {
	var event *relay.EventError
	if !errors.As(err, &event) {
		return a.fail(a.verdict(err), err)
	}
	found := a.u.Speaks().ClassifyEvent(event.Value)
	f := a.fail(found.Verdict, a.refusal(http.StatusOK, errorBody(event.Value)))
	f.Finding, f.body = found, errorBody(event.Value)
	a.learn(found)
	return f
}

func errorBody(value []byte) []byte {
	return append(append([]byte(`{"error":`), value...), '}')
}

func (a *attempt) fail(v router.Verdict, err error) *failure {
	return &failure{Finding: upstream.Finding{Verdict: v}, upstream: a.u.Name, target: a.target, configured: a.candidate.Target, status: a.status, err: a.because(err)}
}

// because adds why the attempt was ended to how a transport met with that.
func (a *attempt) because(err error) error {
	if why := a.life.cause(); why != nil && !errors.Is(err, why) {
		return fmt.Errorf("%w (%w)", why, err)
	}
	return err
}

// verdict judges a failure to get an answer at all.
func (a *attempt) verdict(err error) router.Verdict {
	var notSent *upstream.NotSentError
	switch {
	case a.c.r.Context().Err() != nil:
		return router.Gone
	case isAny(a.life.cause(), errSilent, errTotal, errOverdue, errWedged):
		return router.Slow
	case errors.As(err, &notSent):
		return router.NotUp
	}
	return router.Broken
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}
