// Package access decides who may call the gateway and how much: it authenticates callers by their keys, reserves what a
// request is expected to use of each limit, settles with what it really used, and tells clients what is left.
//
// It never reads a body, never chooses a target, and never writes to a client. It stands above exchange.
package access

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// Access is who may call, and how much. A nil Access lets anybody do anything.
type Access struct {
	// Keys returns the keys and users that may call, as they are now. Complete is false while those of a shared state were
	// never read: then a secret that is not known may yet be good. Nil if anybody may call.
	Keys func() (set *keys.Set, complete bool)
	// User returns the name of the user that another handler has authenticated; empty for none.
	User func(*http.Request) string
	// Address returns the client's address, the one behind trusted proxies.
	Address func(*http.Request) netip.Addr
	// Limiter keeps account of the limits.
	Limiter Limiter
	// Site are the limits of all requests together.
	Site []*ratelimit.Limit
	// Models are the limits of models, by the name or pattern of the configuration.
	Models map[string][]*ratelimit.Limit
	// Anonymous are the rules for each address of callers without a key.
	Anonymous []ratelimit.Rule
	// BudgetUsed hears of a budget of which 80 or 100 percent are used. It must not block.
	BudgetUsed func(budget *ratelimit.Limit, percent int)
	// BudgetRefused hears of a budget of which at most a fifth is left, and that does not cover a request before the wait is
	// over; nil for nobody. It must not block.
	BudgetRefused func(budget *ratelimit.Limit, wait time.Duration)
}

// Authenticate finds out who calls, before anything of the body is read: a stranger must not make us keep it. The key is nil
// where anybody may call. H gets the headers that tell what is left, where a failed authentication counts against a limit.
func (a *Access) Authenticate(r *http.Request, h http.Header) (*keys.Key, *openai.Error) {
	if a == nil || a.Keys == nil {
		return nil, nil
	}
	set, complete := a.Keys()
	secret := secretOf(r.Header)
	k, ok := set.Find(secret)
	if !ok && set.Users() {
		k, ok = set.User(a.User(r))
	}
	switch {
	case !ok && !complete && secret != "":
		return nil, stateUnavailable("1")
	case !ok:
		if err := a.limitFailedAuth(r, h); err != nil {
			return nil, err
		}
		return nil, invalidKey(secret != "")
	case k.Expired(time.Now()):
		return nil, &openai.Error{Status: http.StatusUnauthorized, Type: exchange.InvalidRequest, Code: "invalid_api_key",
			Message: "The API key has expired. Ask the operator of this gateway for a new one."}
	}
	return k, nil
}

// Caller is what the record says of a key's owner.
func Caller(k *keys.Key) exchange.Caller {
	if k == nil {
		return exchange.Caller{}
	}
	return exchange.Caller{Key: k.Name, Tags: k.Tags, Priority: k.Priority}
}

// limitFailedAuth counts a failed authentication against the address's anonymous rate limit.
func (a *Access) limitFailedAuth(r *http.Request, h http.Header) *openai.Error {
	if len(a.Anonymous) == 0 {
		return nil
	}
	res := new(Reservation)
	err := a.take(r, h, nil, res)
	a.Limiter.Settle(&res.take, 0, 0)
	return err
}

// secretOf returns the secret that a request shows, in one of the ways that SDKs do.
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

func invalidKey(shown bool) *openai.Error {
	message := "This gateway needs an API key. Send it as \"Authorization: Bearer KEY\", \"x-api-key: KEY\" or \"api-key: KEY\"."
	if shown {
		message = "The API key is not valid here. Check it, or ask the operator of this gateway for a new one."
	}
	return &openai.Error{Status: http.StatusUnauthorized, Type: exchange.InvalidRequest, Code: "invalid_api_key", Message: message}
}

func modelNotAllowed(model string) *openai.Error {
	return &openai.Error{Status: http.StatusForbidden, Type: exchange.InvalidRequest, Param: "model", Code: "model_not_allowed",
		Message: "This API key may not use the model \"" + model + "\". GET /v1/models lists the models that it may use."}
}

func stateUnavailable(retryAfter string) *openai.Error {
	return &openai.Error{Status: http.StatusServiceUnavailable, Type: exchange.ServerError, Code: "state_unavailable",
		Header:  http.Header{"Retry-After": {retryAfter}},
		Message: "The gateway cannot reach the state that it shares with other gateways, and does not answer without knowing its limits. Try again in a moment."}
}
