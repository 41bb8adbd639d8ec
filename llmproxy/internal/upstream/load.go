package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// LoadTimeoutDefault bounds the loading of a model.
const LoadTimeoutDefault = 5 * time.Minute

// LoadTimeout bounds the loading of a model.
func (u *Upstream) LoadTimeout() time.Duration {
	if u.Timers.Load > 0 {
		return u.Timers.Load
	}
	return LoadTimeoutDefault
}

// warmFor is how long after its last answer a model is taken to be loaded still: less than Ollama keeps it (keep_alive, 5 min).
const warmFor = 4 * time.Minute

// A loader knows which models are loaded, as far as answers tell, and which are loading. It is there for servers that load a
// model when it is asked for and give up when the one who asked leaves: the load then has to belong to us.
type loader struct {
	mu    sync.Mutex
	warm  map[load]time.Time
	loads map[load]chan struct{}
}

type load struct {
	replica *router.Replica
	model   string
}

// maxWarm bounds what is remembered.
const maxWarm = 256

// Loads tells whether the server loads models when they are asked for, and stops to when the one who asked leaves.
func (u *Upstream) Loads() bool { return u.Speaks().loads }

// Used notes that a model has just answered, so that it is loaded.
func (u *Upstream) Used(r *router.Replica, model string) {
	if !u.Loads() {
		return
	}
	u.loader.mu.Lock()
	defer u.loader.mu.Unlock()
	if len(u.loader.warm) >= maxWarm || u.loader.warm == nil {
		u.loader.warm = map[load]time.Time{}
	}
	u.loader.warm[load{r, model}] = time.Now()
}

// Load sees to it that a model is loaded. The channel is closed when it is, or when that failed, which the next request will tell;
// nil means that it is loaded already. The load goes on when those who wait for it have left, and there is one at a time for a
// replica and a model.
func (u *Upstream) Load(r *router.Replica, model string, embeddings bool) <-chan struct{} {
	key := load{r, model}
	l := &u.loader
	l.mu.Lock()
	defer l.mu.Unlock()
	if done := l.loads[key]; done != nil {
		return done
	}
	if time.Since(l.warm[key]) < warmFor {
		return nil
	}
	if l.loads == nil {
		l.loads = map[load]chan struct{}{}
	}
	done := make(chan struct{})
	l.loads[key] = done
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), u.LoadTimeout())
		defer cancel()
		p := &prober{ctx: ctx, u: u, base: u.base(r)}
		if p.load(model, embeddings) {
			u.Used(r, model)
		}
		l.mu.Lock()
		delete(l.loads, key)
		l.mu.Unlock()
		close(done)
	}()
	return done
}

// Forget takes a model for unloaded if the server does not say that it has it loaded: it may have made room for another one.
// It tells whether it did so.
func (u *Upstream) Forget(ctx context.Context, r *router.Replica, model string) bool {
	p := &prober{ctx: ctx, u: u, base: u.base(r)}
	status, body := p.within(probeTimeout, "/api/ps")
	if status == http.StatusOK && listed(body, model) {
		return false
	}
	u.loader.mu.Lock()
	defer u.loader.mu.Unlock()
	delete(u.loader.warm, load{r, model})
	return true
}

func listed(body []byte, model string) bool {
	var ps struct {
		Models []struct{ Name, Model string }
	}
	if json.Unmarshal(body, &ps) != nil {
		return false
	}
	model = strings.TrimSuffix(model, ":latest")
	for _, m := range ps.Models {
		if strings.EqualFold(strings.TrimSuffix(m.Name, ":latest"), model) || strings.EqualFold(strings.TrimSuffix(m.Model, ":latest"), model) {
			return true
		}
	}
	return false
}

// load asks Ollama for a model without a prompt, which loads it and generates nothing. It tells whether the server answered: what
// it has against the model, it will tell the request, too.
func (p *prober) load(model string, embeddings bool) bool {
	path, request := "/api/generate", map[string]any{"model": model, "stream": false}
	if embeddings {
		path, request = "/api/embed", map[string]any{"model": model, "input": ""}
	}
	body, err := json.Marshal(request)
	if err != nil {
		p.last = fmt.Errorf("asking for a load: %w", err)
		return false
	}
	status, _ := p.ask(http.MethodPost, path, string(body))
	return status != 0
}
