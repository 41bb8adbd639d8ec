package access

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// QuotaPath is where a key sees what is left of its limits.
const QuotaPath = "/llm/usage"

// A quotaAnswer is what a key is told of itself.
type quotaAnswer struct {
	Object    string     `json:"object"`
	Key       string     `json:"key,omitempty"` // absent for callers without one
	Expires   *time.Time `json:"expires,omitempty"`
	Models    []string   `json:"models,omitempty"` // absent for all
	LocalOnly bool       `json:"local_only,omitempty"`
	Limits    []quota    `json:"limits"`
}

// A quota is what is left of a limit: requests, tokens, requests at a time or US dollars.
type quota struct {
	Unit  string  `json:"unit"`
	Rule  string  `json:"rule"`
	Limit float64 `json:"limit"`
	Left  float64 `json:"left"`
	// Reset is the number of seconds until all of it is free again, if nothing is used; absent where no time tells.
	Reset *float64 `json:"reset_seconds,omitempty"`
}

// Quota answers GET /llm/usage with what the caller may do and what is left of it. Nothing is taken. H gets the headers that
// tell the same.
func (a *Access) Quota(r *http.Request, h http.Header, key *keys.Key) ([]byte, *openai.Error) {
	answer := quotaAnswer{Object: "llm.usage", Limits: []quota{}}
	if a != nil {
		if key != nil {
			answer.Key, answer.Models, answer.LocalOnly = key.Name, key.Models, key.LocalOnly
			if !key.Expires.IsZero() {
				answer.Expires = &key.Expires
			}
		}
		res, err := a.peek(r, key)
		if err != nil {
			return nil, stateUnavailable("5")
		}
		for i, l := range res.take.Limits {
			answer.Limits = append(answer.Limits, quotaOf(l.Rule, res.take.Left[i]))
		}
		res.announce(h)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, &openai.Error{Status: http.StatusInternalServerError, Type: "server_error", Message: "The quota could not be written as JSON."}
	}
	return body, nil
}

// peek looks what is left of the caller's own limits.
func (a *Access) peek(r *http.Request, key *keys.Key) (*Reservation, error) {
	res := new(Reservation)
	if key != nil {
		res.take.Limits = key.Limits
	} else if len(a.Anonymous) > 0 {
		res.addAddress(a, r)
	}
	return res, a.Limiter.Peek(r.Context(), &res.take)
}

// ShowQuota sets the headers that tell what is left, with an answer for which nothing was taken, if that is known.
func (a *Access) ShowQuota(r *http.Request, h http.Header, key *keys.Key) {
	if a == nil || len(a.Anonymous) == 0 && (key == nil || len(key.Limits) == 0) {
		return
	}
	if res, err := a.peek(r, key); err == nil {
		res.announce(h)
	}
}

func quotaOf(r ratelimit.Rule, left ratelimit.Quota) quota {
	q := quota{Unit: r.Unit.String(), Rule: r.String(), Limit: float64(r.Limit), Left: float64(left.Left)}
	if r.Unit == ratelimit.Spend {
		q.Limit, q.Left = q.Limit/ratelimit.Dollar, q.Left/ratelimit.Dollar
	}
	if left.Reset < ratelimit.Never {
		reset := left.Reset.Seconds()
		q.Reset = &reset
	}
	return q
}

// The headers that tell what is left, in the spelling of http.Header.
const (
	limitRequests     = "X-Ratelimit-Limit-Requests"
	remainingRequests = "X-Ratelimit-Remaining-Requests"
	resetRequests     = "X-Ratelimit-Reset-Requests"
	limitTokens       = "X-Ratelimit-Limit-Tokens"
	remainingTokens   = "X-Ratelimit-Remaining-Tokens"
	resetTokens       = "X-Ratelimit-Reset-Tokens"
)

// announce sets the headers, from the limit of each unit of which the least is left.
func (res *Reservation) announce(h map[string][]string) {
	var least [2]int
	for i, l := range res.take.Limits {
		if u := l.Rule.Unit; u <= ratelimit.Tokens && (least[u] == 0 || res.take.Left[i].Left < res.take.Left[least[u]-1].Left) {
			least[u] = i + 1
		}
	}
	var buffer [160]byte
	var ends [6]int
	text := buffer[:0]
	for u, at := range least {
		if at == 0 {
			continue
		}
		left := res.take.Left[at-1]
		text = strconv.AppendInt(text, res.take.Limits[at-1].Rule.Limit, 10)
		ends[3*u] = len(text)
		text = strconv.AppendInt(text, left.Left, 10)
		ends[3*u+1] = len(text)
		text = appendReset(text, left.Reset)
		ends[3*u+2] = len(text)
	}
	all, start := string(text), 0
	for i, name := range [...]string{limitRequests, remainingRequests, resetRequests, limitTokens, remainingTokens, resetTokens} {
		if least[i/3] == 0 {
			continue
		}
		res.values[i] = all[start:ends[i]]
		start = ends[i]
		h[name] = res.values[i : i+1 : i+1]
	}
}

// appendReset writes a duration as OpenAI does, and as Go reads it: 12ms, 1s, 6m0s; rounded up.
func appendReset(b []byte, d time.Duration) []byte {
	if d < time.Second {
		return append(strconv.AppendInt(b, int64((d+time.Millisecond-1)/time.Millisecond), 10), "ms"...)
	}
	s := int64((d + time.Second - 1) / time.Second)
	if s >= 3600 {
		b = append(strconv.AppendInt(b, s/3600, 10), 'h')
	}
	if s >= 60 {
		b = append(strconv.AppendInt(b, s/60%60, 10), 'm')
	}
	return append(strconv.AppendInt(b, s%60, 10), 's')
}
