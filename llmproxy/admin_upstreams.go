package llmproxy

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A replicaStatus is a replica as the admin API and the health endpoint show it.
type replicaStatus struct {
	Address string     `json:"address"`
	State   string     `json:"state"`
	Since   *time.Time `json:"since,omitempty"`
	// Verdict is what made it so.
	Verdict string `json:"verdict,omitempty"`
	// Requests are at it now, Waiting in line for it.
	Requests int      `json:"requests"`
	Waiting  int      `json:"waiting"`
	Strikes  int      `json:"strikes"`
	Hidden   []string `json:"hidden_models,omitempty"`
}

func statusOf(f router.Facts) replicaStatus {
	s := replicaStatus{Address: f.Address, State: f.State.String(), Requests: f.Open, Waiting: f.Waiting, Strikes: f.Strikes, Hidden: f.Hidden}
	if !f.Since.IsZero() {
		s.Since = &f.Since
	}
	if f.State != router.Up {
		s.Verdict = f.Why.String()
	}
	slices.Sort(s.Hidden)
	return s
}

// adminUpstreams lists every replica that a running configuration names.
func adminUpstreams(w http.ResponseWriter, _ *http.Request) error {
	list := []replicaStatus{}
	replicas.Range(func(_, value any) bool {
		list = append(list, statusOf(value.(*sharedReplica).Facts()))
		return true
	})
	slices.SortFunc(list, func(a, b replicaStatus) int { return strings.Compare(a.Address, b.Address) })
	return adminJSON(w, list)
}
