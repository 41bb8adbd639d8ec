package llmproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// firstLook is how long after Provision the upstreams are first asked what they have: a configuration that is only
// validated, or that fails to load, dials nobody.
const firstLook = 250 * time.Millisecond

// Provision implements caddy.Provisioner.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.ctx, h.logger = ctx, ctx.Logger()
	if err := exposeMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("preparing events: %w", err)
	}
	h.events = events.(*caddyevents.App)
	upstreams, auto, err := h.upstreams()
	if err != nil {
		return err
	}
	if err := h.loadRules(); err != nil {
		return err
	}
	table, err := compile(upstreams, h.Models, h.rules)
	if err != nil {
		return err
	}
	book, err := h.priceBook()
	if err != nil {
		return err
	}
	cache, err := h.cache()
	if err != nil {
		return err
	}
	client, err := h.redis()
	if err != nil {
		return err
	}
	h.used = h.usage(client)
	access, err := h.access()
	if err != nil {
		return err
	}
	draining, drain := context.WithCancel(context.Background())
	h.drain = drain
	config := gateway.Config{
		Upstreams: upstreams, Models: table, Discover: h.Discover || len(h.Models) == 0, Auto: auto,
		Access: access, Cache: cache, Prices: book, MaxBody: h.MaxBody, Deadline: time.Duration(h.Deadline), Draining: draining, Observe: h.observe,
		Streaming: streaming, Account: h.account, Trace: h.trace, LogPrompts: h.LogPrompts, Changed: h.changed,
	}
	h.ruled(&config)
	h.gateway = gateway.New(config)
	h.meters, h.troubles = newMeters(table), newTroubles()
	h.show(upstreams)
	h.closers = append(h.closers, h.gateway.Close)
	h.drainOnExit()
	h.lookSoon(upstreams)
	return nil
}

// upstreams makes the configured upstreams, or, without any, what is found on this machine.
func (h *Handler) upstreams() (list []*upstream.Upstream, auto bool, err error) {
	if len(h.Upstreams) == 0 && len(h.Models) == 0 {
		list, err = h.usual()
		return list, true, err
	}
	var errs []error
	for _, u := range h.Upstreams {
		made, err := h.upstream(u, false)
		if err != nil {
			errs = append(errs, fmt.Errorf("upstream %q: %w", u.Name, err))
			continue
		}
		list = append(list, made)
	}
	return list, false, errors.Join(errs...)
}

// usual are the upstreams of a handler that nobody configured, the one to prefer first.
func (h *Handler) usual() (list []*upstream.Upstream, err error) {
	configs := []*Upstream{}
	for _, k := range []*upstream.Kind{upstream.Ollama, upstream.VLLM, upstream.LlamaCpp} {
		configs = append(configs, &Upstream{Name: k.Name, Kind: k.Name, Addresses: []string{k.LocalAddress}})
	}
	if os.Getenv("OPENAI_API_KEY") != "" {
		configs = append(configs, &Upstream{Name: "openai", Kind: "openai", APIKey: "{env.OPENAI_API_KEY}"})
	}
	configs = append(configs, &Upstream{Name: "echo", Kind: "echo"})
	for _, u := range configs {
		made, err := h.upstream(u, len(u.Addresses) > 0)
		if err != nil {
			return nil, fmt.Errorf("upstream %q: %w", u.Name, err)
		}
		list = append(list, made)
	}
	return list, nil
}

func (h *Handler) upstream(u *Upstream, optional bool) (*upstream.Upstream, error) {
	if u.Name == "" || strings.ContainsAny(u.Name, "/* \t\n") {
		return nil, errors.New("a name without slash, asterisk and white space is needed")
	}
	name := u.Kind
	if name == "" {
		name = upstream.Auto.Name
	}
	kind, err := upstream.KindNamed(name)
	if err != nil {
		return nil, err
	}
	bases, err := basesOf(u, kind)
	if err != nil {
		return nil, err
	}
	key, err := apiKey(u)
	if err != nil {
		return nil, err
	}
	transport, err := h.transport(u, bases)
	if err != nil {
		return nil, err
	}
	headerUp, err := h.headerUp(u)
	if err != nil {
		return nil, err
	}
	stands, err := fingerprint(u)
	if err != nil {
		return nil, err
	}
	can, modelCan, err := u.said()
	if err != nil {
		return nil, err
	}
	return upstream.New(upstream.Config{
		Name: u.Name, Fingerprint: stands, Kind: kind, Optional: optional, Bases: bases, APIKey: key, HeaderUp: headerUp, Params: params(u.Params), Drop: u.Drop,
		Timers:        upstream.Timers{FirstToken: time.Duration(u.FirstTokenTimeout), Idle: time.Duration(u.IdleTimeout), Total: time.Duration(u.Timeout), Load: time.Duration(u.LoadTimeout)},
		MaxConcurrent: u.MaxConcurrent, Room: u.room(), Local: u.Local, Can: can, ModelCan: modelCan,
		Transport: transport,
	}, h.replica), nil
}

