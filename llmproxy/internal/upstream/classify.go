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
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Finding is what an error of an upstream means.
type Finding struct {
	Verdict router.Verdict
	// Loading means that the server says that it is loading its model.
	Loading bool
	// RetryAfter is how long the upstream asks to be left alone; zero if it does not.
	RetryAfter time.Duration
	// ContextWindow is the one that an Unsupported names, in tokens; zero if it names none.
	ContextWindow int
	// MaxOutput is how many tokens of output an Adjustable allows.
	MaxOutput int
}

// Outcome returns what the router has to know of the finding.
func (f Finding) Outcome() router.Outcome {
	return router.Outcome{Verdict: f.Verdict, RetryAfter: f.RetryAfter, Loading: f.Loading}
}

// Classify returns what an answer means whose status is not 200.
func (k *Kind) Classify(status int, header http.Header, body []byte) Finding {
	e := upstreamError{status: status, body: body}
	e.Error, _ = openai.ParseError(body)
	f := k.classify(&e)
	if f.Verdict == router.Overloaded || f.Verdict == router.Unreachable {
		f.RetryAfter = retryAfter(header, body)
	}
	return f
}

// ClassifyEvent returns what an error means that came with status 200: as the first event of a stream, or as the whole answer.
// Its value is that of the member "error".
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
	status int // zero for an error with status 200 that names no other
	body   []byte
}

// classify returns what the first matching row says: of the kind's own, of those of all OpenAI-compatible servers, and of those
// that go by the status alone.
func (k *Kind) classify(e *upstreamError) Finding {
	if n, ok := maxOutput(e.Message); ok {
		return Finding{Verdict: router.Adjustable, MaxOutput: n}
	}
	for _, rows := range [...][]errorRow{k.errors, OpenAI.errors, statusErrors} {
		if i := slices.IndexFunc(rows, func(r errorRow) bool { return r.matches(e) }); i >= 0 {
			f := Finding{Verdict: rows[i].is, Loading: rows[i].loading}
			if f.Verdict == router.Unsupported {
				f.ContextWindow = contextWindow(e)
			}
			return f
		}
	}
	if e.status == 0 || e.status >= 500 {
		return Finding{Verdict: router.Failed}
	}
	return Finding{Verdict: router.ClientError}
}

// An errorRow is a row of a table of errors. A zero field matches everything.
type errorRow struct {
	from, to int    // of the status; to defaults to from
	typ      string // or Gemini's "status"
	code     string
	param    string
	words    string // in the message
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
	case r.words != "" && !strings.Contains(e.Message, r.words):
		return false
	}
	return r.body == "" || bytes.Contains(e.body, []byte(r.body))
}

// statusErrors are the rows for errors whose words are unknown.
var statusErrors = []errorRow{
	{from: 202, to: 299, is: router.Failed},        // an answer that is still to be fetched, or a part of one
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
	{typ: "invalid_request_error", is: router.ClientError}, // with status 200, and none in the error
}

// Servers tell their limits in prose only, and any kind may pass on the words of another one: patterns of all kinds are tried.

// maxOutput returns how many tokens of output an error allows. It reports false if the error is about something else, or allows
// none.
func maxOutput(message string) (int, bool) {
	for _, k := range Kinds {
		for _, pattern := range k.outputLimits {
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

// contextWindow returns the context window that an error names; zero if it names none.
func contextWindow(e *upstreamError) int {
	for _, k := range Kinds {
		for _, pattern := range k.contextLimits {
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

// number returns the number in a group of a pattern; zero if the pattern has no such group.
func number(pattern *regexp.Regexp, match []string, group string) int {
	i := pattern.SubexpIndex(group)
	if i < 0 {
		return 0
	}
	n, _ := strconv.Atoi(match[i]) // digits; too many of them are no limit
	return n
}

// retryAfterWords are those of Azure and OpenAI ("try again in 1.2s", "retry after 6 seconds") and of Gemini ("retryDelay":
// "13s"), for answers without the header.
var retryAfterWords = regexp.MustCompile(`(?i)(?:(?:re)?try (?:again in|after) |"retryDelay":\s*")(\d+(?:\.\d+)?)\s?(ms|s)`)

// retryAfter returns how long a server asks to be left alone, zero if it does not: in the milliseconds of OpenAI and Azure, in
// seconds with or without a fraction, as a date, or in words.
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
	m := retryAfterWords.FindSubmatch(body)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64) // the pattern is that of a number
	if strings.EqualFold(string(m[2]), "ms") {
		return duration(n, time.Millisecond)
	}
	return duration(n, time.Second)
}

// duration returns n units, a year at most: the number is a server's.
func duration(n float64, unit time.Duration) time.Duration {
	return time.Duration(min(n*float64(unit), float64(365*24*time.Hour)))
}
