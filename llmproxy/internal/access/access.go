// Package access decides who may call the gateway and how much: it authenticates callers by their keys, reserves what a request is
// expected to use of each limit, settles the reservation with what the request really used, and reports the remaining quota.
//
// It never reads a request body, chooses a target or writes to a client. It stands above exchange.
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

// Access holds the keys and the limits. A nil *Access allows everything to everybody.
type Access struct {
	// Keys returns the current keys and users. Complete is false if those in a shared state have never been read, so that an unknown
	// secret may still be valid. If Keys is nil, callers need no key.
	Keys func() (set *keys.Set, complete bool)
	// User returns the name of the user that another handler has authenticated, or "".
	User func(*http.Request) string
	// Address returns the client's address, as seen by trusted proxies.
	Address func(*http.Request) netip.Addr
	// Limiter keeps account of the limits.
	Limiter Limiter
	// Site has the limits of all requests together.
	Site []*ratelimit.Limit
	// Models has the limits of models by the name or pattern in the configuration.
	Models map[string][]*ratelimit.Limit
	// Anonymous has the rules for each address of callers without a key.
	Anonymous []ratelimit.Rule
	// BudgetUsed is called when 80 or 100 percent of a budget have been used. It must not block.
	BudgetUsed func(budget *ratelimit.Limit, percent int)
	// BudgetRefused is called when a budget of which at most a fifth is left does not cover a request before the wait is over. It may be
	// nil and must not block.
	BudgetRefused func(budget *ratelimit.Limit, wait time.Duration)
}

// Authenticate returns the caller's key, or nil if callers need no key. It runs before the body is read, so that strangers cannot make
// the gateway buffer bodies. If it counts a failed attempt against a limit, it sets the quota headers in h.
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

// Caller returns what the record says about the owner of a key.
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
	a.Limiter.Settle(&res.taken, 0, 0)
	return err
}

// secretOf returns the secret in a request, in any of the places where SDKs put it.
func secretOf(h http.Header) string {
	if v := h["Authorization"]; len(v) > 0 {
		const scheme = "bearer "
		if len(v[0]) > len(scheme) && strings.EqualFold(v[0][:len(scheme)], scheme) {
			return strings.TrimLeft(v[0][len(scheme):], " ")
		}
	}
	if v := h["X-Api-Key"]; len(v) > 0 { // Anthropic's SDKs
		return v[0]
	}
	if v := h["Api-Key"]; len(v) > 0 { // Azure's SDKs
		return v[0]
	}
	return ""
}

func invalidKey(hasSecret bool) *openai.Error {
	message := "This gateway needs an API key. Send it as \"Authorization: Bearer KEY\", \"x-api-key: KEY\" or \"api-key: KEY\"."
	if hasSecret {
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
