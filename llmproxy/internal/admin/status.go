package admin

import (
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
)

// showStatus answers GET /llm_proxy/status with what the gateway is doing now.
func showStatus(w http.ResponseWriter, _ *http.Request) error {
	snapshot := overview.Take(overview.Viewer{}, 0)
	snapshot.Spending = overview.ReadSpending()
	w.Header().Set("Cache-Control", "no-store")
	return writeJSON(w, snapshot)
}
