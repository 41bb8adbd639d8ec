package llmproxy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
)

// livePath follows the health path for containers: it answers as long as the process runs.
const livePath = "/live"

// parseHealth reads the path of the health endpoint.
func (h *Handler) parseHealth(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&h.Health) {
		return d.ArgErr()
	}
	if err := checkHealth(h.Health); err != nil || h.Health == "" {
		return d.WrapErr(cmp.Or(err, errors.New("health: a path such as /health is expected")))
	}
	return nil
}

// serveHealth answers at the health endpoint; false if the path is another one.
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

// answerReadiness tells whether at least one model can be served, and with ?verbose which. Addresses of upstreams are left to
// the admin API: clients reach this endpoint.
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
	_, _ = w.Write(append(body, '\n')) // whoever asked may be gone
}
