package delivery

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

var errLoading = errors.New("the model is loading")

// awaitLoad waits until the model is loaded, if the server loads models on demand. The load belongs to the gateway: it continues
// after the client has left or another target has answered. Otherwise every client that gives up would make the server start
// again.
func (a *attempt) awaitLoad() *failure {
	a.u.Use(a.replica, a.model, a.masksLoads)
	if !a.u.LoadsOnDemand(a.replica) {
		return nil
	}
	if a.slot.IsCold() {
		a.u.ForgetLoaded(a.replica, a.model)
	}
	loaded, began := a.u.Load(a.replica, a.model, a.x.Endpoint.Vectors)
	if loaded == nil {
		return nil
	}
	a.watchdog.awaitContent(a.loadTimeout(began), true)
	select {
	case <-loaded:
		a.watchdog.awaitContent(a.firstContentTimeout(), false)
		return nil
	case <-a.ctx.Done():
		failed := a.fail(a.verdict(a.ctx.Err()), errLoading)
		a.excuseLoading(failed)
		return failed
	}
}

// excuseLoading turns a timeout while the model was loading into the verdict that the target is not reachable yet, if there is
// another target. Loading is not the replica's fault.
func (a *attempt) excuseLoading(failed *failure) {
	if !errors.Is(context.Cause(a.ctx), errSilent) {
		return
	}
	a.blameless = true
	if !a.last {
		failed.Verdict, failed.Loading = router.Unreachable, true
		failed.cold = a.masksLoads
	}
}

// coldStart is how long a request waits for the load of its model while another pool is left for it: long enough for a model that is
// loaded already, and for a small one.
const coldStart = time.Second

// loadTimeout returns how long the attempt waits for a load of its model that began at a time. If another pool is left, that is only a
// moment: requests for a model that is not loaded are answered there until it is. If another target of the pool is left, it is less than
// the load itself may take.
func (a *attempt) loadTimeout(began time.Time) time.Duration {
	switch {
	case a.last:
		return a.u.LoadTimeout()
	case a.u.Timers.FirstToken == 0 && a.masksLoads:
		return coldStart - time.Since(began)
	}
	return cmp.Or(a.u.Timers.FirstToken, firstTokenTimeout)
}

// leaveCold reports whether the request is answered by a later pool at once, and does not have its model loaded: at each of the step's
// candidates, another model would have to be unloaded whose turn is not over.
func (s *run) leaveCold(step router.Step) bool {
	if s.prefer == nil || !s.mayMask(step) {
		return false
	}
	for _, c := range s.walk.Candidates(step) {
		u := s.upstreams[c.Target.Upstream]
		model := c.Target.ModelFor(s.rec.Model)
		r := u.Replicas[c.Replica]
		if !u.LoadsOnDemand(r) || u.Timers.FirstToken != 0 || !r.Queue().KeepsOthers(u.OwnName(model)) {
			return false
		}
	}
	s.keep(&failure{Finding: upstream.Finding{Outcome: router.Outcome{Verdict: router.Unreachable, Loading: true}}, err: errLoading})
	s.leaveLoading(step)
	return true
}

// wake wakes the machine if it cannot be reached and may be asleep. A request that has no other target then waits until it is there.
func (a *attempt) wake(failed *failure) {
	if failed == nil || failed.Verdict != router.Unreachable || a.u.WakeUp == nil {
		return
	}
	failed.Loading = true
	if err := a.u.WakeUp.Wake(); err != nil {
		failed.err = errors.Join(failed.err, err)
	}
}

// resumeLoad checks after a timeout whether the model is still loaded. If the server has unloaded it for another model, the request
// made the server load it again, and the timeout aborted that load. The gateway then starts a load of its own.
func (a *attempt) resumeLoad(failed *failure) {
	if failed == nil || failed.Verdict != router.Timeout || a.blameless || !a.u.LoadsOnDemand(a.replica) || !errors.Is(context.Cause(a.ctx), errSilent) {
		return
	}
	if a.u.ForgetUnloaded(a.run.ctx, a.replica, a.model) {
		a.u.Load(a.replica, a.model, a.x.Endpoint.Vectors)
		a.excuseLoading(failed)
	}
}
