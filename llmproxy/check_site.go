package llmproxy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/check"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// commands returns the commands to register with Caddy.
func commands() []caddycmd.Command { return admin.Commands(inspect) }

// inspect returns what the JSON of a handler says, for llm-check. It builds the upstreams as Provision does, and nothing else: no request is
// served, nothing is written, and no model is kept loaded.
func inspect(ctx caddy.Context, closer *state.Closer, handler json.RawMessage) (*check.Site, error) {
	h := new(Handler)
	if err := caddy.StrictUnmarshalJSON(handler, h); err != nil {
		return nil, err
	}
	lines := adaptedLines.recall(h)
	if err := h.validate(); err != nil {
		return nil, lines.locate(err)
	}
	lineOf := func(p place) string { return strings.TrimPrefix(lines.of(p), ", at ") }
	s := &check.Site{
		Line: lineOf(""), Optional: len(h.Upstreams) == 0 && len(h.Models) == 0, Discover: h.Discover || len(h.Models) == 0, LocalOnly: h.LocalOnly,
		Keys: h.RequireKey || h.KeysFile != "" || len(h.Keys)+len(h.Users) > 0, RateLimit: len(h.RateLimit) > 0, LogPrompts: h.LogPrompts > 0, Health: h.Health,
		Deadline: time.Duration(h.Deadline),
	}
	for _, w := range h.warnings(time.Now()) {
		s.Warnings = append(s.Warnings, check.Remark{Text: w.Error(), Line: lineOf(placeOf(w))})
	}
	configs := h.Upstreams
	if s.Optional {
		configs = usualUpstreams()
	}
	for i, u := range configs { // before Caddy takes away the JSON of what it loads
		checked := &check.Upstream{SendsKey: u.sendsKey(), Line: lineOf(upstreamPlace(i))}
		if err := u.describeTransport(checked); err != nil {
			return nil, err
		}
		s.Upstreams = append(s.Upstreams, checked)
	}
	upstreams, err := provisionUpstreams(ctx, closer, configs, s.Optional)
	if err != nil {
		return nil, lines.locate(err)
	}
	for i, u := range upstreams {
		s.Upstreams[i].Upstream = u
	}
	s.Models, err = h.checkedModels(upstreams, lineOf)
	return s, err
}

// checkedModels returns the names that clients use, with their plans. The matchers of routes are left out: any request might match.
func (h *Handler) checkedModels(upstreams []*upstream.Upstream, lineOf func(place) string) (list []check.Model, err error) {
	var routes []*router.Upstream
	for _, u := range upstreams {
		routes = append(routes, u.Route)
	}
	table, err := compileModels(routes, h.Models, func(_, _ int, r *Route) (router.Matcher, error) {
		if len(r.MatcherSetsRaw) == 0 {
			return nil, nil
		}
		return struct{}{}, nil
	})
	if err != nil {
		return nil, err
	}
	table.Each(func(name string, plan *router.Plan) {
		i := slices.IndexFunc(h.Models, func(m *Model) bool { return m.Name == name })
		list = append(list, check.Model{Name: name, Line: lineOf(modelPlace(i)), Plan: plan})
	})
	return list, nil
}

// describeTransport adds the timeouts of a configured transport.
func (u *Upstream) describeTransport(to *check.Upstream) error {
	if u.TransportRaw == nil {
		return nil
	}
	var transport struct {
		ResponseHeaderTimeout caddy.Duration `json:"response_header_timeout"`
		ReadTimeout           caddy.Duration `json:"read_timeout"`
	}
	if err := json.Unmarshal(u.TransportRaw, &transport); err != nil {
		return fmt.Errorf("upstream %q: transport: %w", u.Name, err)
	}
	to.ResponseHeaderTimeout, to.ReadTimeout = time.Duration(transport.ResponseHeaderTimeout), time.Duration(transport.ReadTimeout)
	return nil
}
