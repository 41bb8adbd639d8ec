package upstream

import (
	"bytes"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Finding is what an error of an upstream means.
type Finding struct {
	router.Outcome
	// ContextWindow is the context window that an Unsupported error states, in tokens, or zero.
	ContextWindow int
	// MaxOutput is how many tokens of output an Adjustable error allows.
	MaxOutput int
	takes     thinking.Efforts // that an Adjustable error leaves; zero if it is not about that
}

// Classify returns what an answer with a status other than 200 means.
func (k *Kind) Classify(status int, header http.Header, body []byte) Finding {
	e := upstreamError{status: status, body: body}
	e.Error, _ = openai.ParseError(body)
	f := k.classify(&e)
	if f.Verdict == router.Overloaded || f.Verdict == router.Unreachable {
		f.RetryAfter = retryAfter(header, body)
	}
	return f
}

// ClassifyEvent returns what an error that came with status 200 means, as an event of a stream or as the whole answer. Value is that
// of the member "error".
func (k *Kind) ClassifyEvent(value []byte) Finding {
	e := upstreamError{body: append(append([]byte(`{"error":`), value...), '}')}
	e.Error, _ = openai.ParseError(e.body)
	if len(e.Code) == 3 && (e.Code[0] == '4' || e.Code[0] == '5') {
		e.status, _ = strconv.Atoi(e.Code) // zero for a code that is a word
	}
	f := k.classify(&e)
	if f.Verdict == router.Overloaded {
		f.RetryAfter = retryAfter(nil, e.body)
	}
	return f
}

// An upstreamError is an error as a server sent it.
type upstreamError struct {
	openai.Error
	status int // zero if the error came with status 200 and states no other
	body   []byte
}

// classify returns the finding of the first matching row: first of the kind's own rows, then of those for all OpenAI-compatible
// servers, and last of those that match only the status.
func (k *Kind) classify(e *upstreamError) Finding {
	if n, ok := maxOutput(e.Message); ok {
		return Finding{Outcome: router.Outcome{Verdict: router.Adjustable, Adjust: "max_tokens"}, MaxOutput: n}
	}
	for _, rows := range [...][]errorRow{k.errors, OpenAI.errors, statusErrors} {
		if i := slices.IndexFunc(rows, func(r errorRow) bool { return r.matches(e) }); i >= 0 {
			f := Finding{Outcome: router.Outcome{Verdict: rows[i].is, Loading: rows[i].loading}}
			if f.Verdict == router.Unsupported {
				f.ContextWindow = contextWindow(e)
			}
			return f
		}
	}
	verdict := router.ClientError
	if e.status == 0 || e.status >= 500 {
		verdict = router.Failed
	}
	return Finding{Outcome: router.Outcome{Verdict: verdict}}
}

// An errorRow is a row of a table of errors. A zero field matches any value.
type errorRow struct {
	from, to int    // of the status; to defaults to from
	typ      string // or Gemini's "status"
	code     string
	param    string
	text     string // in the message
	body     string // anywhere in the body
	is       router.Verdict
	loading  bool
}

func (r *errorRow) matches(e *upstreamError) bool {
	switch {
	case r.from != 0 && (e.status < r.from || e.status > max(r.from, r.to)):
		return false
	case r.typ != "" && r.typ != e.Type, r.code != "" && r.code != e.Code, r.param != "" && r.param != e.Param:
		return false
	case r.text != "" && !strings.Contains(e.Message, r.text):
		return false
	}
	return r.body == "" || bytes.Contains(e.body, []byte(r.body))
}

// statusErrors are the rows for errors whose text is unknown.
var statusErrors = []errorRow{
	{from: 202, to: 299, is: router.Failed},        // the answer must be fetched elsewhere, or is only a part
	{from: 300, to: 399, is: router.Misconfigured}, // an API does not redirect: the address is wrong
	{from: 401, to: 403, is: router.Misconfigured},
	{from: 404, to: 405, is: router.Unsupported}, // this server lacks the endpoint
	{from: 408, is: router.Failed},
	{from: 429, is: router.Overloaded},
	{from: 498, is: router.Overloaded}, // Groq: no capacity for the service tier "flex"
	{from: 499, is: router.Failed},
	{from: 501, is: router.Unsupported},
	{from: 503, is: router.Overloaded},
	{from: 529, is: router.Overloaded},
	{typ: "invalid_request_error", is: router.ClientError}, // with status 200, and without a status in the error
}

// Servers state their limits only in prose, and a server of one kind may pass on the message of another, so the patterns of all kinds
// are tried.

// maxOutput returns how many tokens of output an error allows. It reports false if the error is about something else, or allows
// none.
func maxOutput(message string) (int, bool) {
	for _, k := range Kinds {
		for _, pattern := range k.outputPatterns {
			if m := pattern.FindStringSubmatch(message); m != nil {
				n := number(pattern, m, "limit") - number(pattern, m, "used")
				if pattern.SubexpIndex("exclusive") >= 0 {
					n--
				}
				return n, n > 0
			}
		}
	}
	return 0, false
}

// contextWindow returns the context window that an error states, or zero.
func contextWindow(e *upstreamError) int {
	for _, k := range Kinds {
		for _, pattern := range k.contextPatterns {
			m := pattern.FindStringSubmatch(e.Message)
			if m == nil {
				m = pattern.FindStringSubmatch(string(e.body))
			}
			if m != nil {
				return number(pattern, m, "limit")
			}
		}
	}
	return 0
}

// number returns the number that a group of a pattern matched, or zero if the pattern has no such group.
func number(pattern *regexp.Regexp, match []string, group string) int {
	i := pattern.SubexpIndex(group)
	if i < 0 {
		return 0
	}
	n, _ := strconv.Atoi(match[i]) // only digits; if there are too many, the largest int
	return n
}

// retryAfterText matches the text of Azure and OpenAI ("try again in 1.2s", "retry after 6 seconds") and of Gemini ("retryDelay":
// "13s"), for answers without the header.
var retryAfterText = regexp.MustCompile(`(?i)(?:(?:re)?try (?:again in|after) |"retryDelay":\s*")(\d+(?:\.\d+)?)\s?(ms|s)`)

// retryAfter returns how long a server asks to wait before a retry, or zero. Servers send it in milliseconds (OpenAI and Azure), in
// seconds with or without a fraction, as a date, or as text.
func retryAfter(header http.Header, body []byte) time.Duration {
	if ms, err := strconv.ParseFloat(header.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return duration(ms, time.Millisecond)
	}
	value := header.Get("Retry-After")
	if s, err := strconv.ParseFloat(value, 64); err == nil && s > 0 {
		return duration(s, time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	m := retryAfterText.FindSubmatch(body)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64) // the pattern matches only numbers
	if strings.EqualFold(string(m[2]), "ms") {
		return duration(n, time.Millisecond)
	}
	return duration(n, time.Second)
}

// duration returns n units, but at most a year, because the number comes from a server.
func duration(n float64, unit time.Duration) time.Duration {
	return time.Duration(min(n*float64(unit), float64(365*24*time.Hour)))
}
