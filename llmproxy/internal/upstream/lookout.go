package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// A Model is one entry of an upstream's list of models.
type Model struct {
	ID      string
	Created int64
	// Context is how many tokens it takes, where the list tells; zero where it does not.
	Context int
}

// A View is what was last seen of an upstream: never changed once made.
type View struct {
	// Models is the union over the replicas; of a server that could not be asked, what it had when last seen.
	Models []Model
	// Present tells that a server was there at least once; always so for upstreams that are not optional.
	Present bool
	// Err is why the last look failed; nil if it did not.
	Err error
	at  time.Time
}

// A look at a server takes milliseconds unless the server hangs, as Ollama does while it loads (local-servers §3.1).
const (
	lookTimeout  = 2 * time.Second
	lookFresh    = 30 * time.Second // then the next one who asks starts a new look, and gets the old view
	lookAgain    = 3 * time.Second  // after a failed look
	lookRestless = time.Second      // at most this often for a name that nobody has
)

// lookout keeps an upstream's view. Looks are started by those who ask; without a request there is no traffic.
type lookout struct {
	mu      sync.Mutex
	view    *View
	running chan struct{} // closed when the look under way is over
}

// View gives what is known of the upstream. The first call waits for the first look; later ones get what is there and, if
// that is old, start a look in the background.
func (u *Upstream) View(ctx context.Context) *View {
	u.look.mu.Lock()
	view := u.look.view
	if view != nil && time.Since(view.at) < view.lifetime() {
		u.look.mu.Unlock()
		return view
	}
	done := u.startLook()
	u.look.mu.Unlock()
	if view != nil {
		return view
	}
	return u.await(ctx, done)
}

// Seen tells whether there is a view, so that View does not wait.
func (u *Upstream) Seen() bool {
	u.look.mu.Lock()
	defer u.look.mu.Unlock()
	return u.look.view != nil
}

// Refresh looks again, unless that was just done, and waits for it.
func (u *Upstream) Refresh(ctx context.Context) *View {
	u.look.mu.Lock()
	view := u.look.view
	if view != nil && time.Since(view.at) < lookRestless {
		u.look.mu.Unlock()
		return view
	}
	done := u.startLook()
	u.look.mu.Unlock()
	return u.await(ctx, done)
}

func (u *Upstream) await(ctx context.Context, done <-chan struct{}) *View {
	select {
	case <-done:
	case <-ctx.Done():
	}
	u.look.mu.Lock()
	defer u.look.mu.Unlock()
	if u.look.view == nil {
		return &View{Err: context.Cause(ctx)}
	}
	return u.look.view
}

func (v *View) lifetime() time.Duration {
	if v.Err != nil {
		return lookAgain
	}
	return lookFresh
}

// startLook starts a look unless one is under way; the caller holds the lock. The look has a context of its own: it serves
// whoever asks next, and the client that happened to ask first may leave.
func (u *Upstream) startLook() <-chan struct{} {
	if u.look.running != nil {
		return u.look.running
	}
	done := make(chan struct{})
	u.look.running = done
	last := u.look.view
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		defer cancel()
		view := u.lookNow(ctx, last)
		u.look.mu.Lock()
		u.look.view, u.look.running = view, nil
		u.look.mu.Unlock()
		close(done)
	}()
	return done
}

// lookNow asks every replica what it is, where that is not known, and for its models.
func (u *Upstream) lookNow(ctx context.Context, last *View) *View {
	view := &View{Present: !u.Optional || last != nil && last.Present}
	seen := map[string]bool{}
	var errs []error
	for _, base := range u.Bases {
		p := &prober{ctx: ctx, u: u, base: base}
		if err := u.recognise(p, view); err != nil {
			errs = append(errs, err)
			continue
		}
		p.slots()
		models, err := p.models()
		if err != nil {
			errs = append(errs, err)
		}
		for _, m := range models {
			if !seen[m.ID] {
				seen[m.ID] = true
				view.Models = append(view.Models, m)
			}
		}
	}
	if len(errs) == len(u.Bases) {
		view.Err = errors.Join(errs...)
		if last != nil {
			view.Models = last.Models
		}
	}
	view.at = time.Now()
	return view
}

// recognise finds out the kind of an upstream that is to be asked for it.
func (u *Upstream) recognise(p *prober, view *View) error {
	if u.Optional {
		if !u.Kind.looksLike(p) {
			view.Present = false
			return fmt.Errorf("no %s server answers at %s", u.Kind.Name, p.base.Host)
		}
		view.Present = true
		return nil
	}
	if u.kind.Load() != nil {
		return nil
	}
	if p.base.Path != "/v1" {
		u.become(OpenAI) // an address with a path is an API's base: nothing else is to be found there
		return nil
	}
	k, err := p.kind()
	if err != nil {
		return err
	}
	u.become(k)
	return nil
}

// models reads the list in OpenAI's shape, which every kind has.
func (p *prober) models() ([]Model, error) {
	status, body := p.get("models")
	if status == 0 {
		return nil, p.last
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("asking %s for its models: status %d", p.base.Host, status)
	}
	var list struct {
		Data []struct {
			ID      string
			Created json.Number `json:"created"`
			Context int         `json:"max_model_len"` // vLLM
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("asking %s for its models: %w", p.base.Host, err)
	}
	models := make([]Model, 0, len(list.Data))
	for _, m := range list.Data {
		created, _ := m.Created.Int64() // a fraction or nothing: no date
		if m.ID != "" {
			models = append(models, Model{ID: m.ID, Created: created, Context: m.Context})
		}
	}
	return models, nil
}
