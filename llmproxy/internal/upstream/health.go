package upstream

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// probeTimeout bounds one question of a probe. A server that accepts connections and says nothing for so long is loading, if
// it is one that does so, or hangs.
const probeTimeout = 500 * time.Millisecond

// Probes tells whether the upstream's replicas can be asked how they fare without generating. Services are judged by traffic
// alone.
func (u *Upstream) Probes() bool { return u.Speaks().health != nil }

// Probe asks a replica how it fares: Up, Loading or Down. It never generates.
func (u *Upstream) Probe(ctx context.Context, r *router.Replica) router.State {
	ctx, cancel := context.WithTimeout(ctx, 2*probeTimeout)
	defer cancel()
	p := &prober{ctx: ctx, u: u, base: u.base(r)}
	state := u.Speaks().health(p)
	if state == router.Up {
		p.slots()
	}
	return state
}

// within asks with a time limit of its own.
func (p *prober) within(limit time.Duration, path string) (status int, body []byte) {
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	one := &prober{ctx: ctx, u: p.u, base: p.base}
	status, body = one.get(path)
	p.last = one.last
	return status, body
}

// healthOfOllama asks for its version, which it always tells, and for what is loaded, which hangs while a model loads.
func healthOfOllama(p *prober) router.State {
	if status, _ := p.within(probeTimeout, "/api/version"); status != http.StatusOK {
		return router.Down
	}
	if status, _ := p.within(probeTimeout, "/api/ps"); status == 0 {
		return router.Loading
	}
	return router.Up
}

// healthOfVLLM asks /health, which only a dead engine denies; while it loads, vLLM does not listen.
func healthOfVLLM(p *prober) router.State {
	if status, _ := p.within(probeTimeout, "/health"); status == http.StatusOK {
		return router.Up
	}
	return router.Down
}

// healthOfLlamaCpp asks /health and never /slots: a server that is asked for those more often than every two seconds does not
// notice clients that left.
func healthOfLlamaCpp(p *prober) router.State {
	status, body := p.within(probeTimeout, "/health")
	switch {
	case status == http.StatusOK:
		return router.Up
	case status == http.StatusServiceUnavailable && strings.Contains(string(body), "Loading model"):
		return router.Loading
	}
	return router.Down
}
