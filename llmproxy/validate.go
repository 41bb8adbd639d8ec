package llmproxy

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// maxLoggedPrompt is the maximum number of characters of log_prompts.
const maxLoggedPrompt = 10000

// validate reports the mistakes that can be found without the environment: its variables, files and servers. A Caddyfile is checked
// when it is adapted, so that most errors appear there, with their lines. Provision finds the others.
func (h *Handler) validate() error {
	if err := h.validateNull(); err != nil { // the other checks need what is null
		return err
	}
	return errors.Join(h.validateOptions(), h.validateUpstreams(), h.validateModels(), h.validateKeys(), h.validatePrices(), h.State.validate(), h.validateCache(), h.validateSimpleChat())
}

// validateNull reports nulls, which only a configuration in JSON can have.
func (h *Handler) validateNull() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, u := range h.Upstreams {
		if u == nil {
			fail("upstream %d is null", i)
			continue
		}
		for model, capabilities := range u.ModelLimits {
			if capabilities == nil {
				fail("upstream %q: model_limits of %q is null", u.Name, model)
			}
		}
	}
	for i, m := range h.Models {
		if m == nil {
			fail("model %d is null", i)
		} else if slices.Contains(m.Routes, nil) {
			fail("model %q: a route is null", m.Name)
		}
	}
	if slices.Contains(h.Keys, nil) || slices.Contains(h.Users, nil) {
		fail("a key or user is null")
	}
	if slices.Contains(h.Prices, nil) {
		fail("a price is null")
	}
	return errors.Join(errs...)
}

// validateOptions checks what is not in a block.
func (h *Handler) validateOptions() error {
	var errs []error
	fail := func(name, format string, args ...any) {
		errs = append(errs, place("").in(name, 0).errorf(format, args...))
	}
	if h.MaxBody < 0 {
		fail("max_body", "max_body %d is negative", h.MaxBody)
	}
	if h.MaxMemory != 0 && h.MaxMemory < minMemory {
		fail("max_memory", "max_memory of %d bytes is too small; use at least 1MiB, such as 512MiB", h.MaxMemory)
	}
	if h.Deadline < 0 {
		fail("deadline", "deadline is negative")
	}
	if h.LogPrompts < 0 || h.LogPrompts > maxLoggedPrompt {
		fail("log_prompts", "log_prompts %d is out of range; use a number of characters from 0 to %d", h.LogPrompts, maxLoggedPrompt)
	}
	if err := validateHealth(h.Health); err != nil {
		fail("health", "%w", err)
	}
	if _, err := parseAnonymousLimits(h.RateLimit); err != nil {
		fail("rate_limit", "%w", err)
	}
	if h.Limit != nil {
		if _, err := h.Limit.For(""); err != nil {
			fail("limit", "limit: %w", err)
		}
	}
	return errors.Join(errs...)
}

func validateHealth(path string) error {
	if path != "" && !strings.HasPrefix(path, "/") {
		return fmt.Errorf("health: invalid path %q; use a path such as /health", path)
	}
	if _, taken := gateway.TaskOf(path); taken {
		return fmt.Errorf("health: %s is a path of the API; use another one, such as /health", path)
	}
	return nil
}

