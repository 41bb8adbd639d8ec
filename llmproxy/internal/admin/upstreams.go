package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A Replica is a replica as the admin API and the health endpoint show it.
type Replica struct {
	Address string     `json:"address"`
	State   string     `json:"state"`
	Since   *time.Time `json:"since,omitempty"`
	// Verdict is the reason for the state.
	Verdict string `json:"verdict,omitempty"`
	// Requests is the number of requests in progress, Waiting the number of those that wait for a slot.
	Requests int      `json:"requests"`
	Waiting  int      `json:"waiting"`
	Strikes  int      `json:"strikes"`
	Hidden   []string `json:"hidden_models,omitempty"`
}

// newReplica returns a replica as the admin API and the health endpoint show it.
func newReplica(s replica.Status) Replica {
	r := Replica{Address: s.Address, State: s.State.String(), Requests: s.InFlight, Waiting: s.Waiting, Strikes: s.Failures, Hidden: s.HiddenModels}
	if !s.Since.IsZero() {
		r.Since = &s.Since
	}
	if s.State != replica.Up {
		r.Verdict = s.Reason.String()
	}
	slices.Sort(r.Hidden)
	return r
}

// listReplicas answers GET /llm_proxy/upstreams with the replicas of all handlers.
func listReplicas(w http.ResponseWriter, _ *http.Request) error {
	list := []Replica{}
	state.Each(state.Replicas, func(_ any, r *replica.Replica) { list = append(list, newReplica(r.Status())) })
	slices.SortFunc(list, func(a, b Replica) int { return strings.Compare(a.Address, b.Address) })
	return writeJSON(w, list)
}
