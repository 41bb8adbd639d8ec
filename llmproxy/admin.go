package llmproxy

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
)

func init() { caddy.RegisterModule(adminAPI{}) }

// adminAPI is the plugin's part of Caddy's admin API. It is provisioned before any handler, so that it reads what is shared
// when it is asked. Nothing that it answers holds a secret: whoever reaches the admin API may not know the keys.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.llm_proxy", New: func() caddy.Module { return new(adminAPI) }}
}

// adminRoutes are the paths below /llm_proxy, each for one method, or for all that it tells apart itself.
var adminRoutes = []struct {
	method, path string
	answer       func(http.ResponseWriter, *http.Request) error
}{
	{http.MethodGet, "/cache", adminCache},
	{http.MethodPost, "/cache/purge", adminPurge},
	{"", "/keys", adminKeys},
	{"", "/keys/", adminKey},
	{http.MethodGet, "/upstreams", adminUpstreams},
	{http.MethodGet, "/usage", adminUsage},
}

// Routes implements caddy.AdminRouter.
func (adminAPI) Routes() []caddy.AdminRoute {
	var routes []caddy.AdminRoute
	for _, r := range adminRoutes {
		routes = append(routes, caddy.AdminRoute{Pattern: "/llm_proxy" + r.path, Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, req *http.Request) error {
			if r.method != "" && req.Method != r.method {
				return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s is not possible here: use %s", req.Method, r.method)}
			}
			return r.answer(w, req)
		})})
	}
	return routes
}

// adminJSON answers with JSON.
func adminJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
	}
	return nil
}

// Interface guards
var (
	_ caddy.Module      = adminAPI{}
	_ caddy.AdminRouter = adminAPI{}
)
