package upstream

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// An addition is something that the gateway adds to a request on its own. If an upstream refuses it, the client must not notice.
type addition struct {
	// name identifies it in logs and in what is remembered.
	name string
	// words are what an error calls it, in lower case.
	words []string
}

// usageOptions are the additions by which the gateway asks for the usage of a stream: the whole member, or one member of the client's
// own options. In the latter case, an error that only names stream_options is about what the client sent.
var (
	usageMember = &addition{"stream_options", []string{"stream_options", "streamoptions", "stream options", "include_usage", "includeusage"}}
	usageOption = &addition{"stream_options.include_usage", []string{"include_usage", "includeusage"}}
)

// unknownWords are how servers say that a request has a member that they do not know, without saying which one.
var unknownWords = []string{
	"unknown parameter", "unknown_parameter", "unknown field", "unknown argument", "unknown name", "unrecognized", "unsupported parameter",
	"unsupported_parameter", "extra_forbidden", "extra inputs", "extra fields", "additional propert", "additionalpropert", "unexpected keyword",
	"unexpected field", "unexpected propert", "unexpected parameter",
}

// refusedBy reports whether an error with this status may be about the addition.
func (a *addition) refusedBy(status int, body []byte) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		return false
	}
	if status > http.StatusNotImplemented {
		return false
	}
	text := bytes.ToLower(body)
	contains := func(word string) bool { return bytes.Contains(text, []byte(word)) }
	if slices.ContainsFunc(a.words, contains) {
		return true
	}
	if !slices.ContainsFunc(unknownWords, contains) {
		return false
	}
	e, _ := openai.ParseError(body)
	return e.Param == "" && !strings.ContainsAny(e.Message, "'\"`:") // it names no other member
}

// ClassifyAnswer returns what an answer with a status other than 200 to the last request of a template means. An error that is only
// about something that the gateway added is Adjustable.
func (u *Upstream) ClassifyAnswer(t *Template, status int, header http.Header, body []byte) Finding {
	if f, ok := t.refused(status, body); ok {
		return f
	}
	return u.ActualKind().Classify(status, header, body)
}

// ClassifyEvent is ClassifyAnswer for an error that came with status 200. Value is that of the member "error".
func (u *Upstream) ClassifyEvent(t *Template, value []byte) Finding {
	if f, ok := t.refused(0, value); ok {
		return f
	}
	return u.ActualKind().ClassifyEvent(value)
}

func (t *Template) refused(status int, body []byte) (Finding, bool) {
	if t.added == nil || !t.added.refusedBy(status, body) {
		return Finding{}, false
	}
	return Finding{Outcome: router.Outcome{Verdict: router.Adjustable, Adjust: t.added.name}}, true
}

const (
	refusedFor  = time.Hour // a server may be updated
	maxRefusals = 64        // of an upstream that are remembered
)

// refusals remember which models of an upstream refuse which additions.
type refusals struct {
	mu    sync.RWMutex
	until map[refusal]time.Time
}

type refusal struct{ model, addition string }

// LearnRefused remembers that a model takes requests without an addition, but refused one with it.
func (u *Upstream) LearnRefused(model, addition string) {
	r := &u.refusals
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil || len(r.until) >= maxRefusals {
		r.until = map[refusal]time.Time{}
	}
	r.until[refusal{model, addition}] = time.Now().Add(refusedFor)
}

func (u *Upstream) refuses(model string, a *addition) bool {
	r := &u.refusals
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.until) > 0 && time.Now().Before(r.until[refusal{model, a.name}])
}
