package admin

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
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

// A queue is the admission queue of a replica as the admin API shows it.
type queue struct {
	Address  string    `json:"address"`
	Requests int       `json:"requests"` // in progress
	Waiting  []waiting `json:"waiting"`
	Speeds   []speed   `json:"speeds"`
}

// A waiting is a request that waits.
type waiting struct {
	ID       string `json:"id"`
	Model    string `json:"model"` // the name that the client used
	Key      string `json:"key,omitempty"`
	Client   string `json:"client,omitempty"` // the address of a client without a key
	Priority string `json:"priority"`
	Position int    `json:"position"`
	// Waited is how long it has waited, and Wait how much longer it is expected to, in seconds.
	Waited float64  `json:"waited_seconds"`
	Wait   *float64 `json:"wait_seconds,omitempty"` // omitted if it is unknown
}

// A speed is how fast a model answers at a replica.
type speed struct {
	Model      string  `json:"model"`
	Answers    int     `json:"answers"`
	Counts     bool    `json:"counts"` // in forecasts
	PromptRate float64 `json:"prompt_tokens_per_second"`
	OutputRate float64 `json:"output_tokens_per_second"`
	Output     float64 `json:"mean_output_tokens"`
}

// listQueues answers GET /llm_proxy/queues with the admission queues of all replicas.
func listQueues(w http.ResponseWriter, _ *http.Request) error {
	list := []queue{}
	state.Each(state.Replicas, func(_ any, r *replica.Replica) { list = append(list, newQueue(r)) })
	slices.SortFunc(list, func(a, b queue) int { return strings.Compare(a.Address, b.Address) })
	return writeJSON(w, list)
}

func newQueue(r *replica.Replica) queue {
	q := queue{Address: r.Address, Requests: r.InFlight(), Waiting: []waiting{}, Speeds: []speed{}}
	for _, item := range r.Queue().WaitingFor(func(*admission.Request) bool { return true }) {
		one := waiting{
			ID: item.ID, Model: item.Name, Priority: item.Priority.String(), Position: item.Position, Waited: rounded(time.Since(item.Since).Seconds()),
		}
		_, one.Key, _ = strings.Cut(item.Caller.Key, "/")
		if item.Caller.Address.IsValid() {
			one.Client = item.Caller.Address.String()
		}
		if item.Known {
			wait := rounded(item.Wait.Seconds())
			one.Wait = &wait
		}
		q.Waiting = append(q.Waiting, one)
	}
	for _, s := range r.Queue().Speeds() {
		q.Speeds = append(q.Speeds, speed{s.Model, s.Answers, s.Recent, rounded(s.PromptRate), rounded(s.OutputRate), rounded(s.Output)})
	}
	return q
}

// rounded returns a number with one decimal place, which is enough for what is only expected.
func rounded(n float64) float64 { return math.Round(n*10) / 10 }
