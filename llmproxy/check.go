package llmproxy

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
)

// check reports errors that only a configuration in JSON can have: values out of range, and null.
func (h *Handler) check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if h.MaxBody < 0 {
		fail("max_body %d is negative", h.MaxBody)
	}
	if h.MaxMemory != 0 && h.MaxMemory < minMemory {
		fail("max_memory of %d bytes is too small; use at least 1MiB, such as 512MiB", h.MaxMemory)
	}
	if h.Deadline < 0 {
		fail("deadline is negative")
	}
	if h.LogPrompts < 0 || h.LogPrompts > maxLoggedPrompt {
		fail("log_prompts %d is out of range; use a number of characters from 0 to %d", h.LogPrompts, maxLoggedPrompt)
	}
	if err := checkHealth(h.Health); err != nil {
		errs = append(errs, err)
	}
	for i, u := range h.Upstreams {
		if u == nil {
			fail("upstream %d is null", i)
		} else if err := u.check(); err != nil {
			fail("upstream %q: %w", u.Name, err)
		}
	}
	for i, m := range h.Models {
		if m == nil {
			fail("model %d is null", i)
		} else if err := m.check(); err != nil {
			fail("model %q: %w", m.Name, err)
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

func checkHealth(path string) error {
	if path != "" && !strings.HasPrefix(path, "/") {
		return fmt.Errorf("health: invalid path %q; use a path such as /health", path)
	}
	if _, taken := gateway.Match(path); taken {
		return fmt.Errorf("health: %s is a path of the API; use another one, such as /health", path)
	}
	return nil
}

func (u *Upstream) check() error {
	for name, d := range map[string]caddy.Duration{
		"dial_timeout": u.DialTimeout, "first_token_timeout": u.FirstTokenTimeout, "idle_timeout": u.IdleTimeout,
		"timeout": u.Timeout, "load_timeout": u.LoadTimeout,
	} {
		if d < 0 {
			return fmt.Errorf("%s is negative", name)
		}
	}
	for model, capabilities := range u.ModelLimits {
		if capabilities == nil {
			return fmt.Errorf("model_limits of %q is null", model)
		}
	}
	switch {
	case u.MaxConcurrent < 0 || u.MaxConcurrent > math.MaxInt32:
		return fmt.Errorf("max_concurrent %d is out of range", u.MaxConcurrent)
	case u.Queue != nil && u.Queue.Places < 0:
		return fmt.Errorf("queue: places %d is negative", u.Queue.Places)
	case u.Queue != nil && u.Queue.LongestWait < 0:
		return errors.New("queue: longest_wait is negative")
	case u.TransportRaw != nil && u.DialTimeout != 0:
		return errors.New("dial_timeout has no effect with a transport; set it in the block of the transport")
	}
	return nil
}

func (m *Model) check() error {
	if m.Name == "" {
		return errors.New("missing name")
	}
	for _, r := range m.Routes {
		if r == nil {
			return errors.New("a route is null")
		}
	}
	for _, f := range m.Fallbacks {
		if len(f) == 0 {
			return errors.New("a fallback has no target")
		}
	}
	return nil
}
