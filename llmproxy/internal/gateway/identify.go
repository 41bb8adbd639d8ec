package gateway

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// Access is who may call, and how much.
type Access struct {
	// Keys gives the keys and users that may call, as they are now, and tells whether these are all: while those of a shared
	// state were never read, a secret that is not known may yet be good. Nil if anybody may call.
	Keys func() (set *keys.Set, all bool)
	// User gives the name of the user that another handler has made sure of; empty for none.
	User func(*http.Request) string
	// Address gives the client's address, the one behind proxies that are trusted.
	Address func(*http.Request) netip.Addr
	// Limiter keeps account of the limits.
	Limiter Limiter
	// Site are the limits of all requests together.
	Site []*ratelimit.Limit
	// Models are the limits of models, by the name or pattern of the configuration.
	Models map[string][]*ratelimit.Limit
	// Strangers are the rules for each address of callers without a key.
	Strangers []ratelimit.Rule
	// Crossed hears of a budget of which 80 or 100 percent are used. It must not block.
	Crossed func(budget *ratelimit.Limit, percent int)
	// Refused hears of a budget of which at most a fifth is left, and that does not cover a request before the wait is over; nil for nobody. It must
	// not block.
	Refused func(budget *ratelimit.Limit, wait time.Duration)
}

// identify finds out who calls, before anything of the body is read: a stranger must not make us keep it.
func (c *call) identify() *wire.Error {
	a := c.g.Access
	if a == nil || a.Keys == nil {
		return nil
	}
	set, all := a.Keys()
	secret := secretOf(c.r.Header)
	k, ok := set.Find(secret)
	if !ok && set.Users() {
		k, ok = set.User(a.User(c.r))
	}
	switch {
	case !ok && !all && secret != "":
		c.w.Header()["Retry-After"] = []string{"1"}
		return stateUnavailable()
	case !ok:
		if err := c.guess(); err != nil {
			return err
		}
		return invalidKey(secret != "")
	case k.Expired(time.Now()):
		return expiredKey()
	}
	c.key, c.localOnly = k, k.LocalOnly
	c.rec.Key, c.rec.Tags, c.rec.Priority = k.Name, k.Tags, k.Priority
	return nil
}

// guess lets an address try so many wrong keys as it might send requests without one.
func (c *call) guess() *wire.Error {
	if len(c.g.Access.Strangers) == 0 {
		return nil
	}
	return c.take(new(meter))
}

// secretOf gives the secret that a request shows, in one of the ways that SDKs do.
func secretOf(h http.Header) string {
	if v := h["Authorization"]; len(v) > 0 {
		const scheme = "bearer "
		if len(v[0]) > len(scheme) && strings.EqualFold(v[0][:len(scheme)], scheme) {
			return strings.TrimLeft(v[0][len(scheme):], " ")
		}
	}
	if v := h["X-Api-Key"]; len(v) > 0 { // Anthropic's
		return v[0]
	}
	if v := h["Api-Key"]; len(v) > 0 { // Azure's
		return v[0]
	}
	return ""
}
