package exchange

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// A Record is what is known about an exchange. Each part is written by one step of the pipeline. Log lines and traces of attempts
// and the placeholders of other handlers read it while the exchange is still in progress.
type Record struct {
	ID       string
	Endpoint string // "chat", "embeddings", …; "models" for the list of models
	// Logged means that the request has an access log, which shows Chars and may contain placeholders such as {llm.content}.
	Logged bool
	// Verdict is how the exchange ended, which the status does not show if the answer had already begun.
	Verdict router.Verdict
	// Status is the status of the response; 499 if the client left before it began.
	Status int
	// Err is the error that the client got, as a response or at the end of its stream; nil if there was none.
	Err      *openai.Error
	Started  time.Time
	Duration time.Duration

	Caller
	RequestInfo
	Routing
	Answer
	Caching
}

// Caller is who sent the request, as determined by authentication.
type Caller struct {
	// Key is the name of the key or user; empty if callers need no key.
	Key string
	// Identity distinguishes a key from a user of the same name. It is empty if callers need no key.
	Identity string
	// Tags, Priority and Weight are those of the key.
	Tags     []string
	Priority admission.Priority
	Weight   int
	// KeyInQuery reports whether the query string contains a valid key, which logs then show.
	KeyInQuery bool
}

// RequestInfo is what the body of the request says.
type RequestInfo struct {
	Model    string        // the model that the client named
	Stream   bool          // the client asked for a stream
	Received int64         // size of the request body in bytes
	ReadTime time.Duration // how long the body took to arrive
	// Prompt is the beginning of the last user message if log_prompts is set.
	Prompt string
	// JSON is the request's JSON; nil if the request was a form.
	JSON *openai.Request
}

// Signals returns what routing rules can match in the request. They are computed on the first call. If the request was a form,
// they are zero.
func (i *RequestInfo) Signals() *openai.Signals {
	if i.JSON == nil {
		return &openai.Signals{}
	}
	return i.JSON.Signals()
}

// Routing is which rules of the configuration chose the target.
type Routing struct {
	// Rule is the model or pattern of the configuration that the request's model matched, or "discover"; empty if none matched.
	Rule string
	// Route is the rule that led to the target, or "spill", or "fallback:" and the verdict that ended the previous
	// pool.
	Route string
	// Shadow is the first shadow rule that would have matched; empty if none would.
	Shadow string
	// SessionRoute reports whether session affinity chose the route, not the request itself.
	SessionRoute bool
	// LocalOnly reports whether only local upstreams could be asked.
	LocalOnly bool
}

// Answer is what was delivered, or how delivery failed.
type Answer struct {
	// Target is where the answer came from, as "upstream/model"; for a cached answer, where it came from originally. It is empty if
	// there was no answer.
	Target string
	// Configured is the target as it is configured: its model is empty if the client chooses it.
	Configured router.Target
	Attempts   []Attempt
	// ResponseID is the ID under which the upstream may have stored a response of the Responses API.
	ResponseID string
	// Warning is what is wrong with a successful answer: "truncated" if the upstream silently cut the prompt.
	Warning string
	// Usage is what the upstream counted. If it did not, or the client left before it did, Estimated is true and Usage is estimated
	// from the length of the texts. HasUsage is false if no estimate is possible either.
	Usage     tokens.Usage
	HasUsage  bool
	Estimated bool
	// Cost is the price of the answer in US dollars at the target that gave it. HasCost is false if the price or the usage is
	// unknown.
	HasCost bool
	Cost    float64
	// ServiceTier is the service tier that answered, if it has prices of its own: priority, flex or batch.
	ServiceTier string
	// Saved is how much more the same tokens would have cost in US dollars at the price that the target is compared with.
	Saved float64
	// Queue is how long the request waited for slots, Paused how long the gateway waited between attempts.
	Queue, Paused time.Duration
	// Predicted is the predicted time from when the request asked for a slot to the first content, and Real that time as it was. They are
	// zero if nothing was predicted.
	Predicted, Real time.Duration
	// FirstContent is the time from the start to the first content; zero if there was none.
	FirstContent time.Duration
	Events       int   // events sent to the client
	Bytes        int64 // bytes of the response body sent to the client
	// Chars is the number of characters of text in the answer, including reasoning and the arguments of tool calls. Unless Logged is
	// set, they are counted only if the usage may have to be estimated.
	Chars int

	first [1]Attempt // storage for Attempts, which usually has one element
}

// AddAttempt adds an attempt that has ended.
func (a *Answer) AddAttempt(one Attempt) {
	if a.Attempts == nil {
		a.Attempts = a.first[:0]
	}
	a.Attempts = append(a.Attempts, one)
}

// Caching is what the response cache did.
type Caching struct {
	// Cache is hit, miss, coalesced or bypass; empty if the cache was not involved.
	Cache string
	// SavedInput and SavedOutput are the tokens that the cache saved. They are not part of Usage.
	SavedInput, SavedOutput int64
}

// An Attempt is one try at one target.
type Attempt struct {
	Target string // "upstream/model"
	// Configured is the target as it is configured: its model is empty if the client chooses it.
	Configured router.Target
	Address    string // the replica's address
	Verdict    router.Verdict
	// Blameless means that a failure says nothing about the upstream, because the gateway ended the attempt for another reason.
	Blameless bool
	// Status is the status of the upstream's response; zero if there was none.
	Status   int
	Duration time.Duration
	// Err is why the attempt failed. It may quote the upstream and is for logs only.
	Err error
}
