package llmproxy

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
)

// livePath follows the path of the health endpoint, for liveness probes.
const livePath = "/live"

// serveHealth answers at the health endpoint. It reports false for other paths.
func (h *Handler) serveHealth(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case h.Health == "":
		return false
	case r.URL.Path == h.Health+livePath:
		answerHealth(w, http.StatusOK, healthAnswer{Status: "live"})
	case r.URL.Path == h.Health:
		h.answerReadiness(w, r)
	default:
		return false
	}
	return true
}

type healthAnswer struct {
	Status    string           `json:"status"`
	Models    map[string]bool  `json:"models,omitempty"`
	Upstreams []healthUpstream `json:"upstreams,omitempty"`
}

type healthUpstream struct {
	Name     string          `json:"name"`
	Kind     string          `json:"kind"`
	Replicas []admin.Replica `json:"replicas"`
}

// answerReadiness reports whether at least one model can be served now, and with ?verbose which ones. Clients can reach this
// endpoint, so it shows numbers instead of addresses, which the admin API shows.
func (h *Handler) answerReadiness(w http.ResponseWriter, r *http.Request) {
	status := h.gateway.Status(r.Context())
	answer, code := healthAnswer{Status: "ok"}, http.StatusOK
	if !status.Served() {
		answer.Status, code = "unavailable", http.StatusServiceUnavailable
	}
	if r.URL.Query().Has("verbose") {
		answer.Models = map[string]bool{}
		for _, m := range status.Models {
			answer.Models[m.Name] = m.Served
		}
		for _, u := range status.Upstreams {
			one := healthUpstream{Name: u.Name, Kind: u.Kind}
			for i, f := range u.Replicas {
				replica := admin.NewReplica(f)
				replica.Address = fmt.Sprintf("%d", i+1)
				one.Replicas = append(one.Replicas, replica)
			}
			answer.Upstreams = append(answer.Upstreams, one)
		}
	}
	answerHealth(w, code, answer)
}

func answerHealth(w http.ResponseWriter, code int, answer healthAnswer) {
	body, err := json.Marshal(answer)
	if err != nil {
		code, body = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // the client may have disconnected
}
