// Package keys defines API keys: a name, the SHA-256 digest of a secret, and what its bearer may do. It parses keys from the
// configuration and the key file, finds the key of a secret, and generates secrets.
//
// It never stores a secret in plain text, reads no request and opens no file. It stands on ratelimit, which parses limits, and
// on router, whose patterns select the allowed models.
package keys

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// An Entry is one key in the configuration, in the file of keys, and in answers of the admin API.
type Entry struct {
	// The name of the key: in logs, in {http.auth.user.id} and in the usage. Letters, digits and .-_@+ only, at most 64.
	Name string `json:"name"`

	// The hashed secret: sha256: and the 64 hexadecimal digits of the secret's digest. In the configuration it may also be a global
	// placeholder such as {env.ALICE_KEY}, which is replaced when the configuration is loaded. Users of other handlers have
	// none. Default: none.
	Secret string `json:"secret,omitempty"`

	// The models that it may ask for, by the names that clients use; an asterisk stands for any characters. Default: all.
	Models []string `json:"models,omitempty"`

	Limits

	// Never send its requests to an upstream that is not local. Default: false.
	LocalOnly bool `json:"local_only,omitempty"`

	// Which waiting requests get the next free slot of a replica first: high, normal or low. Default: normal.
	Priority string `json:"priority,omitempty"`

	// Its share of the slots while requests wait, relative to the other keys of its priority: one with 3 gets three times as much as
	// one with 1. From 1 to 1000. Default: 1.
	Weight int `json:"weight,omitempty"`

	// Whether its owner sees everything on the dashboard, and manages keys there. Default: false, it sees only what is its own.
	Admin bool `json:"admin,omitempty"`

	// When the key expires: 2026-12-31, which is its last day in UTC, or 2026-12-31T18:00:00Z. Default: never.
	Expires string `json:"expires,omitempty"`

	// Words for the access log, such as the team's. Default: none.
	Tags []string `json:"tags,omitempty"`
}

// Check validates the entry except for its secret.
func (e *Entry) Check() error {
	_, err := e.compile("key")
	return err
}

// Expired reports whether a valid entry has ended.
func (e *Entry) Expired(now time.Time) bool {
	end, err := parseExpires(e.Expires)
	return err == nil && !end.IsZero() && !now.Before(end)
}

// compile returns the key of an entry. The kind, "key" or "user", separates callers of the same name.
func (e *Entry) compile(kind string) (*Key, error) {
	if err := checkName(e.Name); err != nil {
		return nil, err
	}
	identity := kind + "/" + e.Name
	limits, err := e.For(identity)
	if err != nil {
		return nil, err
	}
	expires, err := parseExpires(e.Expires)
	if err != nil {
		return nil, err
	}
	priority, err := admission.ParsePriority(e.Priority)
	if err != nil {
		return nil, err
	}
	if e.Weight < 0 || e.Weight > admission.MaxWeight {
		return nil, fmt.Errorf("weight %d is out of range: use 1 to %d", e.Weight, admission.MaxWeight)
	}
	return &Key{
		Name: e.Name, Identity: identity, Models: e.Models, LocalOnly: e.LocalOnly, Priority: priority, Weight: e.Weight, Expires: expires,
		Admin: e.Admin, Tags: e.Tags, Limits: limits,
	}, nil
}

const maxName = 64

// checkName keeps names harmless in logs, headers and file names.
func checkName(name string) error {
	if name == "" || len(name) > maxName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_@+") != "" {
		return fmt.Errorf("invalid name: use 1 to %d letters, digits and .-_@+", maxName)
	}
	return nil
}

func parseExpires(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid expires %q: use a day such as 2026-12-31, or a time such as 2026-12-31T18:00:00Z", text)
	}
	return at, nil
}

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

// For parses the limits of a subject, such as "key/alice". Nil means no limits.
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
