package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A ReplicaStatus is a replica as the admin API and the health endpoint show it.
type ReplicaStatus struct {
	Address string     `json:"address"`
	State   string     `json:"state"`
	Since   *time.Time `json:"since,omitempty"`
	// Verdict is the reason for the state.
	Verdict string `json:"verdict,omitempty"`
	// Requests are in flight there now, Waiting are in its admission queue.
	Requests int      `json:"requests"`
	Waiting  int      `json:"waiting"`
	Strikes  int      `json:"strikes"`
	Hidden   []string `json:"hidden_models,omitempty"`
}

// StatusOf returns the status of a replica, from what is known of it.
func StatusOf(r replica.Status) ReplicaStatus {
	s := ReplicaStatus{Address: r.Address, State: r.State.String(), Requests: r.InFlight, Waiting: r.Waiting, Strikes: r.Failures, Hidden: r.HiddenModels}
	if !r.Since.IsZero() {
		s.Since = &r.Since
	}
	if r.State != replica.Up {
		s.Verdict = r.Reason.String()
	}
	slices.Sort(s.Hidden)
	return s
}

// showUpstreams lists every replica that a running configuration names.
func showUpstreams(w http.ResponseWriter, _ *http.Request) error {
	list := []ReplicaStatus{}
	state.Each(state.Replicas, func(_ any, r *replica.Replica) { list = append(list, StatusOf(r.Status())) })
	slices.SortFunc(list, func(a, b ReplicaStatus) int { return strings.Compare(a.Address, b.Address) })
	return answerJSON(w, list)
}
