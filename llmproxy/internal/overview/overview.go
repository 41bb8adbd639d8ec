// Package overview is what the gateway is doing now, as operators and callers see it: the slots and queues of all replicas, their
// health, what was spent today, what the caches saved, and the latest requests. It owns the list of the latest requests.
//
// It only looks: it decides nothing, sends nothing to a client, and no request waits for it. It contains no text of prompts and
// answers and no error messages, which may quote them. It stands above state and below telemetry, which tells it of every request,
// and admin and dashboard, which show it.
package overview

import "time"

// A Snapshot is what the gateway is doing at one moment. Durations are in seconds.
type Snapshot struct {
	At time.Time `json:"at"`
	// Upstreams are those of all handlers, in the order of their configuration.
	Upstreams []Upstream `json:"upstreams"`
	// Traffic sums up the requests that ended within the last minute.
	Traffic Traffic `json:"traffic"`
	Spending
	Cache Cache `json:"cache"`
	// Requests are the latest requests, the last one first.
	Requests []Request `json:"requests"`
}

// An Upstream is an upstream with its replicas.
type Upstream struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	Local    bool      `json:"local"`
	Replicas []Replica `json:"replicas"`
}

// A Replica is one address of an upstream.
type Replica struct {
	// Address is its base URL. Callers see its number instead.
	Address string `json:"address"`
	// State is up, half_open, loading, down, open or stuck, since a time; omitted if it has always been up.
	State string     `json:"state"`
	Since *time.Time `json:"since,omitempty"`
	// Verdict is the reason for a state other than up.
	Verdict string `json:"verdict,omitempty"`
	// Slots is how many requests may be in progress at once; zero means no limit.
	Slots int `json:"slots"`
	// InUse is the number of requests in progress, Foreign that of other clients of the server, as far as it says so, and Waiting
	// the number of requests that wait for a slot.
	InUse   int `json:"in_use"`
	Foreign int `json:"foreign"`
	Waiting int `json:"waiting"`
	// Active are the requests in the slots, the oldest first, and Queue those that wait, in the order of their arrival. A request
	// that waits for several replicas is listed at one of them. Those of replicas without a limit are only counted.
	Active []Active  `json:"active"`
	Queue  []Waiting `json:"queue"`
	// Models are the models in memory; omitted if the server does not say so. Hidden are models that it turned out not to have.
	Models []string `json:"models,omitempty"`
	Hidden []string `json:"hidden_models,omitempty"`
	// TokensPerSecond is how many output tokens the replica generated per second, and TTFT the median time to the first token, within
	// the last minute. Streaming is how many tokens per second its streams bring now.
	TokensPerSecond float64  `json:"tokens_per_second"`
	TTFT            *float64 `json:"ttft_seconds,omitempty"`
	Streaming       float64  `json:"streaming_tokens_per_second"`
}

// An Active is a request that holds a slot.
type Active struct {
	ID    string `json:"id"`
	Key   string `json:"key,omitempty"`
	Model string `json:"model"` // the name that the client used
	// For is how long it has held the slot.
	For float64 `json:"for_seconds"`
	// GivenUp means that its client has left or the gateway has given it up, but the server is still at work on it.
	GivenUp bool `json:"given_up,omitempty"`
}

// A Waiting is a request that waits for a slot.
type Waiting struct {
	ID       string `json:"id"`
	Key      string `json:"key,omitempty"`
	Model    string `json:"model"`
	Priority string `json:"priority"`
	Position int    `json:"position"`
	// Waited is how long it has waited, and Wait how much longer it is expected to; omitted if that is unknown.
	Waited float64  `json:"waited_seconds"`
	Wait   *float64 `json:"wait_seconds,omitempty"`
}

// Traffic sums up the requests that ended within a time.
type Traffic struct {
	// Window is that time: a minute, or less if more requests ended than are kept.
	Window   float64 `json:"window_seconds"`
	Requests int     `json:"requests"`
	// Failed is how many of them ended with a status of 500 or more, or broke off.
	Failed            int     `json:"failed"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	TokensPerSecond   float64 `json:"tokens_per_second"`
	// The time to the first token of streams: the median, and what 95 % of them needed at most. Omitted without any.
	TTFTMedian *float64 `json:"ttft_p50_seconds,omitempty"`
	TTFT95     *float64 `json:"ttft_p95_seconds,omitempty"`
}

// Spending is what was used today, in UTC.
type Spending struct {
	// Spend is by key, the highest cost first.
	Spend []Spend `json:"spend_today"`
	// SpendError is why the usage could not be read; omitted if it could.
	SpendError string `json:"spend_error,omitempty"`
}

// A Spend is what a key has used today.
type Spend struct {
	Key      string `json:"key"` // empty for callers without one
	Requests int64  `json:"requests"`
	Input    int64  `json:"input_tokens"`
	Output   int64  `json:"output_tokens"`
	// USD is the cost of those requests whose price is known, and Unpriced the number of the others.
	USD      float64 `json:"usd"`
	Unpriced int64   `json:"unpriced"`
}

// A Cache counts what the caches did since they were created; for a caller, what they did for its requests within the last minute.
type Cache struct {
	// Configured reports whether there is a cache.
	Configured  bool  `json:"configured"`
	Hits        int64 `json:"hits"`
	Coalesced   int64 `json:"coalesced"`
	Misses      int64 `json:"misses"`
	Bypassed    int64 `json:"bypassed"`
	SavedTokens int64 `json:"saved_tokens"`
}

// A Request is a request that is over.
type Request struct {
	// Number counts the requests of the process.
	Number   uint64    `json:"number"`
	ID       string    `json:"id"`
	Started  time.Time `json:"started"`
	Key      string    `json:"key,omitempty"`
	Endpoint string    `json:"endpoint"`
	Model    string    `json:"model"`
	Stream   bool      `json:"stream"`
	// Target is what answered, as upstream/model; Route the rule that led to it.
	Target string `json:"target,omitempty"`
	Route  string `json:"route,omitempty"`
	Status int    `json:"status"`
	// Verdict is how it ended, and Error the code of the error that the client got.
	Verdict string `json:"verdict"`
	Error   string `json:"error,omitempty"`
	Cache   string `json:"cache,omitempty"`
	// Queue is how long it waited for slots, TTFT the time to the first content, Duration that to the end.
	Queue    float64  `json:"queue_seconds"`
	TTFT     float64  `json:"ttft_seconds"`
	Duration float64  `json:"duration_seconds"`
	Input    int64    `json:"input_tokens"`
	Output   int64    `json:"output_tokens"`
	Cached   int64    `json:"cached_tokens"`
	USD      *float64 `json:"usd,omitempty"` // omitted if the price is unknown
	Attempts []Try    `json:"attempts"`
}

// A Try is an attempt of a request.
type Try struct {
	Target  string `json:"target"`
	Address string `json:"address,omitempty"` // of the replica; callers do not see it
	Verdict string `json:"verdict"`
	Status  int    `json:"status"` // of the upstream's response; zero if there was none
	// Duration is how long it took.
	Duration float64 `json:"duration_seconds"`
}
