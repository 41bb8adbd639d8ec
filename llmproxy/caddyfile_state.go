package llmproxy

import (
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

// parseState never puts the address into an error: it may hold a password.
func (h *Handler) parseState(d *caddyfile.Dispenser) error {
	s := h.state()
	if args := d.RemainingArgs(); len(args) == 1 && s.URL == "" {
		s.URL = args[0]
	} else {
		return d.Err("state: one address is needed, such as redis://10.0.0.3:6379")
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if s.TLS == nil {
			s.TLS = new(reverseproxy.TLSConfig)
		}
		if err := parseStateTLS(d, s.TLS); err != nil {
			return err
		}
	}
	return nil
}

// parseStateTLS reads a line that reverse_proxy has, too.
func parseStateTLS(d *caddyfile.Dispenser, c *reverseproxy.TLSConfig) error {
	switch d.Val() {
	case "tls_trust_pool":
		if !d.NextArg() || c.CARaw != nil {
			return d.ArgErr()
		}
		name := d.Val()
		module, err := caddyfile.UnmarshalModule(d, "tls.ca_pool.source."+name)
		if err != nil {
			return err
		}
		pool, ok := module.(caddytls.CA)
		if !ok {
			return d.Errf("tls_trust_pool: %s is no source of authorities", name)
		}
		c.CARaw = caddyconfig.JSONModuleObject(pool, "provider", name, nil)
	case "tls_client_auth":
		if !d.AllArgs(&c.ClientCertificateFile, &c.ClientCertificateKeyFile) {
			return d.ArgErr()
		}
	case "tls_server_name":
		if !d.AllArgs(&c.ServerName) {
			return d.ArgErr()
		}
	default:
		return d.Errf("unknown subdirective %q of state: expected tls_trust_pool, tls_client_auth or tls_server_name", d.Val())
	}
	return nil
}

// state is the shared state as configured so far: its lines may come in any order.
func (h *Handler) state() *State {
	if h.State == nil {
		h.State = new(State)
	}
	return h.State
}

func (h *Handler) parseOnStateError(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&h.state().OnError) {
		return d.ArgErr()
	}
	if what := h.State.OnError; what != onErrorAllow && what != onErrorDeny {
		return d.Errf("on_state_error: %q is neither allow nor deny", what)
	}
	return nil
}
