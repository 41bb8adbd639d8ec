package access

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// A Limiter keeps account of limits. Take and Peek fail only if the shared state cannot be reached and requests must be refused
// without it.
type Limiter interface {
	Take(context.Context, *ratelimit.Reservation) error
	Peek(context.Context, *ratelimit.Reservation) error
	Settle(r *ratelimit.Reservation, tokens, spend int64)
}

// A Demand is what a request is expected to use. Only the methods that a limit needs are called.
type Demand interface {
	// Rule returns the model or pattern of the configuration that the request's model matches, or "".
	Rule() string
	// Tokens returns how many tokens the request is expected to use.
	Tokens() (input, output int64)
}

// usualLimits is the number of limits for which a Reservation needs no further allocation.
const usualLimits = 6

// MaxAnonymous is the maximum number of rules in Access.Anonymous.
const MaxAnonymous = 2

// A Reservation is what a request has reserved of its limits. It is made in three parts: the body of a request that a limit refuses anyway
// should not be read, and what an attempt costs is known only when its target is.
type Reservation struct {
	admission ratelimit.Reservation // what needs no body: the request itself, and its place among the concurrent ones
	usage     ratelimit.Reservation // what the body determines: tokens, and the limits of the model
	money     ratelimit.Reservation // what the target determines; see Pay
	access    *Access
	limits    [usualLimits]*ratelimit.Limit
	left      [usualLimits]ratelimit.Quota
	address   [MaxAnonymous]ratelimit.Limit
	values    [6]string // of the quota headers
}

// needsBody reports whether a request's share of a limit is known only when its body has been read.
func needsBody(l *ratelimit.Limit) bool {
	return l.Rule.Unit == ratelimit.Tokens || l.Rule.Unit == ratelimit.Spend
}

// Admit reserves what a request takes of the limits whatever its body says, or returns why it is refused. It sets the quota headers in h. If
// the reservation is not nil, it must be settled or refunded, even if the request is refused.
func (a *Access) Admit(r *http.Request, h http.Header, key *keys.Key) (*Reservation, *openai.Error) {
	if a == nil || len(a.Site) == 0 && !a.limitsCaller(key) {
		return nil, nil
	}
	res := new(Reservation)
	res.admission.Limits = res.limits[:0]
	a.eachOfCaller(key, func(l *ratelimit.Limit) {
		if !needsBody(l) {
			res.admission.Limits = append(res.admission.Limits, l)
		}
	})
	if key == nil {
		res.addAddress(a, r)
	}
	return res, a.take(r, h, res, &res.admission)
}

// Reserve reserves what an admitted request is expected to use of the limits that depend on its body, or returns why it is refused. It
// refunds the admission of a request that is refused. It sets the quota headers in h. The result replaces the reservation.
func (a *Access) Reserve(res *Reservation, r *http.Request, h http.Header, key *keys.Key, model string, demand Demand) (*Reservation, *openai.Error) {
	if a == nil {
		return nil, nil
	}
	if err := CheckModel(key, model); err != nil {
		a.Refund(res)
		a.SetQuotaHeaders(r, h, key)
		return res, err
	}
	var ofModel []*ratelimit.Limit
	if len(a.Models) > 0 {
		ofModel = a.Models[demand.Rule()]
	}
	if res == nil && len(ofModel) == 0 {
		return nil, nil
	}
	if res == nil {
		res = new(Reservation)
	}
	res.access = a
	admitted := len(res.admission.Limits)
	res.usage.Limits = res.limits[min(admitted, usualLimits):min(admitted, usualLimits)]
	add := func(l *ratelimit.Limit) {
		if l.Rule.Unit == ratelimit.Spend {
			res.money.Limits = append(res.money.Limits, l)
		} else {
			res.usage.Limits = append(res.usage.Limits, l)
		}
	}
	for _, l := range ofModel {
		add(l)
	}
	a.eachOfCaller(key, func(l *ratelimit.Limit) {
		if needsBody(l) {
			add(l)
		}
	})
	estimate(&res.usage, demand)
	err := a.take(r, h, res, &res.usage)
	if err != nil {
		a.Refund(res)
		res.setHeaders(h)
	}
	return res, err
}

