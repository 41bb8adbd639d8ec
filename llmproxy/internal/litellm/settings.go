package litellm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Settings are what the sections other than model_list say about routing.
type settings struct {
	router, litellm, general *section
	credentials              map[string]*section // by name
	timeouts                 timeouts            // of deployments without their own
	maxParallel              int
	strategy                 string
	enforced                 bool // rpm and tpm are limits, not only weights
	aliases                  [][2]string
	fallbacks, longContext   []fallback
	defaultFallbacks         []string
}

// timeouts are those of LiteLLM; zero if they are not set.
type timeouts struct{ whole, stream, first, idle time.Duration }

// or returns the timeouts, with those that are not set taken from others.
func (t timeouts) or(other timeouts) timeouts {
	return timeouts{cmp.Or(t.whole, other.whole), cmp.Or(t.stream, other.stream), cmp.Or(t.first, other.first), cmp.Or(t.idle, other.idle)}
}

// A fallback is the names that are tried after one.
type fallback struct {
	name string
	to   []string
}

func newSettings(c *converter, config *section) *settings {
	s := &settings{
		router:  config.inner("router_settings", "router_settings"),
		litellm: config.inner("litellm_settings", "litellm_settings"),
		general: config.inner("general_settings", "general_settings"),
	}
	s.readCredentials(c, config)
	s.readTimeouts()
	s.readStrategy(c)
	s.fallbacks = s.readFallbacks(c, "fallbacks")
	s.longContext = s.readFallbacks(c, "context_window_fallbacks")
	s.defaultFallbacks = s.either(c, "default_fallbacks").texts("default_fallbacks")
	s.readAliases(c)
	return s
}

// either returns the section that has a key: router_settings, or else litellm_settings. If both have it, the former counts.
func (s *settings) either(c *converter, key string) *section {
	if !s.router.has(key) {
		return s.litellm
	}
	if s.litellm.has(key) {
		c.note(s.litellm, key, Ignored, "router_settings has the same key, which counts")
	}
	return s.router
}

func (s *settings) readCredentials(c *converter, config *section) {
	s.credentials = map[string]*section{}
	v := config.take("credential_list")
	if v == nil {
		return
	}
	if v.kind != list {
		config.wrongType("credential_list", "a list")
		return
	}
	for i, item := range v.list {
		entry := c.section(item, fmt.Sprintf("credential_list[%d]", i), "credential")
		values := entry.inner("credential_values", "litellm_params")
		if name := entry.text("credential_name"); name != "" {
			s.credentials[name] = values
		}
	}
}

func (s *settings) readTimeouts() {
	defaults := s.router.inner("default_litellm_params", "litellm_params")
	s.timeouts = timeouts{
		whole:  s.router.seconds("timeout"),
		stream: s.router.seconds("stream_timeout"),
		first:  s.router.seconds("ttft_timeout"),
		idle:   s.router.seconds("stream_idle_timeout"),
	}
	own := timeouts{whole: defaults.seconds("timeout"), stream: defaults.seconds("stream_timeout")}
	s.timeouts = own.or(s.timeouts).or(timeouts{whole: s.litellm.seconds("request_timeout")})
	for _, n := range []int{defaults.count("max_parallel_requests"), s.router.count("default_max_parallel_requests"), s.general.count("max_parallel_requests")} {
		if s.maxParallel == 0 {
			s.maxParallel = n
		}
	}
}

func (s *settings) readStrategy(c *converter) {
	s.strategy = s.router.text("routing_strategy")
	switch s.strategy {
	case "", "simple-shuffle", "least-busy":
	case "cost-based-routing":
		c.note(s.router, "routing_strategy", Changed, "the cheapest target is tried first, by the prices in this file; without them, the first one that is written")
	case "latency-based-routing":
		c.note(s.router, "routing_strategy", Changed, "the replica with the fewest open requests is chosen, which is the faster one under load; latencies are not compared")
	case "usage-based-routing", "usage-based-routing-v2":
		s.enforced = true
		c.note(s.router, "routing_strategy", Changed, "the replica with the fewest open requests is chosen; `rpm` and `tpm` limit the model as a whole")
	default:
		c.note(s.router, "routing_strategy", Ignored, "llm_proxy has no such policy; the replica with the fewest open requests is chosen")
	}
	s.router.flag("enable_pre_call_checks") // always on
	for _, check := range s.router.texts("optional_pre_call_checks") {
		if check == "enforce_model_rate_limits" {
			s.enforced = true
			continue
		}
		c.note(s.router, "optional_pre_call_checks", Changed, "only enforce_model_rate_limits has a counterpart, `limit`; %s", affinity)
	}
}

// readFallbacks reads a list of objects that each name a model and what is tried after it.
func (s *settings) readFallbacks(c *converter, key string) (all []fallback) {
	from := s.either(c, key)
	v := from.take(key)
	if v == nil {
		return nil
	}
	entries := v.list
	if v.kind == object {
		entries = []*value{v}
	}
	for _, entry := range entries {
		if entry.kind != object {
			from.wrongType(key, "a list of models and their fallbacks")
			continue
		}
		for _, f := range entry.fields {
			one := fallback{name: f.key}
			names := f.value.list
			if f.value.kind == text {
				names = []*value{f.value}
			}
			for _, n := range names {
				switch {
				case n.kind == text || n.kind == number:
					one.to = append(one.to, n.text)
				case n.find("model") != nil && n.find("model").value.kind == text:
					one.to = append(one.to, n.find("model").value.text)
					c.note(from, key, Changed, "a fallback is a model here, without messages or parameters of its own")
				default:
					from.wrongType(key, "a list of models and their fallbacks")
				}
			}
			all = append(all, one)
		}
	}
	return all
}

func (s *settings) readAliases(c *converter) {
	add := func(from *section, key string) {
		v := from.take(key)
		if v == nil {
			return
		}
		if v.kind != object {
			from.wrongType(key, "a list of aliases and models")
			return
		}
		for _, f := range v.fields {
			switch f.value.kind {
			case text:
				s.aliases = append(s.aliases, [2]string{f.key, f.value.text})
			case object:
				alias := c.section(f.value, from.pathOf(key)+"."+f.key, "alias")
				if alias.find("hidden") != nil && !alias.flag("hidden") {
					alias.find("hidden").noted = true // it is as here
				}
				s.aliases = append(s.aliases, [2]string{f.key, alias.text("model")})
			default:
				from.wrongType(key, "a list of aliases and models")
			}
		}
	}
	add(s.router, "model_group_alias")
	add(s.litellm, "model_alias_map")
}

// fallbacksOf returns the names that are tried after a model, as LiteLLM finds them: by its name, by its name without the service, by "*", or
// those of all models.
func (s *settings) fallbacksOf(name string) []string {
	find := func(match func(fallback) bool) ([]string, bool) {
		i := slices.IndexFunc(s.fallbacks, match)
		if i < 0 {
			return nil, false
		}
		return s.fallbacks[i].to, true
	}
	if to, ok := find(func(f fallback) bool { return f.name == name }); ok {
		return to
	}
	if _, short, ok := strings.Cut(name, "/"); ok {
		if to, ok := find(func(f fallback) bool { return f.name == short }); ok {
			return to
		}
	}
	if to, ok := find(func(f fallback) bool { return f.name == "*" }); ok {
		return to
	}
	return s.defaultFallbacks
}

// longContextOf returns the names that LiteLLM tries after a model if a prompt is too long for it.
func (s *settings) longContextOf(name string) []string {
	for _, f := range s.longContext {
		if f.name == name || f.name == "*" {
			return f.to
		}
	}
	return nil
}
