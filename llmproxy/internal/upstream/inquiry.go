package upstream

import (
	"context"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// inquiryTimeout bounds one round of questions. Ollama answers none while it loads a model.
const inquiryTimeout = 2 * time.Second

// An inquiry collects what the servers of an upstream tell of their models.
type inquiry struct {
	models []string // to be asked for
	found  map[string]router.Limits
}

// tell takes what one replica says of a model: of several replicas the smallest limit, and what one lacks is lacking.
func (q *inquiry) tell(model string, l router.Limits) {
	old := q.found[model]
	if old.Context != 0 && (l.Context == 0 || old.Context < l.Context) {
		l.Context = old.Context
	}
	l.Lacks |= old.Lacks
	q.found[model] = l
}

// Inquire has the servers asked in the background what their models can take, unless that is under way.
func (u *Upstream) Inquire() {
	if !u.facts.asking.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer u.facts.asking.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), inquiryTimeout)
		defer cancel()
		if u.kind.Load() == nil {
			u.View(ctx) // finds out what it is
		}
		u.inquire(ctx)
	}()
}

// inquire asks every replica what its models can take, and keeps what was known where none answers.
func (u *Upstream) inquire(ctx context.Context) {
	kind := u.Speaks()
	q := &inquiry{found: map[string]router.Limits{}}
	f := &u.facts
	f.mu.Lock()
	for model := range f.found {
		if model != anyModel {
			q.models = append(q.models, model)
		}
	}
	f.mu.Unlock()
	for _, base := range u.Bases {
		if kind.inquire == nil {
			break
		}
		kind.inquire(&prober{ctx: ctx, u: u, base: base}, q)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.found == nil {
		f.found = map[string]router.Limits{}
	}
	for model, limits := range q.found {
		if len(f.found) < maxModels || f.has(model) {
			f.found[model] = limits
		}
	}
	f.publish(time.Now())
}

func (f *facts) has(model string) bool {
	_, ok := f.found[model]
	return ok
}
