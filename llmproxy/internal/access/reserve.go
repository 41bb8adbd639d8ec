package access

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// A Limiter keeps account of limits. Take fails only if it must not decide without the state that it cannot reach.
type Limiter interface {
	Take(context.Context, *ratelimit.Reservation) error
	Peek(context.Context, *ratelimit.Reservation) error
	Settle(t *ratelimit.Reservation, tokens, spend int64)
}

// A Demand is a request as its limits see it. It is asked only for what a limit needs.
type Demand interface {
	// Rule returns the model or pattern of the configuration that the request's model matches; empty for none.
	Rule() string
	// Tokens estimates what the request will use.
	Tokens() (input, output int64)
	// Spend returns the most that so many tokens may cost, in US dollars.
	Spend(input, output int64) float64
}

// usualLimits is how many limits apply to a request at most as a rule; more cost an allocation.
const usualLimits = 8

// MaxAnonymous is how many rules for addresses there may be.
const MaxAnonymous = 2

// A Reservation is what a request took of its limits.
type Reservation struct {
	take    ratelimit.Reservation
	limits  [usualLimits]*ratelimit.Limit
	left    [usualLimits]ratelimit.Quota
	address [MaxAnonymous]ratelimit.Limit
	values  [6]string // of the headers that tell what is left
}

// Reserve takes what a request for a model is expected to use of every limit that applies to it, or refuses it. H gets the
// headers that tell what is left. The reservation is nil where no limit applies; else it must be settled, also if the
// request is refused.
func (a *Access) Reserve(r *http.Request, h http.Header, key *keys.Key, model string, demand Demand) (*Reservation, *openai.Error) {
	if a == nil {
		return nil, nil
	}
	if !key.May(model) {
		a.ShowQuota(r, h, key)
		return nil, modelNotAllowed(model)
	}
	var ofModel []*ratelimit.Limit
	if len(a.Models) > 0 {
		ofModel = a.Models[demand.Rule()]
	}
	if len(a.Site) == 0 && len(ofModel) == 0 && !a.limitsCaller(key) {
		return nil, nil
	}
	res := new(Reservation)
	res.take.Limits = append(append(res.limits[:0], a.Site...), ofModel...)
	if key != nil {
		res.take.Limits = append(res.take.Limits, key.Limits...)
	}
	estimate(&res.take, demand)
	return res, a.take(r, h, key, res)
}

// limitsCaller reports whether the caller has limits of its own.
func (a *Access) limitsCaller(key *keys.Key) bool {
	if key != nil {
		return len(key.Limits) > 0
	}
	return len(a.Anonymous) > 0
}

// estimate fills in what the request is expected to use, as far as a limit asks for it.
func estimate(t *ratelimit.Reservation, demand Demand) {
	tokens, spend := false, false
	for _, l := range t.Limits {
		tokens = tokens || l.Rule.Unit == ratelimit.Tokens
		spend = spend || l.Rule.Unit == ratelimit.Spend
	}
	if !tokens && !spend {
		return
	}
	input, output := demand.Tokens()
	t.Prompt, t.Tokens = input, input+output
	if spend {
		t.Spend = nano(demand.Spend(input, output))
	}
}

// nano is an amount of dollars in the unit of ratelimit.Spend, rounded up.
func nano(dollars float64) int64 {
	return int64(math.Ceil(dollars*ratelimit.Dollar - 1e-3)) // a product such as 30000000.000000004 is meant whole
}

// take asks the limiter, tells the client what is left, and refuses what does not fit.
func (a *Access) take(r *http.Request, h http.Header, key *keys.Key, res *Reservation) *openai.Error {
	if key == nil && len(a.Anonymous) > 0 {
		res.addAddress(a, r)
	}
	res.take.Left, res.take.BudgetUsed = res.left[:0], a.BudgetUsed
	if err := a.Limiter.Take(r.Context(), &res.take); err != nil {
		return stateUnavailable("5")
	}
	res.announce(h)
	if res.take.Denied == nil {
		return nil
	}
	res.tellBudget(a)
	return refusal(res.take.Denied, res.take.Wait)
}

// addAddress adds the limits of the caller's address.
func (res *Reservation) addAddress(a *Access, r *http.Request) {
	address := ratelimit.Network(a.Address(r))
	if !address.IsValid() {
		return // a unix socket
	}
	for i, rule := range a.Anonymous {
		res.address[i] = ratelimit.Limit{Address: address, Rule: rule}
		res.take.Limits = append(res.take.Limits, &res.address[i])
	}
}

// tellBudget tells the operator of a budget that is used up. One that does not cover a request while most of it is left, or only
// reserved by requests that run at the same time, is not.
func (res *Reservation) tellBudget(a *Access) {
	l, wait := res.take.Denied, res.take.Wait
	if l.Rule.Unit != ratelimit.Spend || wait <= ratelimit.Soon || wait >= ratelimit.Never || a.BudgetRefused == nil {
		return
	}
	for i := range res.take.Limits {
		if res.take.Limits[i] == l && res.take.Left[i].Left <= l.Rule.Limit/5 {
			a.BudgetRefused(l, wait)
		}
	}
}

// Settle puts what the exchange really used in the place of the estimate. A nil reservation is none.
func (a *Access) Settle(res *Reservation, rec *exchange.Record) {
	if res == nil {
		return
	}
	tokens, spend := res.take.Tokens, res.take.Spend
	switch {
	case rec.HasUsage:
		tokens, spend = rec.Usage.Input+rec.Usage.Output, 0
	case rec.FirstContent == 0, rec.Cache != "" && len(rec.Attempts) == 0: // nobody generated
		tokens, spend = 0, 0
	}
	if rec.HasCost {
		spend = nano(rec.Cost)
	}
	a.Limiter.Settle(&res.take, tokens, spend)
}

// refusal says which limit is used up, and when to come back. Whose limit it is, the client need not know.
func refusal(l *ratelimit.Limit, wait time.Duration) *openai.Error {
	e := &openai.Error{Status: http.StatusTooManyRequests, Type: l.Rule.Unit.String(), Code: "rate_limit_exceeded", Header: http.Header{}}
	again := "Try again in " + string(appendReset(nil, wait)) + "."
	switch {
	case l.Rule.Unit == ratelimit.Concurrent:
		e.Type = ratelimit.Requests.String()
		e.Message = fmt.Sprintf("%d requests at the same time are allowed, and as many are running. Try again when one has ended.", l.Rule.Limit)
	case l.Rule.Unit == ratelimit.Spend && wait <= ratelimit.Soon: // clients take insufficient_quota for the end
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
		e.Header["Retry-After"] = []string{seconds(wait)}
	}
	if l.Rule.Unit != ratelimit.Concurrent && wait > time.Minute {
		e.Header["X-Should-Retry"] = []string{"false"} // SDKs would try two more times, in vain
	}
	return e
}

// seconds is a wait as Retry-After has it, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
