package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A ReplicaStatus is a replica as the admin API and the health endpoint show it.
type ReplicaStatus struct {
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

// StatusOf returns the status of a replica, from what is known of it.
func StatusOf(f router.Facts) ReplicaStatus {
	s := ReplicaStatus{Address: f.Address, State: f.State.String(), Requests: f.Open, Waiting: f.Waiting, Strikes: f.Strikes, Hidden: f.Hidden}
	if !f.Since.IsZero() {
		s.Since = &f.Since
	}
	if f.State != router.Up {
		s.Verdict = f.Why.String()
	}
	slices.Sort(s.Hidden)
	return s
}

// showUpstreams lists every replica that a running configuration names.
func showUpstreams(w http.ResponseWriter, _ *http.Request) error {
	list := []ReplicaStatus{}
	state.Each(state.Replicas, func(_ any, r *router.Replica) { list = append(list, StatusOf(r.Facts())) })
	slices.SortFunc(list, func(a, b ReplicaStatus) int { return strings.Compare(a.Address, b.Address) })
	return answerJSON(w, list)
}
