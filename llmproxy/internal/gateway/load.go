package gateway

import (
	"errors"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

var errLoading = errors.New("the model is loading")

// load waits until the model is loaded, on a server that loads models when they are asked for. The load is the gateway's own
// and goes on when the client has left, or has been answered by somebody else: else every client that loses patience would
// make the server begin again.
func (a *attempt) load() *failure {
	if !a.u.Loads() {
		return nil
	}
	loaded := a.u.Load(a.candidate.Replica, a.model, a.c.task.endpoint.Vectors)
	if loaded == nil {
		return nil
	}
	a.await(a.forLoad())
	select {
	case <-loaded:
		a.await(a.forContent())
		return nil
	case <-a.life.Done():
		failed := a.fail(a.verdict(a.life.Err()), errLoading)
		a.loading(failed)
		return failed
	}
}

// loading judges an attempt that ended because the model was not loaded in time: nobody's fault.
func (a *attempt) loading(failed *failure) {
	if !errors.Is(a.life.cause(), errSilent) {
		return
	}
	a.quiet = true
	if !a.last {
		failed.Verdict, failed.Loading = router.NotUp, true
	}
}

// reload looks, after an attempt that met with silence, whether the model was loaded at all: the server may have made room for
// another one since it answered last, and the attempt's end has just made it begin again. Then the load becomes the gateway's.
func (a *attempt) reload(failed *failure) {
	if failed == nil || failed.Verdict != router.Slow || a.quiet || !a.u.Loads() || !errors.Is(a.life.cause(), errSilent) {
		return
	}
	if a.u.Forget(a.c.r.Context(), a.candidate.Replica, a.model) {
		a.u.Load(a.candidate.Replica, a.model, a.c.task.endpoint.Vectors)
		a.loading(failed)
	}
}
