package gateway

import (
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// UsagePath is where a key sees what is left of its limits.
const UsagePath = "/llm/usage"

// A usageAnswer is what a key is told of itself.
type usageAnswer struct {
	Object    string       `json:"object"`
	Key       string       `json:"key,omitempty"` // absent for callers without one
	Expires   *time.Time   `json:"expires,omitempty"`
	Models    []string     `json:"models,omitempty"` // absent for all
	LocalOnly bool         `json:"local_only,omitempty"`
	Limits    []limitState `json:"limits"`
}

// A limitState is what is left of a limit: requests, tokens, places or US dollars.
type limitState struct {
	Unit  string  `json:"unit"`
	Rule  string  `json:"rule"`
	Limit float64 `json:"limit"`
	Left  float64 `json:"left"`
	// Reset is the number of seconds until all of it is free again, if nothing is used; absent where no time tells.
	Reset *float64 `json:"reset_seconds,omitempty"`
}

// showUsage answers GET /llm/usage with what the caller may do and what is left of it. Nothing is taken.
func (c *call) showUsage() {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.w.Header()["Allow"] = []string{"GET, HEAD"}
		c.fail(wrongMethod(c.r.Method, c.r.URL.Path, http.MethodGet))
		return
	}
	answer := usageAnswer{Object: "llm.usage", Limits: []limitState{}}
	a := c.g.Access
	if a == nil {
		c.answerJSON(answer)
		return
	}
	if k := c.key; k != nil {
		answer.Key, answer.Models, answer.LocalOnly = k.Name, k.Models, k.LocalOnly
		if !k.Expires.IsZero() {
			answer.Expires = &k.Expires
		}
	}
	m, err := c.peek()
	if err != nil {
		c.w.Header()["Retry-After"] = []string{"5"}
		c.fail(stateUnavailable())
		return
	}
	for i, l := range m.take.Limits {
		answer.Limits = append(answer.Limits, stateOf(l.Rule, m.take.Left[i]))
	}
	m.announce(c.w.Header())
	c.answerJSON(answer)
}

// peek looks what is left of the caller's own limits.
func (c *call) peek() (*meter, error) {
	m := new(meter)
	if c.key != nil {
		m.take.Limits = c.key.Limits
	} else if len(c.g.Access.Strangers) > 0 {
		m.addStrangers(c.g.Access, c)
	}
	return m, c.g.Access.Limiter.Peek(c.r.Context(), &m.take)
}

// showLeft tells what is left with an answer for which nothing was taken, if that is known.
func (c *call) showLeft() {
	a := c.g.Access
	if a == nil || c.meter != nil || len(a.Strangers) == 0 && (c.key == nil || len(c.key.Limits) == 0) {
		return
	}
	if m, err := c.peek(); err == nil {
		m.announce(c.w.Header())
	}
}

func stateOf(r ratelimit.Rule, left ratelimit.State) limitState {
	s := limitState{Unit: r.Unit.String(), Rule: r.String(), Limit: float64(r.Limit), Left: float64(left.Left)}
	if r.Unit == ratelimit.Spend {
		s.Limit, s.Left = s.Limit/ratelimit.Dollar, s.Left/ratelimit.Dollar
	}
	if left.Reset < ratelimit.Never {
		reset := left.Reset.Seconds()
		s.Reset = &reset
	}
	return s
}
