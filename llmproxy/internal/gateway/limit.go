package gateway

import (
	"context"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// A Limiter keeps account of limits. Take fails only if it must not decide without the state that it cannot reach.
type Limiter interface {
	Take(context.Context, *ratelimit.Take) error
	Peek(context.Context, *ratelimit.Take) error
	Settle(t *ratelimit.Take, tokens, spend int64)
}

// maxLimits is how many limits apply to a request at most as a rule; more cost an allocation.
const maxLimits = 8

// MaxStrangers is how many rules for addresses there may be.
const MaxStrangers = 2

// A meter is what a request took of its limits.
type meter struct {
	take    ratelimit.Take
	limits  [maxLimits]*ratelimit.Limit
	left    [maxLimits]ratelimit.State
	address [MaxStrangers]ratelimit.Limit
	values  [6]string // of the headers that tell what is left
}

// limit takes what the request is expected to use of every limit that applies to it, or refuses it.
func (c *call) limit() *wire.Error {
	a := c.g.Access
	if a == nil {
		return nil
	}
	if !c.key.May(c.rec.Model) {
		c.showLeft()
		return modelNotAllowed(c.rec.Model)
	}
	of := c.modelLimits()
	strangers := a.Strangers
	if c.key != nil {
		strangers = nil
	}
	if len(a.Site) == 0 && len(of) == 0 && len(strangers) == 0 && (c.key == nil || len(c.key.Limits) == 0) {
		return nil
	}
	m := new(meter)
	m.take.Limits = append(append(m.limits[:0], a.Site...), of...)
	if c.key != nil {
		m.take.Limits = append(m.take.Limits, c.key.Limits...)
	}
	c.estimate(&m.take)
	return c.take(m)
}

// modelLimits are those of the model or pattern that the request asks for.
func (c *call) modelLimits() []*ratelimit.Limit {
	if len(c.g.Access.Models) == 0 {
		return nil
	}
	plan, ok := c.g.Models.Lookup(c.rec.Model)
	if !ok {
		return nil
	}
	return c.g.Access.Models[plan.Rule]
}

// take asks the limiter, tells the client what is left, and refuses what does not fit.
func (c *call) take(m *meter) *wire.Error {
	a := c.g.Access
	if c.key == nil && len(a.Strangers) > 0 {
		m.addStrangers(a, c)
	}
	m.take.Left, m.take.Crossed = m.left[:0], a.Crossed
	if err := a.Limiter.Take(c.r.Context(), &m.take); err != nil {
		c.w.Header()["Retry-After"] = []string{"5"}
		return stateUnavailable()
	}
	c.meter = m
	m.announce(c.w.Header())
	if m.take.Denied == nil {
		return nil
	}
	m.complain(a)
	return c.tooMuch(m.take.Denied, m.take.Wait)
}

// complain tells of a budget that is used up. One that does not cover a request while most of it is left, or only reserved by others that run
// at the same time, is not.
func (m *meter) complain(a *Access) {
	l, wait := m.take.Denied, m.take.Wait
	if l.Rule.Unit != ratelimit.Spend || wait <= ratelimit.Soon || wait >= ratelimit.Never || a.Refused == nil {
		return
	}
	for i := range m.take.Limits {
		if m.take.Limits[i] == l && m.take.Left[i].Left <= l.Rule.Limit/5 {
			a.Refused(l, wait)
		}
	}
}

// addStrangers adds the limits of the caller's address.
func (m *meter) addStrangers(a *Access, c *call) {
	address := ratelimit.Network(a.Address(c.r))
	if !address.IsValid() {
		return // a unix socket
	}
	for i, rule := range a.Strangers {
		m.address[i] = ratelimit.Limit{Address: address, Rule: rule}
		m.take.Limits = append(m.take.Limits, &m.address[i])
	}
}

// tooMuch says which limit is used up, and when to come back.
func (c *call) tooMuch(l *ratelimit.Limit, wait time.Duration) *wire.Error {
	h := c.w.Header()
	switch {
	case l.Rule.Unit == ratelimit.Concurrent:
		h["Retry-After"] = []string{"1"}
	case wait < ratelimit.Never:
		h["Retry-After"] = []string{seconds(wait)}
	}
	if l.Rule.Unit != ratelimit.Concurrent && wait > time.Minute {
		h["X-Should-Retry"] = []string{"false"} // SDKs would try two times more, and in vain
	}
	return overLimit(l, wait)
}
