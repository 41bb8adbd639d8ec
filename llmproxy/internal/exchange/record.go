package exchange

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A Record is all that is known of an exchange when it is over. Each part is written by one step, which its type names;
// log lines, placeholders and traces read it also while the exchange is on its way.
type Record struct {
	ID       string
	Endpoint string // "chat", "embeddings", …; "models" for the list
	// Logged says in advance that somebody will read Chars.
	Logged bool
	// Status is what the client was answered; 499 when it left before an answer began.
	Status int
	// Verdict is how the exchange ended; after the first byte a status cannot tell.
	Verdict router.Verdict
	// Err is the error that the client was told, or that ended its stream; nil for none.
	Err      *openai.Error
	Started  time.Time
	Duration time.Duration

	Caller
	Asked
	Routing
	Answer
	Caching
}

// Caller is who sent the request, as authentication found.
type Caller struct {
	// Key is the name of the key or user; empty for anybody.
	Key string
	// Tags and Priority are the key's.
	Tags     []string
	Priority replica.Priority
}

// Asked is what the request asks for, as reading its body found.
type Asked struct {
	Model    string // as the client asked for it
	Stream   bool   // as the client asked for it
	Received int64  // bytes of the request's body
	// Reading is how long the body took to come.
	Reading time.Duration
	// Prompt is the beginning of the last user message, where the configuration wants it logged.
	Prompt string
	// JSON is the request's JSON; nil for a form.
	JSON *openai.Request
}

// Signals returns what the request says of itself, read when somebody asks; nothing of a request that was not JSON.
func (a *Asked) Signals() *openai.Signals {
	if a.JSON == nil {
		return &openai.Signals{}
	}
	return a.JSON.Signals()
}

// Routing is the way that the rules of the configuration chose.
type Routing struct {
	// Rule is the model or pattern of the configuration that the request was routed by, "discover", or empty.
	Rule string
	// Route is the rule that led to the target, or "spill", or "fallback:" and the verdict for which the pool before was left.
	Route string
	// Shadow is the first rule that is only tried out and would have taken the request; empty for none.
	Shadow string
	// Pinned reports whether the rule was that of the session, not that of the request.
	Pinned bool
	// LocalOnly reports whether the request had to stay on local upstreams.
	LocalOnly bool
}

// Answer is what was delivered, or how that failed.
type Answer struct {
	// Target is what answered, "upstream/model", also long ago, into the cache; empty if nothing did.
	Target string
	// Configured is the target as the configuration has it: its model is empty if it is the client's.
	Configured router.Target
	Attempts   []Attempt
	// Warning says what is wrong with an answer that was given: "truncated" where the prompt did not fit and was cut without
	// a word.
	Warning string
	// Usage is what the upstream counted. Estimated reports whether it did not, or whether the client left before it did: then
	// it is estimated from the length of the texts. HasUsage is false where even that is not possible.
	Usage     openai.Usage
	HasUsage  bool
	Estimated bool
	// Cost is what the answer costs in US dollars, by the price of the target that gave it; HasCost is false where that price,
	// or the number of tokens, is not known.
	Cost    float64
	HasCost bool
	// Saved is what the same tokens would have cost at the target's price to compare with, less Cost.
	Saved float64
	// Queue is how long the request waited for slots, Paused how long the gateway waited between attempts.
	Queue, Paused time.Duration
	// FirstContent is how long the first content took from the start; zero if none came.
	FirstContent time.Duration
	Events       int   // events sent to the client
	Bytes        int64 // bytes of the answer's body sent to the client
	// Chars is the characters of text in the answer, reasoning and arguments of tools included. Where nobody logs, they are
	// counted only as far as an estimate of tokens needs them.
	Chars int

	first [1]Attempt // room for the only one, as a rule
}

// AddAttempt adds an attempt that is over.
func (a *Answer) AddAttempt(one Attempt) {
	if a.Attempts == nil {
		a.Attempts = a.first[:0]
	}
	a.Attempts = append(a.Attempts, one)
}

// Caching is what the response cache did.
type Caching struct {
	// Cache is hit, miss, coalesced or bypass; empty where the cache was not asked.
	Cache string
	// Spared is the tokens that the cache spared; they are not part of Usage.
	Spared openai.Usage
}

// An Attempt is one try at one target.
type Attempt struct {
	Target string // "upstream/model"
	// Configured is the target as the configuration has it: its model is empty if it is the client's.
	Configured router.Target
	Address    string // the replica's
	Verdict    router.Verdict
	// Status is what the upstream answered; zero if it did not.
	Status   int
	Duration time.Duration
	// Err is why it failed; it may quote the upstream and is for logs only.
	Err error
}
