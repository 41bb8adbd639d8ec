package llmproxy

import (
	"crypto/tls"
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A State is where the facts are kept that several Caddys share.
type State struct {
	// A Redis or Valkey server as its client library writes it: redis://user:password@host:6379/0, rediss:// for TLS,
	// unix:///path. With master_name in its query it is one of Sentinel's, with addr, which may be given again, one of a
	// cluster. Global placeholders are replaced when the configuration is loaded, in part, as in
	// redis://:{env.REDIS_PASSWORD}@host, or whole, as in {file./run/secrets/redis_url}. What stands for a user, a password or
	// an option is taken as it is; what is written there itself is percent-encoded.
	URL string `json:"url"`

	// Whom to trust, and the certificate to show, where the address is rediss://. Default: the system's authorities, and none.
	TLS *reverseproxy.TLSConfig `json:"tls,omitempty"`

	// What becomes of requests that have limits while the server does not answer within 50 ms: "allow" them by this Caddy's share
	// of what was left of the limits, which is added to the shared ones later, or "deny" them with status 503. Default: allow.
	OnError string `json:"on_error,omitempty"`
}

// The values of State.OnError.
const (
	onErrorAllow = "allow"
	onErrorDeny  = "deny"
)

// check tells what is wrong with the configuration.
func (s *State) check() error {
	switch s.OnError {
	case "", onErrorAllow, onErrorDeny:
	default:
		return fmt.Errorf("state: unknown on_error %q; use allow or deny", s.OnError)
	}
	return nil
}

// address returns the address with its placeholders replaced.
func (s *State) address() string { return state.ExpandAddress(caddy.NewReplacer(), s.URL) }

// redis returns the client of the shared state; nil without one. Nothing is dialled before the client is used.
func (h *Handler) redis() (redis.UniversalClient, error) {
	if h.State == nil || h.redisClient != nil {
		return h.redisClient, nil
	}
	if err := h.State.check(); err != nil {
		return nil, err
	}
	if state.HasPlainPassword(h.State.URL) {
		h.logger.Warn("the password of the shared state is written in the configuration, which Caddy stores and its admin API shows; write {env.NAME} or {file.PATH} instead")
	}
	trust, err := json.Marshal(h.State.TLS)
	if err != nil {
		return nil, fmt.Errorf("state: tls: %w", err)
	}
	h.redisClient, err = state.Redis(&h.closer, h.State.address(), string(trust), func() (*tls.Config, error) {
		if h.State.TLS == nil {
			return nil, nil
		}
		return h.State.TLS.MakeTLSClientConfig(h.ctx)
	})
	return h.redisClient, err
}

// usage returns the ledger of the shared state, or, without one, that of this machine.
func (h *Handler) usage(client redis.UniversalClient) state.UsageLedger {
	if client == nil {
		return state.Ledger(&h.closer)
	}
	return state.SharedLedger(&h.closer, client)
}

// limiter returns what keeps account of limits: the shared state, or, without one, this machine.
func (h *Handler) limiter() (access.Limiter, error) {
	client, err := h.redis()
	if err != nil {
		return nil, err
	}
	if client != nil {
		return state.SharedLimiter(&h.closer, client, h.State.address(), h.State.OnError == onErrorDeny)
	}
	return state.LocalLimiter(&h.closer)
}

// replica returns what is known of an address.
func (h *Handler) replica(address string) *replica.Replica {
	r, _ := state.Acquire(h.closer.Add, state.Replicas, address, func() (*replica.Replica, error) { // building it cannot fail
		return &replica.Replica{Address: address}, nil
	})
	return r
}

// affinity returns the session affinity, which all handlers share.
func (h *Handler) affinity() *gateway.Affinity {
	a, _ := state.Acquire(h.closer.Add, state.Sessions, "", func() (*gateway.Affinity, error) { // building it cannot fail
		return new(gateway.Affinity), nil
	})
	return a
}
