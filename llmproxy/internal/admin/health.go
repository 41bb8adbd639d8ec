package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
)

// livePath follows the path of the health endpoint, for liveness probes.
const livePath = "/live"

type healthAnswer struct {
	Status    string           `json:"status"`
	Models    map[string]bool  `json:"models,omitempty"`
	Upstreams []healthUpstream `json:"upstreams,omitempty"`
}

type healthUpstream struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	Replicas []Replica `json:"replicas"`
}

// ServeHealth answers requests to a site's health endpoint. It reports false for other paths; an empty path means no endpoint.
//
// The status is 200 if a request for at least one model can be served now. With ?verbose, the answer says which ones.
func ServeHealth(w http.ResponseWriter, r *http.Request, path string, status func(context.Context) catalog.Status) bool {
	switch {
	case path == "":
		return false
	case r.URL.Path == path+livePath:
		answerHealth(w, http.StatusOK, healthAnswer{Status: "live"})
		return true
	case r.URL.Path != path:
		return false
	}
	now := status(r.Context())
	answer, code := healthAnswer{Status: "ok"}, http.StatusOK
	if !now.Served() {
		answer.Status, code = "unavailable", http.StatusServiceUnavailable
	}
	if r.URL.Query().Has("verbose") {
		answer.addDetails(now)
	}
	answerHealth(w, code, answer)
	return true
}

// addDetails adds the models and replicas. Clients can reach the endpoint, so replicas have numbers instead of addresses.
func (a *healthAnswer) addDetails(status catalog.Status) {
	a.Models = map[string]bool{}
	for _, m := range status.Models {
		a.Models[m.Name] = m.Served
	}
	for _, u := range status.Upstreams {
		shown := healthUpstream{Name: u.Name, Kind: u.Kind}
		for i, s := range u.Replicas {
			replica := newReplica(s)
			replica.Address = strconv.Itoa(i + 1)
			shown.Replicas = append(shown.Replicas, replica)
		}
		a.Upstreams = append(a.Upstreams, shown)
	}
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