func basesOf(u *Upstream, kind *upstream.Kind) (bases []*url.URL, err error) {
	addresses := u.Addresses
	if len(addresses) == 0 && kind.Service != "" {
		addresses = []string{kind.Service}
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("no address: write where it is reached, such as `upstream %s %s http://127.0.0.1:8000`", u.Name, kind.Name)
	}
	for _, a := range addresses {
		base, err := upstream.ParseAddress(a)
		if err != nil {
			return nil, err
		}
		bases = append(bases, base)
	}
	return bases, nil
}

// apiKey replaces placeholders. An empty key would be told by the upstream only, and long after the load.
func apiKey(u *Upstream) (string, error) {
	if u.APIKey == "" {
		return "", nil
	}
	key := strings.TrimSpace(caddy.NewReplacer().ReplaceKnown(u.APIKey, ""))
	if key == "" {
		return "", errors.New("api_key is empty: set what its placeholder stands for, or leave the line out")
	}
	if strings.ContainsAny(key, "\r\n") {
		return "", errors.New("api_key holds a line break")
	}
	return key, nil
}

// headerUp makes the change of headers; nil for none.
func (h *Handler) headerUp(u *Upstream) (func(*http.Request), error) {
	if u.Headers == nil {
		return nil, nil
	}
	if err := u.Headers.Provision(h.ctx); err != nil {
		return nil, fmt.Errorf("header_up: %w", err)
	}
	return func(r *http.Request) {
		if r.Context().Value(caddy.ReplacerCtxKey) == nil { // a probe
			u.Headers.ApplyTo(r.Header, caddy.NewReplacer())
			return
		}
		u.Headers.ApplyToRequest(r)
	}, nil
}

// params are put into an order that is the same every time.
func params(configured map[string]json.RawMessage) (list []upstream.Param) {
	for _, name := range slices.Sorted(maps.Keys(configured)) {
		list = append(list, upstream.Param{Name: name, Value: configured[name]})
	}
	return list
}

func compile(upstreams []*upstream.Upstream, models []*Model, matchers []caddyhttp.MatcherSets) (*router.Table, error) {
	var routes []*router.Upstream
	for _, u := range upstreams {
		routes = append(routes, u.Route)
	}
	var list []router.Model
	rules := 0
	for _, m := range models {
		policy, err := m.policy()
		if err != nil {
			return nil, err
		}
		list = append(list, router.Model{Name: m.Name, Routes: m.routes(matchers, rules), Pools: m.pools(policy), LocalOnly: m.LocalOnly})
		rules += len(m.Routes)
	}
	return router.Compile(routes, list)
}

// pools are the model's own targets; none where its routes are all there is.
func (m *Model) pools(policy router.Policy) []router.PoolConfig {
	if len(m.To) == 0 && len(m.Fallbacks) == 0 && len(m.Routes) > 0 {
		return nil
	}
	pools := []router.PoolConfig{{Targets: m.To, Weights: m.Weights, Policy: policy}}
	for _, f := range m.Fallbacks {
		pools = append(pools, router.PoolConfig{Targets: f, Policy: router.LeastBusy})
	}
	return pools
}

func (m *Model) policy() (router.Policy, error) {
	policy, err := router.ParsePolicy(m.LBPolicy)
	switch {
	case err != nil:
		return "", fmt.Errorf("model %q: %w", m.Name, err)
	case len(m.Weights) == 0:
		return policy, nil
	case m.LBPolicy != "" && policy != router.Weighted:
		return "", fmt.Errorf("model %q: weights need lb_policy weighted, not %s", m.Name, policy)
	}
	return router.Weighted, nil
}

// lookSoon asks the upstreams whose kind, slots or models matter, in the background, so that the first client does not wait for it.
func (h *Handler) lookSoon(upstreams []*upstream.Upstream) {
	timer := time.AfterFunc(firstLook, func() {
		h.gateway.WatchAll()
		for _, u := range upstreams {
			if u.Kind == upstream.Auto || u.Kind == upstream.LlamaCpp || h.Discover || len(h.Models) == 0 {
				go u.View(context.Background())
			}
			u.Inquire()
		}
	})
	h.closers = append(h.closers, func() { timer.Stop() })
}

// Cleanup implements caddy.CleanerUpper. It is called after a Provision that failed, too, and while requests of this handler
// are still under way: those go on with what they hold.
func (h *Handler) Cleanup() error {
	for _, f := range h.closers {
		f()
	}
	h.closers = nil
	shown.Delete(h)
	h.release()
	h.letGo()
	return nil
}
