package upstream

import (
	"slices"
	"sync"
	"time"
)

// The rates at which servers read prompts, in tokens per second, until a model's rate has been measured: cautious ones.
const (
	rateOfCPU     = 50
	rateOfBatches = 500
)

const (
	measuredPrompt = 1000 // tokens; shorter prompts say little about the rate
	measuredRates  = 8    // of a model that are remembered
)

// prefillRates are the measured rates of models.
type prefillRates struct {
	mu    sync.Mutex
	rates map[string][]float64
}

// LearnPrefill records that the first content came so long after a request whose prompt had so many tokens that were not cached.
func (u *Upstream) LearnPrefill(model string, tokens int64, took time.Duration) {
	if tokens < measuredPrompt || took <= 0 {
		return
	}
	p := &u.prefill
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rates == nil {
		p.rates = map[string][]float64{}
	}
	known := p.rates[model]
	if known == nil && len(p.rates) >= maxKnownModels {
		return
	}
	if len(known) == measuredRates {
		known = slices.Delete(known, 0, 1)
	}
	p.rates[model] = append(known, float64(tokens)/took.Seconds())
}

// PrefillTime returns how long a model may take to read a prompt of so many tokens: twice as long as at the lowest rate that was
// measured lately, because a server may read several prompts at a time.
func (u *Upstream) PrefillTime(model string, tokens int) time.Duration {
	p := &u.prefill
	p.mu.Lock()
	known := p.rates[model]
	rate := float64(max(u.ActualKind().prefillRate, rateOfCPU))
	if len(known) > 0 {
		rate = slices.Min(known) / 2
	}
	p.mu.Unlock()
	return time.Duration(float64(tokens) / rate * float64(time.Second))
}
