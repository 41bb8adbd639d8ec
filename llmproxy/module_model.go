package llmproxy

import (
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// A Model is a name that clients use.
type Model struct {
	// The name. An asterisk in it stands for any characters; exact names go before patterns, and patterns in their order.
	Name string `json:"name"`

	// Rules by content: the first that matches takes the request. Default: none.
	Routes []*Route `json:"routes,omitempty"`

	// The targets that are tried as equals, written upstream/model, or upstream alone to keep the client's name. Not needed
	// where the last route has no matcher.
	To []string `json:"to,omitempty"`

	// One for each target of "to". Default: equal.
	Weights []int `json:"weights,omitempty"`

	// Which of the equals is next: first, round_robin, random, weighted or least_busy. Default: least_busy, or weighted
	// where there are weights.
	LBPolicy string `json:"lb_policy,omitempty"`

	// What all requests for it together may use. Default: no limits.
	Limit *keys.Limits `json:"limit,omitempty"`

	// Each one the targets to try when those before failed, or, alone, the name of another model.
	Fallbacks [][]string `json:"fallbacks,omitempty"`

	// Requests for it never leave for an upstream that is not local, whatever fails. Default: false.
	LocalOnly bool `json:"local_only,omitempty"`
}

// A Route is a rule of a model.
type Route struct {
	// Its name in X-LLM-Route, where "@" stands before it. Default: its number, from 1 on.
	Name string `json:"name,omitempty"`

	// Which requests it takes. Default: all; it must be the last one then.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// Where they go: targets that are tried as equals, or, alone, the name of another model.
	To []string `json:"to"`

	// Only log and record what the rule would have done. Default: false.
	Shadow bool `json:"shadow,omitempty"`
}
