package delivery

import (
	"context"
	"errors"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

var errLoading = errors.New("the model is loading")

// load waits until the model is loaded, on a server that loads models when they are asked for. The load is the gateway's own
// and goes on when the client has left, or was answered by another target: else every client that gives up would make the
// server begin again.
func (a *attempt) load() *failure {
	if !a.u.LoadsOnDemand() {
		return nil
	}
	loaded := a.u.Load(a.replica, a.model, a.x.Endpoint.Vectors)
	if loaded == nil {
		return nil
	}
	a.watchdog.await(a.forLoad())
	select {
	case <-loaded:
		a.watchdog.await(a.forContent())
		return nil
	case <-a.ctx.Done():
		failed := a.fail(a.verdict(a.ctx.Err()), errLoading)
		a.judgeLoading(failed)
		return failed
	}
}

// judgeLoading judges an attempt that ended because the model was not loaded in time: no fault of the server's.
func (a *attempt) judgeLoading(failed *failure) {
	if !errors.Is(context.Cause(a.ctx), errSilent) {
		return
	}
	a.blameless = true
	if !a.last {
		failed.Verdict, failed.Loading = router.Unreachable, true
	}
}

// reload looks, after an attempt that met with silence, whether the model was loaded at all: the server may have unloaded it
// for another one since it answered last, and the attempt's end has just made it begin again. Then the load becomes the
// gateway's.
func (a *attempt) reload(failed *failure) {
	if failed == nil || failed.Verdict != router.Timeout || a.blameless || !a.u.LoadsOnDemand() || !errors.Is(context.Cause(a.ctx), errSilent) {
		return
	}
	if a.u.ForgetUnloaded(a.run.ctx, a.replica, a.model) {
		a.u.Load(a.replica, a.model, a.x.Endpoint.Vectors)
		a.judgeLoading(failed)
	}
}
