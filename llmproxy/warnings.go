package llmproxy

import (
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// warn logs what is valid but probably not meant.
func (h *Handler) warn(log *zap.Logger, lines lines) {
	for _, w := range h.warnings(time.Now()) {
		log.Warn(lines.locate(w).Error())
	}
}

func (h *Handler) warnings(now time.Time) []error {
	return slices.Concat(h.warnOfSecrets(), h.warnOfKeys(now), h.warnOfUnused())
}

// warnOfSecrets warns of secrets that are written in the configuration.
func (h *Handler) warnOfSecrets() (list []error) {
	const advice = "which Caddy stores and its admin API shows; write {env.NAME} or {file.PATH} instead"
	for i, u := range h.Upstreams {
		if u.APIKey != "" && !hasPlaceholder(u.APIKey) && !upstream.IsDummyKey(u.APIKey) {
			list = append(list, upstreamPlace(i).in("api_key", 0).errorf("upstream %q: the API key is written in the configuration, %s", u.Name, advice))
		}
	}
	if h.State != nil && state.HasPlainPassword(h.State.URL) {
		list = append(list, place("").in("state", 0).errorf("the password of the shared state is written in the configuration, %s", advice))
	}
	return list
}

// warnOfKeys warns of keys that have expired. They are no errors: Caddy must start also on the day after.
func (h *Handler) warnOfKeys(now time.Time) (list []error) {
	h.eachCaller(func(kind string, i int, e *keys.Entry) {
		if e.Expired(now) {
			list = append(list, place("").in(kind, i).errorf("%s %q has expired (%s) and is refused; remove it, or change expires", kind, e.Name, e.Expires))
		}
	})
	return list
}

// warnOfUnused warns of names and patterns that match nothing, as far as all models are known: unless models are discovered, or
// patterns of models keep the names that clients make up.
func (h *Handler) warnOfUnused() (list []error) {
	if h.Discover || len(h.Models) == 0 {
		return nil
	}
	h.eachCaller(func(kind string, i int, e *keys.Entry) {
		for _, pattern := range e.Models {
			if !h.hasModel(pattern) {
				list = append(list, place("").in(kind, i).in("models", 0).errorf("%s %q: models: %q matches no model; %s", kind, e.Name, pattern, adviceOnModel(pattern, h.Models)))
			}
		}
	})
	for i, u := range h.Upstreams {
		if !h.uses(u.Name) {
			list = append(list, upstreamPlace(i).errorf("upstream %q is not a target of any model; add one, or discover, to serve its models", u.Name))
		}
	}
	targets, all := h.targets()
	if !all {
		return list
	}
	for i, p := range h.Prices {
		if !slices.ContainsFunc(targets, func(target string) bool {
			_, model, _ := strings.Cut(target, "/")
			return router.Match(p.Model, target) || router.Match(p.Model, model)
		}) && !h.comparesWith(p.Model) {
			list = append(list, pricePlace(i).errorf("price %q matches no target; the targets are %s", p.Model, strings.Join(targets, ", ")))
		}
	}
	return list
}

// eachCaller visits the keys and users of the configuration.
func (h *Handler) eachCaller(visit func(kind string, i int, e *keys.Entry)) {
	for i, e := range h.Keys {
		visit("key", i, e)
	}
	for i, e := range h.Users {
		visit("user", i, e)
	}
}

// hasModel reports whether a name or pattern may match a configured model.
func (h *Handler) hasModel(pattern string) bool {
	return slices.ContainsFunc(h.Models, func(m *Model) bool {
		return router.Match(pattern, m.Name) || router.Match(m.Name, pattern) || router.IsPattern(m.Name) && router.IsPattern(pattern)
	})
}

// uses reports whether a model has a target at an upstream.
func (h *Handler) uses(upstream string) bool {
	return slices.ContainsFunc(h.writtenTargets(), func(target string) bool {
		return target == upstream || strings.HasPrefix(target, upstream+"/")
	})
}

// comparesWith reports whether a price line is compared with by another one.
func (h *Handler) comparesWith(model string) bool {
	return slices.ContainsFunc(h.Prices, func(p *Price) bool { return p.InsteadOf != "" && router.Match(model, p.InsteadOf) })
}

// writtenTargets returns the targets of all models as they are written; some are names of models.
func (h *Handler) writtenTargets() (list []string) {
	for _, m := range h.Models {
		list = append(list, m.To...)
		for _, f := range m.Fallbacks {
			list = append(list, f...)
		}
		for _, r := range m.Routes {
			list = append(list, r.To...)
		}
	}
	return list
}

// targets returns the targets of all models, and whether these are all: a pattern may lead to any model.
func (h *Handler) targets() (list []string, all bool) {
	for _, m := range h.Models {
		if router.IsPattern(m.Name) {
			return nil, false
		}
	}
	for _, target := range h.writtenTargets() {
		switch {
		case strings.Contains(target, "/"):
			list = append(list, target)
		case slices.ContainsFunc(h.Upstreams, func(u *Upstream) bool { return u.Name == target }):
			for _, m := range h.Models {
				list = append(list, target+"/"+m.Name)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list), true
}
