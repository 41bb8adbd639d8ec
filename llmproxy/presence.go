package llmproxy

import (
	"slices"
	"sync"
)

// A presence counts the requests that are under way, so that what they need is let go of after the last one: a configuration
// is cleaned up while its streams go on.
type presence struct {
	mu    sync.Mutex
	n     int
	after []func()
}

func (p *presence) enter() {
	p.mu.Lock()
	p.n++
	p.mu.Unlock()
}

func (p *presence) leave() {
	p.mu.Lock()
	p.n--
	p.release()
}

// afterLast calls the functions, the last one first, when nobody is there: now, as a rule. It tells whether it did.
func (p *presence) afterLast(do []func()) bool {
	p.mu.Lock()
	p.after = append(p.after, do...)
	return p.release()
}

// release takes over the lock and gives it back.
func (p *presence) release() bool {
	if p.n > 0 {
		p.mu.Unlock()
		return false
	}
	do := p.after
	p.after = nil
	p.mu.Unlock()
	for _, f := range slices.Backward(do) {
		f()
	}
	return true
}
