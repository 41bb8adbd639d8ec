package gateway

import (
	"math"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// StatusPath is where callers can see their requests that wait, and how long a new one would.
const StatusPath = "/llm/status"

// A statusAnswer is the answer to GET /llm/status. It has nothing of other callers but what follows from their load.
type statusAnswer struct {
	Object   string          `json:"object"`
	Key      string          `json:"key,omitempty"` // omitted for callers without a key
	Requests []waitingStatus `json:"requests"`      // of the caller, that wait
	Models   []modelStatus   `json:"models"`
}

// A waitingStatus is a request that waits.
type waitingStatus struct {
	ID       string `json:"id"`
	Model    string `json:"model"`
	Position int    `json:"position"`
	// Waited is how long it has waited, and Wait how much longer it is expected to.
	Waited float64  `json:"waited_seconds"`
	Wait   *float64 `json:"wait_seconds,omitempty"` // omitted if it is unknown
}

// A modelStatus is what a new request of the caller for a model would find.
type modelStatus struct {
	ID string `json:"id"`
	// Position is the place in the queue; zero if a slot is free.
	Position int      `json:"position"`
	Wait     *float64 `json:"wait_seconds,omitempty"` // omitted if it is unknown
	// Resident reports whether a server has the model in memory. It is omitted if no server says so.
	Resident *bool `json:"resident,omitempty"`
}

// statusOf returns what a caller may see of the upstreams' queues. Models are those that it may use, and request is what admission knows of
// its requests.
func statusOf(key *keys.Key, request admission.Request, upstreams []*upstream.Upstream, models []catalog.Resident, find func(*router.Upstream) *upstream.Upstream) statusAnswer {
	answer := statusAnswer{Object: "llm.status", Requests: []waitingStatus{}, Models: []modelStatus{}}
	if key != nil {
		answer.Key = key.Name
	}
	seen := map[*replica.Replica]bool{} // upstreams may share an address
	for _, u := range upstreams {
		for _, r := range u.Replicas {
			if seen[r] {
				continue
			}
			seen[r] = true
			for _, item := range r.Queue().WaitingFor(func(q *admission.Request) bool { return q.Caller == request.Caller }) {
				answer.Requests = append(answer.Requests, waitingStatus{
					ID: item.ID, Model: item.Name, Position: item.Position, Waited: tenths(time.Since(item.Since)), Wait: waitOf(item.Forecast),
				})
			}
		}
	}
	slot := admission.Slot{Request: request}
	for _, m := range models {
		var places []admission.Place
		for _, t := range m.Targets {
			u := find(t.Upstream)
			for i := range u.Replicas {
				places = append(places, u.Place(i, u.OwnName(t.ModelFor(m.ID))))
			}
		}
		f := slot.Forecast(places)
		answer.Models = append(answer.Models, modelStatus{ID: m.ID, Position: f.Position, Wait: waitOf(f), Resident: m.Resident})
	}
	return answer
}

// waitOf returns the expected wait in seconds, or nil if it is unknown.
func waitOf(f admission.Forecast) *float64 {
	if !f.Known && f.Position > 0 {
		return nil
	}
	wait := tenths(f.Wait)
	return &wait
}

// tenths returns seconds with one decimal place, which is enough for what is only expected.
func tenths(d time.Duration) float64 { return math.Round(d.Seconds()*10) / 10 }