// eachOfCaller calls visit for each limit of the site and of the key.
func (a *Access) eachOfCaller(key *keys.Key, visit func(*ratelimit.Limit)) {
	for _, l := range a.Site {
		visit(l)
	}
	if key != nil {
		for _, l := range key.Limits {
			visit(l)
		}
	}
}

// limitsCaller reports whether the caller has limits of its own.
func (a *Access) limitsCaller(key *keys.Key) bool {
	if key != nil {
		return len(key.Limits) > 0
	}
	return len(a.Anonymous) > 0
}

// estimate sets what the request is expected to use, as far as a limit needs it.
func estimate(r *ratelimit.Reservation, demand Demand) {
	if slices.ContainsFunc(r.Limits, func(l *ratelimit.Limit) bool { return l.Rule.Unit == ratelimit.Tokens }) {
		input, output := demand.Tokens()
		r.Prompt, r.Tokens = input, input+output
	}
}

// HasBudget reports whether a budget applies to the request.
func (res *Reservation) HasBudget() bool { return res != nil && len(res.money.Limits) > 0 }

// Pay implements exchange.Budget. It reserves what the next attempt is likely to cost, in place of what the last one reserved, which
// failed and cost nothing. It returns why a budget does not cover it.
//
// Near the end of a budget it is enough that the rest covers the least that the attempt may cost. Then all of the rest is reserved, so that
// no other request is admitted with it, and the budget is overspent by one answer at most.
func (res *Reservation) Pay(ctx context.Context, least, likely float64) *openai.Error {
	a, money := res.access, &res.money
	if !money.At.IsZero() {
		a.Limiter.Settle(money, 0, 0)
	}
	money.BudgetUsed, money.Spend = a.BudgetUsed, toSpend(likely)
	if err := a.Limiter.Take(ctx, money); err != nil {
		return stateUnavailable("5")
	}
	if money.Denied != nil && money.Wait > ratelimit.Soon {
		rest := money.Spend
		for _, left := range money.Left {
			rest = min(rest, left.Left)
		}
		if rest > 0 && rest >= toSpend(least) {
			money.Spend = rest
			if err := a.Limiter.Take(ctx, money); err != nil {
				return stateUnavailable("5")
			}
		}
	}
	if money.Denied == nil {
		return nil
	}
	a.reportBudget(money)
	return limitReached(money.Denied, money.Wait)
}

// toSpend converts US dollars to the unit of ratelimit.Spend, rounded up.
func toSpend(dollars float64) int64 {
	return int64(math.Ceil(dollars*ratelimit.Dollar - 1e-3)) // 30000000.000000004 is meant to be an integer
}

// take makes a part of the reservation and sets the quota headers in h. It returns an error if a limit does not allow the request.
func (a *Access) take(r *http.Request, h http.Header, res *Reservation, part *ratelimit.Reservation) *openai.Error {
	if len(part.Limits) == 0 {
		return nil
	}
	before := min(len(res.admission.Left), usualLimits)
	part.Left, part.BudgetUsed = res.left[before:before], a.BudgetUsed
	if err := a.Limiter.Take(r.Context(), part); err != nil {
		return stateUnavailable("5")
	}
	res.setHeaders(h)
	if part.Denied == nil {
		return nil
	}
	a.reportBudget(part)
	return limitReached(part.Denied, part.Wait)
}

// addAddress adds the limits of the caller's address.
func (res *Reservation) addAddress(a *Access, r *http.Request) {
	if len(a.Anonymous) == 0 {
		return
	}
	address := ratelimit.Network(a.Address(r))
	if !address.IsValid() {
		return // a unix socket
	}
	for i, rule := range a.Anonymous {
		res.address[i] = ratelimit.Limit{Address: address, Rule: rule}
		res.admission.Limits = append(res.admission.Limits, &res.address[i])
	}
}

