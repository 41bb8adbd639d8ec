package llmproxy

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/redis/go-redis/v9"
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
		return fmt.Errorf("state: on_error %q is neither allow nor deny", s.OnError)
	}
	return nil
}

// redisLog takes what the client library would write to the standard error, such as a line for each connection that fails.
type redisLog struct{}

// Printf implements the library's interface.
func (redisLog) Printf(_ context.Context, format string, args ...any) {
	caddy.Log().Named("http.handlers.llm_proxy.state").Debug(fmt.Sprintf(format, args...))
}

func init() { redis.SetLogger(redisLog{}) }

// redisClients holds the connections to each server, by how it is reached.
var redisClients = caddy.NewUsagePool()

// reach is how a server is reached: its address, and what is trusted there, as JSON.
type reach struct{ address, tls string }

// sharedRedis is what the pool holds.
type sharedRedis struct{ redis.UniversalClient }

// Destruct implements caddy.Destructor. No request of an old configuration uses the client any more.
func (s *sharedRedis) Destruct() error { return s.Close() }

// redis gives the client of the shared state; nil without one. Nothing is dialled before the client is used.
func (h *Handler) redis() (redis.UniversalClient, error) {
	if h.State == nil {
		return nil, nil
	}
	if h.redisClient != nil {
		return h.redisClient, nil
	}
	if err := h.State.check(); err != nil {
		return nil, err
	}
	if plainPassword(h.State.URL) {
		h.logger.Warn("the password of the shared state stands in the configuration, which Caddy stores and its admin API shows: write {env.NAME} or {file.PATH} in its place")
	}
	trust, err := json.Marshal(h.State.TLS)
	if err != nil {
		return nil, fmt.Errorf("state: tls: %w", err)
	}
	how := reach{expandAddress(caddy.NewReplacer(), h.State.URL), string(trust)}
	value, _, err := redisClients.LoadOrNew(how, func() (caddy.Destructor, error) {
		client, err := h.connectRedis(how.address)
		if err != nil {
			return nil, err
		}
		return &sharedRedis{client}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	h.redisClient = value.(*sharedRedis).UniversalClient
	h.lasting = append(h.lasting, func() { redisClients.Delete(how) }) //nolint:errcheck // closes connections
	return h.redisClient, nil
}

// connectRedis makes the client; it dials when it is first used.
func (h *Handler) connectRedis(address string) (redis.UniversalClient, error) {
	if h.State.TLS == nil {
		return newRedis(address, nil)
	}
	trust, err := h.State.TLS.MakeTLSClientConfig(h.ctx)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return newRedis(address, trust)
}
