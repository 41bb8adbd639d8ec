package access

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// QuotaPath is where callers can see their quota.
const QuotaPath = "/llm/usage"

// A quotaAnswer is the answer to GET /llm/usage.
type quotaAnswer struct {
	Object    string     `json:"object"`
	Key       string     `json:"key,omitempty"` // omitted for callers without a key
	Expires   *time.Time `json:"expires,omitempty"`
	Models    []string   `json:"models,omitempty"` // omitted if all models are allowed
	LocalOnly bool       `json:"local_only,omitempty"`
	Limits    []quota    `json:"limits"`
}

// A quota is what is left of a limit, in requests, tokens, concurrent requests or US dollars.
type quota struct {
	Unit  string  `json:"unit"`
	Rule  string  `json:"rule"`
	Limit float64 `json:"limit"`
	Left  float64 `json:"left"`
	// Reset is the number of seconds until the whole limit is available again if nothing more is used. It is omitted for limits that do
	// not depend on time.
	Reset *float64 `json:"reset_seconds,omitempty"`
}

// Quota returns the answer to GET /llm/usage, and sets the quota headers in h. It does not count as a request.
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
		for i, l := range res.admission.Limits {
			answer.Limits = append(answer.Limits, quotaOf(l.Rule, res.admission.Left[i]))
		}
		res.setHeaders(h)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, &openai.Error{Status: http.StatusInternalServerError, Type: exchange.ServerError, Message: "The quota could not be written as JSON."}
	}
	return body, nil
}

// peek returns a reservation that takes nothing, with what is left of the caller's own limits in its admission.
func (a *Access) peek(r *http.Request, key *keys.Key) (*Reservation, error) {
	res := new(Reservation)
	if key != nil {
		res.admission.Limits = key.Limits
	} else {
		res.addAddress(a, r)
	}
	return res, a.Limiter.Peek(r.Context(), &res.admission)
}

// SetQuotaHeaders sets the quota headers of an answer for which nothing was reserved, if the quota is known.
func (a *Access) SetQuotaHeaders(r *http.Request, h http.Header, key *keys.Key) {
	if a == nil || len(a.Anonymous) == 0 && (key == nil || len(key.Limits) == 0) {
		return
	}
	if res, err := a.peek(r, key); err == nil {
		res.setHeaders(h)
	}
}

func quotaOf(r ratelimit.Rule, left ratelimit.Quota) quota {
	q := quota{Unit: r.Unit.String(), Rule: r.String(), Limit: float64(r.Limit), Left: float64(left.Left)}
	if r.Unit == ratelimit.Spend {
		q.Limit, q.Left = q.Limit/ratelimit.Dollar, q.Left/ratelimit.Dollar
	}
	if left.Reset < ratelimit.Never {
		reset := math.Ceil(left.Reset.Seconds()*1000) / 1000 // nobody needs more digits
		q.Reset = &reset
	}
	return q
}

// The quota headers, in the spelling of http.Header.
const (
	limitRequests     = "X-Ratelimit-Limit-Requests"
	remainingRequests = "X-Ratelimit-Remaining-Requests"
	resetRequests     = "X-Ratelimit-Reset-Requests"
	limitTokens       = "X-Ratelimit-Limit-Tokens"
	remainingTokens   = "X-Ratelimit-Remaining-Tokens"
	resetTokens       = "X-Ratelimit-Reset-Tokens"
)

// setHeaders sets the quota headers: for each unit, those of the limit with the least left.
func (res *Reservation) setHeaders(h map[string][]string) {
	least := res.leastLeft()
	var buffer [160]byte
	var ends [6]int
	text := buffer[:0]
	for u, scarce := range least {
		if scarce.limit == nil {
			continue
		}
		text = strconv.AppendInt(text, scarce.limit.Rule.Limit, 10)
		ends[3*u] = len(text)
		text = strconv.AppendInt(text, scarce.left.Left, 10)
		ends[3*u+1] = len(text)
		text = appendReset(text, scarce.left.Reset)
		ends[3*u+2] = len(text)
	}
	all, start := string(text), 0
	for i, name := range [...]string{limitRequests, remainingRequests, resetRequests, limitTokens, remainingTokens, resetTokens} {
		if least[i/3].limit == nil {
			continue
		}
		res.values[i] = all[start:ends[i]]
		start = ends[i]
		h[name] = res.values[i : i+1 : i+1]
	}
}

// A scarce is the limit of a unit that is closest to its end.
type scarce struct {
	limit *ratelimit.Limit
	left  ratelimit.Quota
}

// leastLeft returns the limits of requests and of tokens that are closest to their ends.
func (res *Reservation) leastLeft() (least [2]scarce) {
	for _, part := range [...]*ratelimit.Reservation{&res.admission, &res.usage} {
		for i, left := range part.Left {
			l := part.Limits[i]
			if u := l.Rule.Unit; u <= ratelimit.Tokens && (least[u].limit == nil || left.Left < least[u].left.Left) {
				least[u] = scarce{l, left}
			}
		}
	}
	return least
}

// appendReset appends a duration in the format of OpenAI's headers, which Go can parse: 12ms, 1s, 6m0s. It rounds up.
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
