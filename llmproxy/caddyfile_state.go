package llmproxy

import "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

func (h *Handler) parseState(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&h.state().URL) {
		return d.ArgErr()
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
