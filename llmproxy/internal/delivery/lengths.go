package delivery

import "sync"

const (
	// enoughAnswers is how many answers must be known before a model's limit is replaced by what it really answers.
	enoughAnswers = 50
	// keptAnswers is how many answers count at most: then all counts are halved, so that what is learned follows the model.
	keptAnswers = 2000
	// maxLengths bounds the targets whose answers are remembered, because clients choose names for patterns.
	maxLengths = 1024
	// buckets is enough for answers of a million tokens.
	buckets = 64
)

// lengths remembers how long the answers of each target are. It is safe for concurrent use.
type lengths struct {
	mu      sync.Mutex
	targets map[string]*histogram
}

// A histogram counts answers by their length: each bucket up to a quarter longer than the one before it.
type histogram struct {
	counts [buckets]uint32
	sum    uint32
}

// learn adds an answer of so many tokens.
func (l *lengths) learn(target string, output int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.targets[target]
	if h == nil {
		if len(l.targets) >= maxLengths {
			return
		}
		if l.targets == nil {
			l.targets = map[string]*histogram{}
		}
		h = new(histogram)
		l.targets[target] = h
	}
	i := 0
	for limit := 16.0; i < buckets-1 && float64(output) > limit; i++ {
		limit *= 1.25
	}
	h.counts[i]++
	if h.sum++; h.sum < keptAnswers {
		return
	}
	h.sum = 0
	for i := range h.counts {
		h.counts[i] /= 2
		h.sum += h.counts[i]
	}
}

// nearlyAll returns the length that 99 % of the target's answers do not exceed, or zero if too few are known.
func (l *lengths) nearlyAll(target string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.targets[target]
	if h == nil || h.sum < enoughAnswers {
		return 0
	}
	limit, longer := 16.0, h.sum
	for i := range h.counts {
		if longer -= h.counts[i]; longer*100 <= h.sum {
			break
		}
		limit *= 1.25
	}
	return int64(limit)
}
