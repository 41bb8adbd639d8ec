package llmproxy

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// A State is where the facts are kept that several Caddys share.
type State struct {
	// A Redis or Valkey server as its client library writes it: redis://user:password@host:6379/0, rediss:// for TLS,
	// unix:///path. With master_name in its query it is one of Sentinel's, with addr, which may be given again, one of a
	// cluster. Global placeholders such as {env.REDIS_PASSWORD} are replaced when the configuration is loaded.
	URL string `json:"url"`

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

// The waits for a shared server. What a request waits for has a shorter deadline of its own, in its context.
const (
	redisDial   = time.Second
	redisAnswer = 500 * time.Millisecond
	redisPool   = 50 * time.Millisecond
)

// redisLog takes what the client library would write to the standard error, such as a line for each connection that fails.
type redisLog struct{}

// Printf implements the library's interface.
func (redisLog) Printf(_ context.Context, format string, args ...any) {
	caddy.Log().Named("http.handlers.llm_proxy.state").Debug(fmt.Sprintf(format, args...))
}

func init() { redis.SetLogger(redisLog{}) }

// redisClients holds the connections to each server, by its URL.
var redisClients = caddy.NewUsagePool()

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
	address := caddy.NewReplacer().ReplaceKnown(h.State.URL, "")
	value, _, err := redisClients.LoadOrNew(address, func() (caddy.Destructor, error) {
		client, err := newRedis(address)
		if err != nil {
			return nil, err
		}
		return &sharedRedis{client}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	h.redisClient = value.(*sharedRedis).UniversalClient
	h.lasting = append(h.lasting, func() { redisClients.Delete(address) }) //nolint:errcheck // closes connections
	return h.redisClient, nil
}

// newRedis never puts the address into an error: it may hold a password.
func newRedis(address string) (redis.UniversalClient, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix" {
		return nil, errors.New("not an address such as redis://10.0.0.3:6379")
	}
	wrong := errors.New("the address is none that the client of Redis understands: redis://user:password@host:6379/0?option=value")
	switch query := u.Query(); {
	case query.Has("master_name"):
		o, err := redis.ParseFailoverURL(address)
		if err != nil {
			return nil, wrong
		}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisDial, redisAnswer, redisAnswer, redisPool
		o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
		return redis.NewFailoverClient(o), nil
	case query.Has("addr"):
		o, err := redis.ParseClusterURL(address)
		if err != nil {
			return nil, wrong
		}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisDial, redisAnswer, redisAnswer, redisPool
		o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
		return redis.NewClusterClient(o), nil
	}
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, wrong
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisDial, redisAnswer, redisAnswer, redisPool
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(o), nil
}
