package upstream

// How many tokens a model makes of a text differs by tokenizer and language, so that each model's own ratio of counted to
// estimated tokens corrects the estimate.
const (
	ratioWeight = 0.1 // of the newest request
	minRatio    = 0.5
	maxRatio    = 3
	ratioFrom   = 200 // estimates below say little
)

// Correct turns an estimate of a prompt into what the model is likely to count.
func (u *Upstream) Correct(model string, estimate int) int {
	u.facts.mu.Lock()
	ratio, ok := u.facts.ratios[model]
	u.facts.mu.Unlock()
	if !ok {
		return estimate
	}
	return int(float64(estimate) * ratio)
}

// Counted tells what the model made of a prompt of texts alone that was estimated.
func (u *Upstream) Counted(model string, estimate, counted int) {
	if estimate < ratioFrom || counted <= 0 {
		return
	}
	now := min(max(float64(counted)/float64(estimate), minRatio), maxRatio)
	f := &u.facts
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ratios == nil {
		f.ratios = map[string]float64{}
	}
	old, ok := f.ratios[model]
	switch {
	case ok:
		f.ratios[model] = old + ratioWeight*(now-old)
	case len(f.ratios) < maxModels:
		f.ratios[model] = now
	}
}

// Truncated tells whether a prompt was cut without a word: Ollama drops the oldest messages of what does not fit and counts
// only what it kept.
func (u *Upstream) Truncated(model string, estimate, counted int) bool {
	limits := u.Limits(model)
	return u.Speaks() == Ollama && counted > 0 && float64(counted) < 0.6*float64(estimate) &&
		(limits.Context == 0 || estimate > limits.Context)
}
