package upstream

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
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

// toggleAddition is what turns thinking on or off.
var toggleAddition = &addition{thinking.TemplateMember, []string{thinking.TemplateMember, "chat_template", "enable_thinking"}}

// effortAddition has the words by which errors call an effort. It may be the client's own: that is a wish as well.
var effortAddition = &addition{thinking.EffortMember, []string{
	thinking.EffortMember, "reasoning effort", "reasoning.effort", "reasoning value", "think value", "support thinking", "support reasoning", "works in thinking mode", "thinking level",
	"thinking_level", "thinking budget", "thinking is not", "reasoning is not", "effort parameter",
}}

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
// about something that the gateway added, or about the Responses API itself, is Adjustable.
func (u *Upstream) ClassifyAnswer(t *Template, status int, header http.Header, body []byte) Finding {
	if f, ok := t.refusal(status, body); ok {
		return f
	}
	f := u.ActualKind().Classify(status, header, body)
	if u.lacksResponses(t, status, body, f.Verdict) {
		return Finding{Outcome: router.Outcome{Verdict: router.Adjustable, Adjust: responsesAPI.name}}
	}
	return f
}

// ClassifyEvent is ClassifyAnswer for an error that came with status 200. Value is that of the member "error".
func (u *Upstream) ClassifyEvent(t *Template, value []byte) Finding {
	if f, ok := t.refusal(0, value); ok {
		return f
	}
	return u.ActualKind().ClassifyEvent(value)
}

// responsesAPI is refused by servers that do not have the Responses API, or do not know the tools of a request.
var responsesAPI = &addition{name: "responses"}

// lacksResponses reports whether an error means that the request should go by chat: the server does not have the Responses API, or it does
// not know some of the tools. OpenAI's own errors are about the request, and so are those of a server whose Responses API is avoided: it
// gets only what chat cannot express.
func (u *Upstream) lacksResponses(t *Template, status int, body []byte, is router.Verdict) bool {
	if !t.Endpoint.IsResponses() || t.detour != nil || t.JSON == nil || u.isOpenAI() || slices.Contains(u.ActualKind().avoids, t.Endpoint.Name) {
		return false
	}
	switch status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return is == router.Unsupported
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusInternalServerError:
		tools, _ := t.JSON.Get("tools")
		return bytes.Contains(bytes.ToLower(body), []byte("tool")) && dialect.HasOtherTools(tools)
	}
	return false
}

// refusal returns the finding of an error that is about something that the gateway added, or about the client's wish.
func (t *Template) refusal(status int, body []byte) (Finding, bool) {
	for _, a := range t.added {
		if a.refusedBy(status, body) {
			return Finding{Outcome: router.Outcome{Verdict: router.Adjustable, Adjust: a.name}}, true
		}
	}
	if t.said == thinking.Unsaid || !effortAddition.refusedBy(status, body) {
		return Finding{}, false
	}
	f := Finding{Outcome: router.Outcome{Verdict: router.Adjustable, Adjust: thinking.EffortMember + " " + t.said.String()}}
	text := string(bytes.ToLower(body))
	unknown := slices.ContainsFunc(unknownWords, func(word string) bool { return strings.Contains(text, word) })
	f.takes = thinking.TakenInstead(t.said, text, unknown || t.takes != 0)
	return f, true
}

// Adjust changes the requests of the next attempts by what the target has said of the last one.
func (t *Template) Adjust(f Finding) {
	switch {
	case f.MaxOutput > 0:
		t.MaxOutput = f.MaxOutput
	case f.takes != 0:
		t.takes = f.takes
	default:
		t.without = append(t.without, f.Adjust)
	}
}

// Unadjusted undoes all adjustments, because another target may take other requests.
func (t *Template) Unadjusted() { t.MaxOutput, t.takes, t.without = 0, 0, t.without[:0] }

// refused reports whether the target has refused an addition to this request.
func (t *Template) refused(a *addition) bool { return slices.Contains(t.without, a.name) }

const (
	refusedFor  = time.Hour // a server may be updated
	maxRefusals = 64        // of an upstream that are remembered
)

// refusals remember which models of an upstream refuse which additions, and which efforts they take.
type refusals struct {
	mu      sync.RWMutex
	until   map[refusal]time.Time
	efforts map[string]learnedEfforts // by model
}

type refusal struct{ model, addition string }

// LearnRefused remembers what was adjusted before a model took a request.
func (u *Upstream) LearnRefused(model string, t *Template) {
	if len(t.without) == 0 && t.takes == 0 {
		return
	}
	r := &u.refusals
	r.mu.Lock()
	defer r.mu.Unlock()
	until := time.Now().Add(refusedFor)
	for _, name := range t.without {
		if r.until == nil || len(r.until) >= maxRefusals {
			r.until = map[refusal]time.Time{}
		}
		r.until[refusal{model, name}] = until
	}
	if t.takes != 0 {
		if r.efforts == nil || len(r.efforts) >= maxRefusals {
			r.efforts = map[string]learnedEfforts{}
		}
		r.efforts[model] = learnedEfforts{t.takes, until}
	}
}

func (u *Upstream) refuses(model string, a *addition) bool {
	r := &u.refusals
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.until) > 0 && time.Now().Before(r.until[refusal{model, a.name}])
}

// takes returns the efforts that a model was found to take; zero if nothing is known.
func (r *refusals) takes(model string) thinking.Efforts {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if learned := r.efforts[model]; time.Now().Before(learned.until) {
		return learned.takes
	}
	return 0
}

// A learnedEfforts is what a model was found to take.
type learnedEfforts struct {
	takes thinking.Efforts
	until time.Time
}

// unknownWords are how servers say that a request has a member that they do not know, without saying which one.
var unknownWords = []string{
	"unknown parameter", "unknown_parameter", "unknown field", "unknown argument", "unknown name", "unrecognized", "unsupported parameter",
	"unsupported_parameter", "extra_forbidden", "extra inputs", "extra fields", "additional propert", "additionalpropert", "unexpected keyword",
	"unexpected field", "unexpected propert", "unexpected parameter",
}
