package llmproxy

import (
	"cmp"
	"net/http"
	"path"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/admin"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dashboard"
)

func init() {
	caddy.RegisterModule(new(Dashboard))
	httpcaddyfile.RegisterDirective("llm_dashboard", parseDashboard)
	httpcaddyfile.RegisterDirectiveOrder("llm_dashboard", httpcaddyfile.Before, "respond") // and so before llm_proxy
}

// defaultDashboardPath is where the page is by default, defaultAPIPath where the gateway's API is.
const (
	defaultDashboardPath = "/dashboard"
	defaultAPIPath       = "/v1"
)

// Dashboard is a live page that shows what all llm_proxy handlers of this Caddy are doing: slots, queues, health, traffic, spend, the
// latest requests, and a playground. Requests to other paths go to the next handler.
//
// Visitors sign in with a key of any of these handlers. A key with `admin` sees everything and manages keys; the owner of any other key
// sees only what is its own.
type Dashboard struct {
	// The path of the page, which is served at this path and a slash. Default: /dashboard.
	Path string `json:"path,omitempty"`

	// The path of the API on the same site, which the playground uses. Default: /v1.
	API string `json:"api,omitempty"`

	// Users that handlers before this one authenticate, by their {http.auth.user.id}, who see everything and manage keys without a key.
	// An asterisk stands for all of them. Default: none.
	Admins []string `json:"admins,omitempty"`

	// Let everybody who reaches the page see everything, and change nothing. Default: false.
	NoSignIn bool `json:"no_sign_in,omitempty"`

	dashboard *dashboard.Dashboard
}

// CaddyModule returns the Caddy module information.
func (*Dashboard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_dashboard", New: func() caddy.Module { return new(Dashboard) }}
}

// Provision implements caddy.Provisioner.
func (d *Dashboard) Provision(ctx caddy.Context) error {
	if err := d.validate(); err != nil {
		return err
	}
	d.dashboard = dashboard.New(dashboard.Config{
		Path: cmp.Or(d.Path, defaultDashboardPath), API: cmp.Or(d.API, defaultAPIPath), Admins: d.Admins, NoSignIn: d.NoSignIn,
		User: authenticatedUser, ServeKeys: admin.ServeKeys,
	})
	// The streams of a page would keep an old server open until somebody closes the page.
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnShutdown(d.dashboard.Close)
	}
	return nil
}

// validate reports what is wrong with the configuration.
func (d *Dashboard) validate() error {
	for name, value := range map[string]string{"path": d.Path, "api": d.API} {
		if value != "" && (value[0] != '/' || value == "/" || path.Clean(value) != value || strings.ContainsAny(value, "*?#{}")) {
			return place("").in(name, 0).errorf("%s: invalid path %q; use one such as /dashboard, without a slash at its end", name, value)
		}
	}
	return nil
}

// Cleanup implements caddy.CleanerUpper.
func (d *Dashboard) Cleanup() error {
	if d.dashboard != nil {
		d.dashboard.Close()
	}
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if d.dashboard.Serve(w, r) {
		return nil
	}
	return next.ServeHTTP(w, r)
}

// parseDashboard parses the directive:
//
//	llm_dashboard [<path>] {
//	    api        <path>
//	    admins     <users...>
//	    no_sign_in
//	}
//
// The path may also be written as a matcher: /status, /status/* and /status* are the same.
func parseDashboard(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	d, p := new(Dashboard), newDispenser(h.Dispenser)
	h.Next() // the name of the directive
	p.lines[place("").in("path", 0)] = p.line()
	var matchers caddy.ModuleMap
	if h.NextArg() {
		if path := h.Val(); path[0] == '/' {
			d.Path = strings.TrimSuffix(strings.TrimSuffix(path, "*"), "/")
		} else {
			h.Prev()
			var err error
			if matchers, err = h.ExtractMatcherSet(); err != nil {
				return nil, err
			}
			h.Next()
		}
		if h.NextArg() {
			return nil, h.Err("llm_dashboard: use one path, such as /dashboard, or one matcher")
		}
	}
	if err := parseBlock(p, "llm_dashboard", dashboardSubdirectives, d, nil); err != nil {
		return nil, err
	}
	if err := d.validate(); err != nil {
		return nil, p.lines.locate(err)
	}
	return h.NewRoute(matchers, d), nil
}

var dashboardSubdirectives = subdirectives[*Dashboard]{
	"api":        func(p *dispenser, d *Dashboard) error { return parseString(p, &d.API) },
	"admins":     func(p *dispenser, d *Dashboard) error { return parseStrings(p, &d.Admins) },
	"no_sign_in": func(p *dispenser, d *Dashboard) error { return parseFlag(p, &d.NoSignIn) },
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Dashboard)(nil)
	_ caddy.CleanerUpper          = (*Dashboard)(nil)
	_ caddyhttp.MiddlewareHandler = (*Dashboard)(nil)
)
