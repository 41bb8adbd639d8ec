package admission

import (
	"math"
	"math/rand/v2"
	"time"
)

// A simKind is a kind of request of the simulation.
type simKind struct {
	share          float64 // of a key's requests
	prompt, output simLength
}

// A simLength is a log-normal distribution of lengths in tokens, within bounds.
type simLength struct{ median, sigma, least, most float64 }

func (l simLength) draw(r *rand.Rand) int {
	return int(min(max(l.median*math.Exp(l.sigma*r.NormFloat64()), l.least), l.most))
}

// The kinds of requests that an application or a chat sends, as Azure's LLM inference trace of conversations shows them (2023,
// https://github.com/Azure/AzurePublicDataset, from 692 requests of two of its minutes; CC-BY): most prompts come from a few templates, and
// the length of an answer depends on the template. Over all prompts, its standard deviation is 0.84 of the mean; within a template, a third.
//
// Coding agents send long prompts. Their answers vary more: half of them have up to 184 tokens, and 10 % more than 939
// (https://tracelab.cs.washington.edu, Codex).
var (
	simShort    = simKind{0.04, simLength{70, 0.6, 10, 150}, simLength{140, 0.5, 10, 400}}
	simChat     = simKind{0.09, simLength{197, 0.1, 150, 260}, simLength{165, 0.3, 40, 400}}
	simTemplate = simKind{0.35, simLength{398, 0.06, 360, 480}, simLength{90, 0.27, 40, 300}}
	simSummary  = simKind{0.27, simLength{1054, 0.1, 840, 1300}, simLength{400, 0.12, 90, 650}}
	simReport   = simKind{0.05, simLength{1320, 0.02, 1300, 1400}, simLength{190, 0.3, 60, 450}}
	simDocument = simKind{0.06, simLength{2200, 0.25, 1400, 3600}, simLength{76, 0.37, 20, 300}}
	simFull     = simKind{0.09, simLength{4090, 0.01, 3600, 5000}, simLength{55, 0.5, 15, 450}}
	simAgent    = simKind{0.05, simLength{16_000, 0.35, 10_000, 24_000}, simLength{184, 1.27, 10, 2000}}
)

// A simKey is a key of the simulation: what part of the capacity it asks for, and what it sends. The greedy one asks for the rest of the load.
type simKey struct {
	name  string
	load  float64
	kinds []simKind
}

// A simWorkload is what all keys send.
type simWorkload struct {
	name string
	keys []simKey
}

// The workloads. In the first one, all keys send the same mix. In the second one, the greedy key is a coding agent with long prompts. In
// the third one, answers are long, as those of models that think; their lengths are assumed. In the last one, the length of an answer does
// not depend on the prompt at all.
var (
	simMix    = []simKind{simShort, simChat, simTemplate, simSummary, simReport, simDocument, simFull, simAgent}
	simMixed  = simWorkload{"the same mix of all keys", []simKey{{"ann", 0.2, simMix}, {"ben", 0.2, simMix}, {"greedy", 0, simMix}}}
	simChats  = []simKind{simShort, simChat, simTemplate}
	simAgents = simWorkload{"an agent and two chats", []simKey{{"ann", 0.2, simChats}, {"ben", 0.2, simChats}, {"greedy", 0, []simKind{simAgent}}}}

	simThoughts = []simKind{{1, simLength{400, 0.8, 20, 3000}, simLength{1200, 0.7, 50, 8000}}}
	simThinking = simWorkload{"long answers of a model that thinks", []simKey{{"ann", 0.2, simThoughts}, {"ben", 0.2, simThoughts}, {"greedy", 0, simThoughts}}}

	simAnyLength = simLength{180, 0.7, 4, 2000}
	simAnyMix    = []simKind{
		{0.70, simLength{300, 0.8, 10, 30_000}, simAnyLength}, {0.25, simLength{3000, 0.6, 10, 30_000}, simAnyLength},
		{0.05, simLength{16_000, 0.35, 10_000, 24_000}, simAnyLength},
	}
	simAny = simWorkload{"answers of any length", []simKey{{"ann", 0.2, simAnyMix}, {"ben", 0.2, simAnyMix}, {"greedy", 0, simAnyMix}}}
)

// A simRequest is a request of the simulation.
type simRequest struct {
	key       string
	kind      *simKind
	arrived   time.Time
	prompt    int // as it is
	estimated int // as the gateway knows it
	limit     int // max_tokens
	output    int
	rate      float64 // tokens of output per second
	slot      Slot
	ticket    *Ticket
	forecast  Forecast
	started   time.Time // when the server got it
	ended     time.Time
	first     time.Duration // to the first token; zero if it was refused
	spilled   bool
	simRun
}

// prefill returns how long an idle server takes until the first token.
func (q *simRequest) prefill() time.Duration { return readingTime(q.prompt) }

func (q *simRequest) decode() time.Duration { return seconds(float64(q.output) / q.rate) }

func (q *simRequest) service() time.Duration { return q.prefill() + q.decode() }

func readingTime(tokens int) time.Duration { return simStart + seconds(float64(tokens)/simPrefill) }

// draw returns a request of the key. A third of them limit the answer.
func (k *simKey) draw(r *rand.Rand) *simRequest {
	pick, i := r.Float64()*k.shares(), 0
	for ; i < len(k.kinds)-1 && pick >= k.kinds[i].share; i++ {
		pick -= k.kinds[i].share
	}
	q := &simRequest{key: k.name, kind: &k.kinds[i]}
	q.prompt = q.kind.prompt.draw(r)
	if r.IntN(3) == 0 {
		q.limit = []int{128, 256, 512}[r.IntN(3)]
	}
	q.estimated = int(float64(q.prompt) * (0.85 + 0.3*r.Float64()))
	q.drawAnswer(r)
	return q
}

func (k *simKey) shares() (sum float64) {
	for _, kind := range k.kinds {
		sum += kind.share
	}
	return sum
}

// drawAnswer draws the answer to a request.
func (q *simRequest) drawAnswer(r *rand.Rand) {
	q.output, q.rate = q.kind.output.draw(r), simDecode/(0.9+0.2*r.Float64())
	if q.limit > 0 {
		q.output = min(q.output, q.limit)
	}
}

// rates returns how many requests the keys send per second at a load, relative to the capacity of the server.
func (w *simWorkload) rates(load float64) []float64 {
	r, rates, left := rand.New(rand.NewPCG(1, 2)), make([]float64, len(w.keys)), load
	for _, k := range w.keys {
		left -= k.load
	}
	for i := range w.keys {
		k, sum := &w.keys[i], 0.0
		const n = 20_000
		for range n {
			sum += k.draw(r).service().Seconds()
		}
		part := k.load
		if part == 0 {
			part = left
		}
		rates[i] = part * simSlots / (sum / n)
	}
	return rates
}