// reportBudget reports that a used-up budget has refused a request. It does not report a budget with much left, nor one whose rest
// is only reserved by concurrent requests.
func (a *Access) reportBudget(refused *ratelimit.Reservation) {
	l, wait := refused.Denied, refused.Wait
	if l.Rule.Unit != ratelimit.Spend || wait <= ratelimit.Soon || wait >= ratelimit.Never || a.BudgetRefused == nil {
		return
	}
	for i := range refused.Limits {
		if refused.Limits[i] == l && refused.Left[i].Left <= l.Rule.Limit/5 {
			a.BudgetRefused(l, wait)
		}
	}
}

// Refund returns all that a request has reserved, because it is refused or invalid: it does not count as a request either. It does nothing
// if the reservation is nil.
func (a *Access) Refund(res *Reservation) {
	if res == nil {
		return
	}
	for _, part := range [...]*ratelimit.Reservation{&res.admission, &res.usage, &res.money} {
		if part.At.IsZero() {
			continue
		}
		part.Refund = true
		a.Limiter.Settle(part, 0, 0)
		for i, l := range part.Limits {
			if l.Rule.Unit == ratelimit.Requests {
				part.Left[i].Left++
			}
		}
	}
}

// Settle replaces the estimate with what the exchange really used. It does nothing if the reservation is nil or was refunded.
func (a *Access) Settle(res *Reservation, rec *exchange.Record) {
	if res == nil {
		return
	}
	tokens, spend := res.usage.Tokens, res.money.Spend
	switch {
	case rec.HasUsage:
		tokens = rec.Usage.Total()
	case rec.FirstContent == 0, rec.Cache != "" && len(rec.Attempts) == 0: // no upstream has generated anything
		tokens, spend = 0, 0
	}
	if rec.HasCost {
		spend = toSpend(rec.Cost)
	}
	a.Limiter.Settle(&res.admission, 0, 0)
	a.Limiter.Settle(&res.usage, tokens, 0)
	a.Limiter.Settle(&res.money, 0, spend)
}

// limitReached returns the error for a request that a limit does not allow. The message does not say whose limit it is.
func limitReached(l *ratelimit.Limit, wait time.Duration) *openai.Error {
	e := &openai.Error{Status: http.StatusTooManyRequests, Type: l.Rule.Unit.String(), Code: "rate_limit_exceeded", Header: http.Header{}}
	again := "Try again in " + string(appendReset(nil, wait)) + "."
	switch {
	case l.Rule.Unit == ratelimit.Concurrent:
		e.Type = ratelimit.Requests.String()
		e.Message = fmt.Sprintf("%d requests at the same time are allowed, and as many are running. Try again when one has ended.", l.Rule.Limit)
	case l.Rule.Unit == ratelimit.Spend && wait <= ratelimit.Soon: // clients do not retry after insufficient_quota
		e.Type = ratelimit.Requests.String()
		e.Message = fmt.Sprintf("The rest of the budget of %s is reserved for requests that are running. Try again when one has ended.", l.Rule)
	case l.Rule.Unit == ratelimit.Spend:
		if wait >= ratelimit.Never {
			again = "This request alone costs more: ask for a shorter answer with max_tokens."
		}
		e.Type, e.Code = "insufficient_quota", "insufficient_quota"
		e.Message = fmt.Sprintf("The budget of %s does not cover this request. %s", l.Rule, again)
	case wait >= ratelimit.Never:
		e.Message = fmt.Sprintf("The prompt alone is longer than the limit of %s tokens. Send a shorter one.", l.Rule)
	default:
		e.Message = fmt.Sprintf("The limit of %s %s is reached. %s", l.Rule, l.Rule.Unit, again)
	}
	switch {
	case l.Rule.Unit == ratelimit.Concurrent:
		e.Header["Retry-After"] = []string{"1"}
	case wait < ratelimit.Never:
		e.Header["Retry-After"] = []string{exchange.RetryAfter(wait)}
	}
	if l.Rule.Unit != ratelimit.Concurrent && wait > time.Minute {
		e.Header["X-Should-Retry"] = []string{"false"} // otherwise SDKs retry twice, in vain
	}
	return e
}
