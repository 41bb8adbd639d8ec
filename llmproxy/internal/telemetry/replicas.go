package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// shown has the upstreams of each handler that is in use: those of a configuration that is gone are gone from the metrics, too.
var shown sync.Map

// ShowReplicas shows the replicas of a handler's upstreams in the metrics until HideReplicas.
func ShowReplicas(handler any, upstreams []*upstream.Upstream) { shown.Store(handler, upstreams) }

// HideReplicas takes the replicas of a handler out of the metrics.
func HideReplicas(handler any) { shown.Delete(handler) }

// ReplicasShown reports whether the replicas of any handler are shown.
func ReplicasShown() bool {
	shownAny := false
	shown.Range(func(_, _ any) bool {
		shownAny = true
		return false
	})
	return shownAny
}

var replicaLabels = []string{"upstream", "replica"}

var (
	openRequests = prometheus.NewDesc("llm_upstream_requests_open", "Requests in flight at the replica: the slots in use.", replicaLabels, nil)
	waiting      = prometheus.NewDesc("llm_upstream_requests_waiting", "Requests in the replica's admission queue; those that wait for any of several replicas count at each.", replicaLabels, nil)
	slotLimit    = prometheus.NewDesc("llm_upstream_slots", "Requests that may be in flight at the replica at once; absent without a limit.", replicaLabels, nil)
	stateIs      = prometheus.NewDesc("llm_upstream_state", "1 for the state that the replica is in; open, half_open and stuck are those of its circuit breaker.", append(replicaLabels, "state"), nil)
)

// replicaStates reads the replicas when somebody asks, so that nothing has to be kept in step.
type replicaStates struct{}

// Describe implements prometheus.Collector.
func (replicaStates) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{openRequests, waiting, slotLimit, stateIs} {
		to <- desc
	}
}

// Collect implements prometheus.Collector. Handlers may share an address, under the same name or another one.
func (replicaStates) Collect(to chan<- prometheus.Metric) {
	seen := map[[2]string]bool{}
	shown.Range(func(_, value any) bool {
		for _, u := range value.([]*upstream.Upstream) {
			for _, r := range u.Replicas {
				labels := [2]string{u.Name, r.Address}
				if !seen[labels] {
					seen[labels] = true
					collectReplica(to, u.Limit(), r, labels[:])
				}
			}
		}
		return true
	})
}

func collectReplica(to chan<- prometheus.Metric, limit int, r *replica.Replica, labels []string) {
	show := func(desc *prometheus.Desc, value int, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	status := r.Status()
	show(openRequests, status.InFlight, labels...)
	show(waiting, status.Waiting, labels...)
	if limit > 0 {
		show(slotLimit, limit, labels...)
	}
	for state := replica.Up; state <= replica.Stuck; state++ {
		value := 0
		if state == status.State {
			value = 1
		}
		show(stateIs, value, append(labels, state.String())...)
	}
}
