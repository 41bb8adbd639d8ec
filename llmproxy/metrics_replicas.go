package llmproxy

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// shown has the upstreams of each handler that is in use, by the handler: those of a configuration that is gone are gone from
// the metrics, too.
var shown sync.Map

func (h *Handler) show(upstreams []*upstream.Upstream) { shown.Store(h, upstreams) }

var replicaLabels = []string{"upstream", "replica"}

var (
	openRequests = prometheus.NewDesc("llm_upstream_requests_open", "Requests that are at the replica: the slots in use.", replicaLabels, nil)
	slotLimit    = prometheus.NewDesc("llm_upstream_slots", "Requests that may be at the replica at once; not there without a limit.", replicaLabels, nil)
	waiting      = prometheus.NewDesc("llm_upstream_requests_waiting", "Requests that wait for the replica; those that take any of several count at each.", replicaLabels, nil)
)

// replicaStates reads the replicas when somebody asks, so that nothing has to be kept in step.
type replicaStates struct{}

// Describe implements prometheus.Collector.
func (replicaStates) Describe(to chan<- *prometheus.Desc) {
	to <- openRequests
	to <- slotLimit
	to <- waiting
}

// Collect implements prometheus.Collector. Handlers may share an address, under the same name or another one.
func (replicaStates) Collect(to chan<- prometheus.Metric) {
	seen := map[[2]string]bool{}
	shown.Range(func(_, value any) bool {
		for _, u := range value.([]*upstream.Upstream) {
			for _, r := range u.Route.Replicas {
				labels := [2]string{u.Name, r.Address}
				if !seen[labels] {
					seen[labels] = true
					collectReplica(to, u.Route.Limit(), r, labels[:])
				}
			}
		}
		return true
	})
}

func collectReplica(to chan<- prometheus.Metric, limit int, r *router.Replica, labels []string) {
	show := func(desc *prometheus.Desc, value int) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	show(openRequests, r.Open())
	show(waiting, r.Waiting())
	if limit > 0 {
		show(slotLimit, limit)
	}
}
