package keys

import (
	"errors"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// Limits bound how much is used, as they are written: a key's, a model's or a site's.
type Limits struct {
	// Requests in a window, such as 60/m, with s, m, h or d for the window. Default: no limit.
	Rate []string `json:"rate,omitempty"`

	// Tokens in a window, prompts and answers, such as 100k/m. Default: no limit.
	Tokens []string `json:"tokens,omitempty"`

	// Requests at the same time. Default: no limit.
	Concurrent int64 `json:"concurrent,omitempty"`

	// US dollars in a window, such as $20/30d, or of the calendar, in UTC: $20/month, $1/day. Default: no limit.
	Budget []string `json:"budget,omitempty"`
}

// For reads the limits and makes them those of a subject, such as "key/alice". Nil limits are none.
func (l *Limits) For(subject string) ([]*ratelimit.Limit, error) {
	if l == nil {
		return nil, nil
	}
	var rules []ratelimit.Rule
	var errs []error
	add := func(r ratelimit.Rule, err error) {
		rules, errs = append(rules, r), append(errs, err)
	}
	for _, text := range l.Rate {
		add(ratelimit.ParseRate(ratelimit.Requests, text))
	}
	for _, text := range l.Tokens {
		add(ratelimit.ParseRate(ratelimit.Tokens, text))
	}
	if l.Concurrent != 0 {
		add(ratelimit.ParseConcurrent(l.Concurrent))
	}
	for _, text := range l.Budget {
		add(ratelimit.ParseBudget(text))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return ratelimit.New(subject, rules), ratelimit.Distinct(rules)
}
