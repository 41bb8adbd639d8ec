// Package access decides who may call the gateway and how much: it authenticates callers by their keys, reserves what a request is
// expected to use of each limit, settles the reservation with what the request really used, and reports the remaining quota.
//
// It never reads a request body, chooses a target or writes to a client. It stands above exchange.
package access

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// Access holds the keys and the limits. A nil *Access allows everything to everybody.
type Access struct {
	// Keys returns the current keys and users. Complete is false if the stored ones have never been read, so that an unknown secret may
	// still be valid. If Keys is nil, callers need no key.
	Keys func() (set *keys.Set, complete bool)
	// SharedKeys reports whether keys are stored in a shared state, not on this machine.
	SharedKeys bool
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
	// BudgetRefused is called when a budget with at most a fifth left does not cover a request before the wait is over. It may be
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
	now := time.Now()
	k, sent := find(set, r.Header, now)
	if k == nil && set.Users() {
		k, _ = set.User(a.User(r))
	}
	switch {
	case k == nil && !complete && sent:
		return nil, keysUnavailable(a.SharedKeys)
	case k == nil:
		if err := a.limitFailedAuth(r, h); err != nil {
			return nil, err
		}
		return nil, invalidKey(r)
	case k.Expired(now):
		return nil, &openai.Error{Status: http.StatusUnauthorized, Type: exchange.InvalidRequest, Code: "invalid_api_key",
			Message: "The API key has expired. Ask the operator of this gateway for a new one."}
	}
	return k, nil
}

// Lookup returns the key that a request is made with, or the user, or nil if it has none that is valid. Unlike Authenticate, it counts
// nothing.
func (a *Access) Lookup(r *http.Request) *keys.Key {
	if a == nil || a.Keys == nil {
		return nil
	}
	set, _ := a.Keys()
	now := time.Now()
	k, _ := find(set, r.Header, now)
	if k == nil && set.Users() {
		k, _ = set.User(a.User(r))
	}
	if k != nil && k.Expired(now) {
		return nil
	}
	return k
}

// Caller returns what the record says about the owner of a key.
func Caller(k *keys.Key) exchange.Caller {
	if k == nil {
		return exchange.Caller{}
	}
	return exchange.Caller{Key: k.Name, Identity: k.Identity, Tags: k.Tags, Priority: k.Priority, Weight: k.Weight}
}

// limitFailedAuth counts a failed authentication against the address's anonymous rate limit.
func (a *Access) limitFailedAuth(r *http.Request, h http.Header) *openai.Error {
	if len(a.Anonymous) == 0 {
		return nil
	}
	res := new(Reservation)
	res.addAddress(a, r)
	err := a.take(r, h, res, &res.admission)
	a.Limiter.Settle(&res.admission, 0, 0)
	return err
}

// maxSecrets bounds how many secrets of one request are looked up, so that one request cannot guess many keys.
const maxSecrets = 8

// find returns the key of the first valid secret in a request's headers, or else an expired key, or nil. It also returns whether the
// request has any secret. A client may send a placeholder in one header, which its SDK insists on, and its key in another.
func find(set *keys.Set, h http.Header, now time.Time) (found *keys.Key, sent bool) {
	left := maxSecrets
	eachSecret(h, func(_, secret string) bool {
		sent = true
		if k, ok := set.Find(secret); ok && (found == nil || !k.Expired(now)) {
			found = k
		}
		left--
		return left > 0 && (found == nil || found.Expired(now))
	})
	return found, sent
}

// HasKey reports whether a request has a key, valid or not.
func HasKey(h http.Header) (has bool) {
	eachSecret(h, func(string, string) bool {
		has = true
		return false
	})
	return has
}

// secretHeaders are the headers in which SDKs send keys: OpenAI's, Anthropic's and Azure's.
var secretHeaders = [...]string{"Authorization", "X-Api-Key", "Api-Key"}

// PlainHeaders returns the headers in which clients send keys, and which Caddy's logs show.
func PlainHeaders() []string { return slices.Clone(secretHeaders[1:]) }

// eachSecret calls visit for each secret in a request's headers until it returns false.
func eachSecret(h http.Header, visit func(header, secret string) bool) {
	for _, name := range secretHeaders {
		for _, line := range h[name] {
			if secret := secretOf(name, line); secret != "" && !visit(name, secret) {
				return
			}
			if !strings.Contains(line, ",") {
				continue
			}
			for part := range strings.SplitSeq(line, ",") { // some proxies join the lines of a header
				if secret := secretOf(name, strings.TrimSpace(part)); secret != "" && !visit(name, secret) {
					return
				}
			}
		}
	}
}

