package overview

import (
	"slices"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// A Site is what one handler in use consists of, as far as it is shown.
type Site struct {
	Upstreams []*upstream.Upstream
	// Access has the keys that callers sign in with; nil if callers need none.
	Access *access.Access

	shown time.Time
}

// Show makes a handler visible until it is closed. Those of a previous configuration are not shown.
func Show(c *state.Closer, s *Site) {
	s.shown = time.Now()
	state.Acquire(c.Add, state.Sites, s, func() (*Site, error) { return s, nil }) //nolint:errcheck // building it cannot fail
}

// Sites returns the handlers in use, in the order of their configuration.
func Sites() (list []*Site) {
	state.Each(state.Sites, func(_ any, s *Site) { list = append(list, s) })
	slices.SortFunc(list, func(a, b *Site) int { return a.shown.Compare(b.shown) })
	return list
}

// EachReplica calls visit with each replica of the handlers in use, as the ith of an upstream. Several handlers may have an upstream
// of the same name and address; one of them is visited.
func EachReplica(visit func(u *upstream.Upstream, i int)) {
	seen := map[[2]string]bool{}
	for _, s := range Sites() {
		for _, u := range s.Upstreams {
			for i, r := range u.Replicas {
				if id := [2]string{u.Name, r.Address}; !seen[id] {
					seen[id] = true
					visit(u, i)
				}
			}
		}
	}
}
