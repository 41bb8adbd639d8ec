package upstream

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Finding is what an error that an upstream sent means.
type Finding struct {
	Verdict router.Verdict
	// Loading tells that the server says of itself that it is loading its model.
	Loading bool
	// RetryAfter is how long it asks to be left alone; zero if it does not.
	RetryAfter time.Duration
	// Limit is the context length that a FitsElsewhere tells, in tokens; zero if it tells none.
	Limit int
	// MaxOutput is what a Fixable allows to ask for, in tokens.
	MaxOutput int
}

// Outcome is the finding as far as the walk is concerned.
func (f Finding) Outcome() router.Outcome {
	return router.Outcome{Verdict: f.Verdict, RetryAfter: f.RetryAfter, Loading: f.Loading}
}

// Classify tells what an answer means whose status is not 200.
func (k *Kind) Classify(status int, header http.Header, body []byte) Finding {
	e := problem{status: status, body: body}
	e.message, e.typ, e.code, e.param, _ = openai.ErrorOf(body)
	f := k.judge(&e)
	if f.Verdict == router.Overloaded || f.Verdict == router.Unreachable {
		f.RetryAfter = retryAfter(header, body)
	}
	return f
}

// ClassifyEvent tells what an error means that came inside a 200: as the first event of a stream or as the whole answer.
// Value is what stood at "error".
func (k *Kind) ClassifyEvent(value []byte) Finding {
	e := problem{body: append(append([]byte(`{"error":`), value...), '}')}
	e.message, e.typ, e.code, e.param, _ = openai.ErrorOf(e.body)
	if len(e.code) == 3 && e.code[0] >= '4' && e.code[0] <= '5' {
		e.status = int(e.code[0]-'0')*100 + int(e.code[1]-'0')*10 + int(e.code[2]-'0')
	}
	f := k.judge(&e)
	if f.Verdict == router.Overloaded {
		f.RetryAfter = retryAfter(nil, e.body)
	}
	return f
}

// A problem is an error as a server tells it.
type problem struct {
	status                    int // zero for an error inside a 200 that names none
	message, typ, code, param string
	body                      []byte
}

// judge finds the first row that fits: the kind's own, the ones of all, then those that go by the status alone.
func (k *Kind) judge(e *problem) Finding {
	if n, ok := outputThatFits(e.message); ok {
		return Finding{Verdict: router.Adjustable, MaxOutput: n}
	}
	for _, rows := range [...][]row{k.errors, everywhere, statuses} {
		if i := slices.IndexFunc(rows, func(r row) bool { return r.fits(e) }); i >= 0 {
			f := Finding{Verdict: rows[i].is, Loading: rows[i].loading}
			if f.Verdict == router.Unsupported {
				f.Limit = contextLimit(e)
			}
			return f
		}
	}
	if e.status == 0 || e.status >= 500 {
		return Finding{Verdict: router.Failed}
	}
	return Finding{Verdict: router.ClientError}
}

// A row of a table of errors. What is not given does not matter.
type row struct {
	from, to int    // of the status; to is from where it is zero
	typ      string // or Gemini's "status"
	code     string
	param    string
	words    string // in the message
	body     string // anywhere in the body
	is       router.Verdict
	loading  bool
}

func (r *row) fits(e *problem) bool {
	switch {
	case r.from != 0 && (e.status < r.from || e.status > max(r.from, r.to)):
		return false
	case r.typ != "" && r.typ != e.typ, r.code != "" && r.code != e.code, r.param != "" && r.param != e.param:
		return false
	case r.words != "" && !strings.Contains(e.message, r.words):
		return false
	}
	return r.body == "" || bytes.Contains(e.body, []byte(r.body))
}