func (h *Handler) validateUpstreams() error {
	var errs []error
	for i, u := range h.Upstreams {
		if err := u.validate(upstreamPlace(i)); err != nil {
			errs = append(errs, upstreamPlace(i).errorf("upstream %q: %w", u.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (u *Upstream) validate(here place) error {
	if u.Name == "" || strings.ContainsAny(u.Name, "/* \t\n") {
		return errors.New("invalid name; use one without slashes, asterisks and white space")
	}
	for name, d := range map[string]caddy.Duration{
		"dial_timeout": u.DialTimeout, "first_token_timeout": u.FirstTokenTimeout, "idle_timeout": u.IdleTimeout,
		"timeout": u.Timeout, "answer_timeout": u.AnswerTimeout, "load_timeout": u.LoadTimeout,
	} {
		if d < 0 {
			return here.in(name, 0).errorf("%s is negative", name)
		}
	}
	switch {
	case u.MaxConcurrent < 0 || u.MaxConcurrent > math.MaxInt32:
		return fmt.Errorf("max_concurrent %d is out of range", u.MaxConcurrent)
	case u.Queue != nil && u.Queue.Places < 0:
		return fmt.Errorf("queue: places %d is negative", u.Queue.Places)
	case u.Queue != nil && u.Queue.LongestWait < 0:
		return errors.New("queue: longest_wait is negative")
	case u.QueuePerKey < 0:
		return here.in("queue_per_key", 0).errorf("queue_per_key %d is negative", u.QueuePerKey)
	case u.TransportRaw != nil && u.DialTimeout != 0:
		return here.in("dial_timeout", 0).errorf("dial_timeout has no effect with a transport; set it in the block of the transport")
	}
	if err := u.checkAddresses(); err != nil {
		return err
	}
	if err := u.validateOllama(here); err != nil {
		return err
	}
	if err := checkSecret("api_key", u.APIKey); err != nil {
		return at(here.in("api_key", 0), err)
	}
	if _, err := u.Capabilities.override(); err != nil {
		return at(here.in("cannot", 0), err)
	}
	for model, capabilities := range u.ModelLimits {
		if _, err := capabilities.override(); err != nil {
			return fmt.Errorf("model_limits of %s: %w", model, err)
		}
	}
	return nil
}

var optionName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// validateOllama checks what only an Ollama server has.
func (u *Upstream) validateOllama(here place) error {
	kind, err := u.kind()
	switch {
	case err != nil:
		return err
	case u.API != "" && u.API != nativeAPI && u.API != openAIAPI:
		return at(here.in("api", 0), fmt.Errorf("unknown api %q; use %s or %s", u.API, nativeAPI, openAIAPI))
	case u.API != "" && kind != upstream.Ollama && kind != upstream.Auto:
		return at(here.in("api", 0), fmt.Errorf("api is for kind ollama; kind %s has one API only", kind.Name))
	case len(u.AllowOptions) > 0 && len(kind.Restricted()) > 0:
		return u.validateRestricted(kind.Restricted(), here)
	case len(u.AllowOptions) > 0 && kind != upstream.Ollama && kind != upstream.Auto:
		return at(here.in("allow_options", 0), fmt.Errorf("allow_options is for kinds ollama and openrouter; kind %s gets all members that clients send", kind.Name))
	case len(u.AllowOptions) > 0 && u.API == openAIAPI:
		return at(here.in("allow_options", 0), errors.New("allow_options needs api native; Ollama's OpenAI API takes no options"))
	}
	for _, name := range u.AllowOptions {
		near := nearest(name, dialect.OllamaRestricted)
		switch {
		case !optionName.MatchString(name):
			return at(here.in("allow_options", 0), fmt.Errorf("allow_options: %q is not the name of an option, such as num_ctx", name))
		case near != "" && near != name:
			return at(here.in("allow_options", 0), fmt.Errorf("allow_options: unknown option %q; did you mean %s?", name, near))
		}
	}
	return nil
}

// validateRestricted checks the members that clients of a service may use.
func (u *Upstream) validateRestricted(restricted []string, here place) error {
	for _, name := range u.AllowOptions {
		if !slices.Contains(restricted, name) {
			return at(here.in("allow_options", 0), fmt.Errorf("allow_options: %q is not restricted; use one of %s", name, strings.Join(restricted, ", ")))
		}
	}
	return nil
}

// validateModels compiles the models for upstreams that are known by their names only.
func (h *Handler) validateModels() error {
	var errs []error
	for i, m := range h.Models {
		if err := m.validate(); err != nil {
			errs = append(errs, modelPlace(i).errorf("model %q: %w", m.Name, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	var upstreams []*router.Upstream
	for _, u := range h.Upstreams {
		upstreams = append(upstreams, &router.Upstream{Name: u.Name})
	}
	_, err := compileModels(upstreams, h.Models, func(_, _ int, r *Route) (router.Matcher, error) {
		if len(r.MatcherSetsRaw) == 0 {
			return nil, nil
		}
		return struct{}{}, nil // any matcher will do
	})
	return err
}

func (m *Model) validate() error {
	if m.Name == "" {
		return errors.New("missing name")
	}
	for _, f := range m.Fallbacks {
		if len(f) == 0 {
			return errors.New("a fallback has no target")
		}
	}
	if _, err := m.Limit.For(""); err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	return m.validateSpill()
}

func (m *Model) validateSpill() error {
	switch {
	case m.Spill < 0:
		return errors.New("spill is negative")
	case m.Spill > 0 && len(m.Fallbacks) == 0:
		return errors.New("spill needs a pool to go on to; add `fallback upstream/model`")
	case m.Spill == 0 && len(m.SpillBudget) > 0:
		return errors.New("spill_budget has no effect without spill; add one such as `spill 5s`")
	}
	_, err := m.spillLimits()
	return err
}

// spillLimits returns the limits of what requests cost that go on to the next pool because of load.
func (m *Model) spillLimits() ([]*ratelimit.Limit, error) {
	limits := keys.Limits{Budget: m.SpillBudget}
	list, err := limits.For("spill/" + m.Name)
	if err != nil {
		return nil, fmt.Errorf("spill_budget: %w", err)
	}
	return list, nil
}

// validateKeys checks keys and users. The secrets of placeholders are not known yet, and are taken to be different.
func (h *Handler) validateKeys() error {
	var errs []error
	entries := make([]*keys.Entry, len(h.Keys))
	for i, e := range h.Keys {
		if err := checkSecret("secret", e.Secret); err != nil {
			errs = append(errs, &keys.EntryError{Err: fmt.Errorf("key %.80q: %w", e.Name, err), Index: i})
		}
		entry := *e
		if !keys.IsDigest(e.Secret) {
			entry.Secret = keys.Digest(fmt.Sprint("the secret of number ", i))
		}
		entries[i] = &entry
	}
	_, err := keys.Compile(entries, h.Users)
	return placeKeys(errors.Join(append(errs, err)...), len(h.Keys))
}

func (h *Handler) validatePrices() error {
	var lines []prices.Line
	for i, p := range h.Prices {
		line, err := p.line()
		if err != nil {
			return at(pricePlace(i), err)
		}
		if h.PricesFile != "" {
			line.InsteadOf = "" // its price may be in the file
		}
		lines = append(lines, line)
	}
	_, err := prices.New(lines, prices.Builtin())
	return placePrices(err)
}

func (s *State) validate() error {
	if s == nil {
		return nil
	}
	where := place("").in("state", 0)
	switch {
	case !slices.Contains([]string{"", onErrorAllow, onErrorDeny}, s.OnError):
		return where.errorf("state: unknown on_error %q; use allow or deny", s.OnError)
	case s.URL == "" && s.OnError != "":
		return place("").in("on_state_error", 0).errorf("on_state_error has no effect without a shared state; add state redis://HOST:6379, or remove the line")
	case s.URL == "":
		return where.errorf("state: missing address; use one such as redis://10.0.0.3:6379")
	case hasPlaceholder(s.URL):
		return nil
	}
	return at(where, state.CheckAddress(s.URL, s.TLS != nil))
}

func (h *Handler) validateCache() error {
	if h.Cache == nil {
		return nil
	}
	err := h.Cache.validate()
	if err == nil && h.Cache.Store == inRedis && h.State == nil {
		err = errors.New("store redis needs a shared state; add state redis://…")
	}
	if err != nil {
		return place("").in("cache", 0).errorf("cache: %w", err)
	}
	return nil
}

func (h *Handler) validateSimpleChat() error {
	if h.SimpleChat == nil {
		return nil
	}
	if _, err := h.SimpleChat.choose(h.Models, h.Discover); err != nil {
		return at(place("").in("simple_chat", 0), err)
	}
	if _, taken := gateway.SimpleChatEndpoint(h.Health); taken {
		return place("").in("health", 0).errorf("health: %s is a path of simple_chat; use another one, such as /health", h.Health)
	}
	return nil
}
