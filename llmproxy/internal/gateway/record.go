package gateway

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Record is all that is known of a request when it is over.
type Record struct {
	ID string
	// Key is the name of the key or user that called; empty for anybody.
	Key string
	// Tags are the key's.
	Tags []string
	// Priority is the key's.
	Priority router.Priority
	Endpoint string // "chat", "embeddings", …; "models" for the list
	Model    string // as the client asked for it
	Stream   bool   // as the client asked for it
	// Target is what answered, "upstream/model", also long ago, into the cache; empty if nothing did.
	Target string
	// Route is the rule that led to the target, or "fallback:" and the verdict that made the last pool be left.
	Route string
	// Shadow is the first rule that is only tried out and would have taken the request; empty for none.
	Shadow string
	// Pinned tells that the rule was that of the conversation, not that of the request.
	Pinned bool
	// LocalOnly tells that the request was not to leave for an upstream that is not local.
	LocalOnly bool
	// Warning tells what is wrong with an answer that was given: "truncated" where the prompt did not fit and was cut
	// without a word.
	Warning  string
	Attempts []Attempt
	// Status is what the client was answered; 499 when it left before an answer began.
	Status int
	// Verdict is how the request ended; after the first byte a status cannot tell.
	Verdict router.Verdict
	// Err is the error that the client was told, or that ended its stream; nil for none.
	Err *wire.Error
	// Usage is what the upstream counted. Estimated tells that it did not, or that the client left before it did: then it is
	// reckoned from the length of the texts. HasUsage is false where even that is not possible.
	Usage     wire.Usage
	HasUsage  bool
	Estimated bool
	// Spared is the tokens that the cache spared; they are not part of Usage.
	Spared wire.Usage
	// Cost is what the answer costs in US dollars, by the price of the target that gave it; HasCost is false where that
	// price, or the number of tokens, is not known.
	Cost    float64
	HasCost bool
	// Saved is what the same tokens would have cost at the target's price to compare with, less Cost.
	Saved   float64
	Started time.Time
	// Queue is how long the request waited for slots.
	Queue time.Duration
	// FirstContent is how long the first content took from the start; zero if none came.
	FirstContent time.Duration
	Duration     time.Duration
	Events       int   // events sent to the client
	Bytes        int64 // bytes of the answer's body sent to the client
	// Chars is the characters of text in the answer, reasoning and arguments of tools included. Where nobody logs, they are
	// counted only as far as an estimate of tokens needs them.
	Chars int
	// Logged tells beforehand that somebody will read Chars.
	Logged   bool
	Received int64 // bytes of the request's body
	// Reading is how long the request's body took to come.
	Reading time.Duration
	// Prompt is the beginning of the last user message, where the configuration wants it logged.
	Prompt string
	// Cache is what the cache did: hit, miss, coalesced, bypass or semantic; empty where it was not asked.
	Cache string
	// Similarity is how much the question reads like the one whose answer was given, where Cache is semantic, else like the nearest
	// one that it was compared with: from 0 to 1.
	Similarity float64
	// Embedding is how the call of the cache's embedder ended: ok, failed, or resting where it was left alone; empty where
	// there was none. Embedded is how long it took.
	Embedding string
	Embedded  time.Duration
	// Paused is how long the gateway waited between attempts.
	Paused time.Duration
	// Rule is the model or pattern of the configuration that the request was routed by, "discover", or empty.
	Rule string
	// Configured is the target that answered as the configuration has it: its model is empty if it is the client's.
	Configured router.Target
	head       *wire.Head
	first      [1]Attempt // room for the only one, as a rule
}

// Signals are what the request says of itself, read when somebody asks; none of a request that was not JSON.
func (r *Record) Signals() *wire.Signals {
	if r.head == nil {
		return &wire.Signals{}
	}
	return r.head.Signals()
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
