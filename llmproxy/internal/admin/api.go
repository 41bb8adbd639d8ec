// Package admin serves operators: the plugin's part of Caddy's admin API, below /llm_proxy/; the commands `caddy llm-key`, `caddy llm-cache`
// and `caddy llm-status`, most of them by calling it; the commands `caddy llm-bench` and `caddy llm-import`, which need no running Caddy; and the
// health endpoint of a site.
//
// It shows and changes what handlers share in state and keystore, above which it stands, and never the configuration. Access to
// the admin API does not imply access to the keys: an answer contains the secret of a key only when the same request created
// or rotated the key.
package admin

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
)

// API is the Caddy module admin.api.llm_proxy. Caddy provisions it before any handler, so it looks up the shared state with
// each request.
type API struct{}

// CaddyModule returns the Caddy module information.
func (API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.llm_proxy", New: func() caddy.Module { return new(API) }}
}

// Routes implements caddy.AdminRouter.
func (API) Routes() (routes []caddy.AdminRoute) {
	for _, r := range []struct {
		path, method string // the only method; empty if the handler checks the method
		handler      caddy.AdminHandlerFunc
	}{
		{"/cache", http.MethodGet, listCaches},
		{"/cache/purge", http.MethodPost, purgeCaches},
		{"/keys", "", serveKeys},
		{"/keys/", "", serveKey},
		{"/queues", http.MethodGet, listQueues},
		{"/status", http.MethodGet, showStatus},
		{"/upstreams", http.MethodGet, listReplicas},
		{"/usage", http.MethodGet, showUsage},
	} {
		handler := r.handler
		if r.method != "" {
			handler = func(w http.ResponseWriter, req *http.Request) error {
				if req.Method != r.method {
					return methodNotAllowed(req, r.method)
				}
				return r.handler(w, req)
			}
		}
		routes = append(routes, caddy.AdminRoute{Pattern: "/llm_proxy" + r.path, Handler: handler})
	}
	return routes
}

// Interface guards
var (
	_ caddy.Module      = API{}
	_ caddy.AdminRouter = API{}
)