// secretOf returns the secret in a header, or "". In Authorization, it is a bearer token, or a value without any scheme.
func secretOf(name, value string) string {
	if name != "Authorization" {
		return value
	}
	const scheme = "bearer "
	if len(value) > len(scheme) && strings.EqualFold(value[:len(scheme)], scheme) {
		return strings.TrimLeft(value[len(scheme):], " ")
	}
	if strings.Contains(value, " ") || strings.EqualFold(value, strings.TrimSpace(scheme)) {
		return ""
	}
	return value
}

// KeyInQuery reports whether the query string of a request contains a valid key. Such a key is not accepted, but logs show it.
func (a *Access) KeyInQuery(r *http.Request) bool {
	const longest = 4 << 10
	query := r.URL.RawQuery
	if query == "" || len(query) > longest || a == nil || a.Keys == nil {
		return false
	}
	set, _ := a.Keys()
	left := maxSecrets
	for _, values := range r.URL.Query() {
		for _, value := range values {
			if _, ok := set.Find(value); ok {
				return true
			}
			if left--; left == 0 {
				return false
			}
		}
	}
	return false
}

// keyParameters are the names under which clients put a key into the query string.
var keyParameters = [...]string{"key", "api_key", "api-key", "apikey", "access_token", "token"}

// invalidKey returns the error of a request without a valid key. It names the headers in which keys were sent.
func invalidKey(r *http.Request) *openai.Error {
	const send = "Send it as \"Authorization: Bearer KEY\", \"x-api-key: KEY\" or \"api-key: KEY\"."
	message := "This gateway needs an API key. " + send
	var headers []string
	eachSecret(r.Header, func(header, _ string) bool {
		if !slices.Contains(headers, header) {
			headers = append(headers, header)
		}
		return true
	})
	query := r.URL.Query()
	inQuery := slices.ContainsFunc(keyParameters[:], func(name string) bool { return query.Get(name) != "" })
	switch {
	case len(headers) > 0:
		message = "The API key in the header " + strings.Join(headers, " or ") + " is not valid here. Check it, or ask the operator of this gateway for a new one."
	case inQuery:
		message = "This gateway does not accept an API key in the query string, which appears in logs. " + send
	}
	return &openai.Error{Status: http.StatusUnauthorized, Type: exchange.InvalidRequest, Code: "invalid_api_key", Message: message}
}

// CheckModel refuses a model that the key may not use.
func CheckModel(k *keys.Key, model string) *openai.Error {
	if k.May(model) {
		return nil
	}
	return &openai.Error{Status: http.StatusForbidden, Type: exchange.InvalidRequest, Param: "model", Code: "model_not_allowed",
		Message: "This API key may not use the model \"" + model + "\". GET /v1/models lists the models that it may use."}
}

// CheckSelector refuses a request in which a second member may let a service choose a model that the key may not use.
func CheckSelector(k *keys.Key, request *openai.Request) *openai.Error {
	if k == nil || len(k.Models) == 0 {
		return nil
	}
	member := request.Selector()
	if member == "" {
		return nil
	}
	return &openai.Error{Status: http.StatusForbidden, Type: exchange.InvalidRequest, Param: member, Code: "model_not_allowed",
		Message: "This API key may use certain models only, and \"" + member + "\" could make a service choose another one. Remove it, and name the model in \"model\"."}
}

// keysUnavailable is for a key that is not known while the stored ones cannot be read.
func keysUnavailable(shared bool) *openai.Error {
	where := "on its machine"
	if shared {
		where = "in the state that it shares with other gateways"
	}
	return &openai.Error{Status: http.StatusServiceUnavailable, Type: exchange.ServerError, Code: "state_unavailable",
		Header: http.Header{"Retry-After": {"1"}},
		Message: "The gateway does not know this API key, and cannot read the keys that are stored " + where +
			". Try again in a moment. If that does not help, tell the operator of this gateway: its log says what is wrong."}
}

func stateUnavailable(retryAfter string) *openai.Error {
	return &openai.Error{Status: http.StatusServiceUnavailable, Type: exchange.ServerError, Code: "state_unavailable",
		Header:  http.Header{"Retry-After": {retryAfter}},
		Message: "The gateway cannot reach the state that it shares with other gateways, and does not answer without knowing its limits. Try again in a moment."}
}
