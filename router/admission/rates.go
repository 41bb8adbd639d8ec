package admission

import (
	"cmp"
	"time"
)

// Usage is what a request has used at a replica, and how long that took.
type Usage struct {
	// Known reports whether the tokens are known. Complete means that the answer came to its end and that the server counted them, so that
	// something can be learned from it.
	Known, Complete bool
	// Prompt and Output are tokens. Cached is how many tokens of the prompt the server had in its cache.
	Prompt, Cached, Output int
	// Prefill is how long the first content took, and Decode how long the rest of the answer took. They are zero if they are unknown,
	// for example because the answer was not a stream.
	Prefill, Decode time.Duration
}

const (
	// enoughSamples is how many answers of a model must be known before anything is predicted from them.
	enoughSamples = 20
	// maxAge is the age at which what was learned no longer counts: the server may run on other hardware or with other settings.
	maxAge = 10 * time.Minute
	// maxModels bounds the models of a replica whose rates are learned, because clients choose names for patterns.
	maxModels = 64
	// memory is how much an earlier answer counts beside the next one.
	memory = 0.97
	// usualPromptCost is how much of an output token one token of a prompt costs until it has been measured.
	usualPromptCost = 0.1
)

// rates are what a replica's answers have shown of the models there.
type rates struct {
	models map[string]*rate
	none   rate // of a model that is not known yet
}

// A rate is how fast a model answers at a replica, and how long its answers are. Newer answers count more.
type rate struct {
	samples int
	last    time.Time
	prefill fit     // seconds by tokens that were not in the server's cache
	time    float64 // the sum of decoding, in seconds
	tokens  float64 // that were decoded meanwhile
	prompts float64 // tokens of all prompts, and those of them that were cached
	cached  float64
	// estimated and counted are the tokens of those prompts that had been estimated, and as the server counted them.
	estimated, counted float64
	answers            answers
}

// of returns what is known of a model.
func (r *rates) of(model string) *rate {
	if known := r.models[model]; known != nil {
		return known
	}
	return &r.none
}

// learn adds an answer to what is known of a model, and returns that.
func (r *rates) learn(model string, q *Request, used Usage) *rate {
	known := r.models[model]
	if !used.Complete {
		return r.of(model)
	}
	if known == nil {
		if len(r.models) >= maxModels {
			return &r.none
		}
		if r.models == nil {
			r.models = map[string]*rate{}
		}
		known = new(rate)
		r.models[model] = known
	}
	known.prompts = known.prompts*memory + float64(used.Prompt)
	known.cached = known.cached*memory + float64(used.Cached)
	if q.Prompt > 0 && used.Prompt > 0 {
		known.estimated = known.estimated*memory + float64(q.Prompt)
		known.counted = known.counted*memory + float64(used.Prompt)
	}
	known.answers.learn(cmp.Or(q.Prompt, used.Prompt), used.Output, q.MaxOutput)
	if used.Prefill > 0 {
		uncached, took := float64(used.Prompt-used.Cached), used.Prefill.Seconds()
		if known.samples >= enoughSamples { // the server may have loaded the model first
			took = min(took, 4*known.prefill.at(uncached)+1)
		}
		known.samples++
		known.last = time.Now()
		known.prefill.learn(uncached, took)
	}
	if used.Decode > 0 && used.Output > 1 {
		known.time = known.time*memory + used.Decode.Seconds()
		known.tokens = known.tokens*memory + float64(used.Output-1)
	}
	return known
}

// isReliable reports whether enough is known for a prediction, and recent.
func (r *rate) isReliable() bool {
	return r.samples >= enoughSamples && r.tokens > 0 && time.Since(r.last) < maxAge
}

// perToken returns how long the model decodes one token, in seconds.
func (r *rate) perToken() float64 {
	if r.tokens == 0 {
		return 0
	}
	return r.time / r.tokens
}

// promptCost returns what a token of a prompt costs, in tokens of output: as much less as the server reads it faster, because what callers
// share is the time of the slots.
func (r *rate) promptCost() float64 {
	if r.isReliable() && r.perToken() > 0 {
		return min(max(r.prefill.slope()/r.perToken(), 0.001), 1)
	}
	return usualPromptCost
}

// costOf returns what a request costs its caller, in tokens of output.
func costOf(uncached, output, promptCost float64) float64 {
	return max(uncached, 0)*promptCost + output + 1
}

// An expectation is what a request is expected to take.
type expectation struct {
	cost            float64 // for its caller
	promptCost      float64 // of one token of the prompt, in the same unit
	prefill, decode float64 // seconds; zero if they are unknown
}

// service returns for how long the request is expected to hold its slot, in seconds.
func (x expectation) service() float64 { return x.prefill + x.decode }

// expect returns what a request is expected to take.
func (r *rate) expect(q *Request) expectation {
	uncached, output := r.uncached(q), r.answers.mean(q)
	x := expectation{promptCost: r.promptCost()}
	x.cost = costOf(uncached, output, x.promptCost)
	if r.isReliable() {
		x.prefill, x.decode = r.prefill.at(uncached), output*r.perToken()
	}
	return x
}

// prompt returns how many tokens a prompt is expected to have: as the server counts them, which differs from the estimate by the language of
// the prompts and by the model.
func (r *rate) prompt(q *Request) float64 {
	if r.estimated == 0 {
		return float64(q.Prompt)
	}
	return float64(q.Prompt) * r.counted / r.estimated
}

// uncached returns how many tokens of a prompt are expected not to be in the server's cache.
func (r *rate) uncached(q *Request) float64 {
	if r.prompts == 0 {
		return r.prompt(q)
	}
	return r.prompt(q) * (1 - r.cached/r.prompts)
}

// A fit is a straight line through points, in which older points count less.
type fit struct{ n, x, y, xx, xy float64 }

func (l *fit) learn(x, y float64) {
	l.n = l.n*memory + 1
	l.x = l.x*memory + x
	l.y = l.y*memory + y
	l.xx = l.xx*memory + x*x
	l.xy = l.xy*memory + x*y
}

// slope returns how much y grows with x. If that cannot be told, because all x are alike, all of y counts as caused by x.
func (l *fit) slope() float64 {
	spread := l.n*l.xx - l.x*l.x
	if spread > 0.01*l.n*l.xx {
		if slope := (l.n*l.xy - l.x*l.y) / spread; slope > 0 {
			return slope
		}
	}
	if l.x == 0 {
		return 0
	}
	return l.y / l.x
}

// at returns y at x, which is never negative.
func (l *fit) at(x float64) float64 {
	slope := l.slope()
	return max(l.y/l.n-slope*l.x/l.n, 0) + slope*x
}
