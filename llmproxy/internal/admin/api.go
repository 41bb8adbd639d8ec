// Package admin is the plugin's part of Caddy's admin API, below /llm_proxy, and the commands `caddy llm-key` and `caddy llm-cache`
// that use it.
//
// Nothing that it answers holds a secret, but for a new one, once: whoever reaches the admin API may not know the keys. It
// configures nothing; it reads and changes what handlers share in state and keystore, above which it stands.
package admin

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
)

// API is the module admin.api.llm_proxy. It is provisioned before any handler, so that it reads what is shared when it is asked.
type API struct{}

// CaddyModule returns the Caddy module information.
func (API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.llm_proxy", New: func() caddy.Module { return new(API) }}
}

// routes are the paths below /llm_proxy, each for one method, or for all that it tells apart itself.
var routes = []struct {
	method, path string
	answer       func(http.ResponseWriter, *http.Request) error
}{
	{http.MethodGet, "/cache", showCaches},
	{http.MethodPost, "/cache/purge", Purge},
	{"", "/keys", serveKeys},
	{"", "/keys/", serveKey},
	{http.MethodGet, "/upstreams", showUpstreams},
	{http.MethodGet, "/usage", showUsage},
}

// Routes implements caddy.AdminRouter.
func (API) Routes() []caddy.AdminRoute {
	var list []caddy.AdminRoute
	for _, r := range routes {
		list = append(list, caddy.AdminRoute{Pattern: "/llm_proxy" + r.path, Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, req *http.Request) error {
			if r.method != "" && req.Method != r.method {
				return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s is not allowed; use %s", req.Method, r.method)}
			}
			return r.answer(w, req)
		})})
	}
	return list
}

// answerJSON answers with JSON.
func answerJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
	}
	return nil
}

// Interface guards
var (
	_ caddy.Module      = API{}
	_ caddy.AdminRouter = API{}
)
