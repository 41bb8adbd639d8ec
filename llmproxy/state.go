package llmproxy

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keystore"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A State is a server on which several Caddys share limits, budgets, keys, usage and the cache.
type State struct {
	// The address of a Redis or Valkey server: redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path. With
	// the option master_name it is that of Sentinel; with addr, which may be repeated, that of a cluster. Global placeholders
	// are replaced when the configuration is loaded. They may be a part of the address, such as
	// redis://:{env.REDIS_PASSWORD}@host, or all of it, such as {file./run/secrets/redis_url}. Percent-encode a user, password
	// or option that is written out; the values of placeholders there are encoded automatically.
	URL string `json:"url"`

	// The certificate authorities to trust and the certificate to present, for rediss:// addresses. Default: the
	// system's authorities, and no certificate.
	TLS *reverseproxy.TLSConfig `json:"tls,omitempty"`

	// What happens to requests with limits while the server does not answer within 50 ms. With "allow", this Caddy grants its
	// share of what was left of the limits, and reports that to the server later. With "deny", they get status 503. Default:
	// allow.
	OnError string `json:"on_error,omitempty"`
}

// The values of State.OnError.
const (
	onErrorAllow = "allow"
	onErrorDeny  = "deny"
)

// provision returns the storage of a handler: in the shared state, or on this machine if s is nil.
func (s *State) provision(ctx caddy.Context, closer *state.Closer) (*storage, error) {
	if s == nil {
		return &storage{closer: closer}, nil
	}
	tlsID, err := json.Marshal(s.TLS)
	if err != nil {
		return nil, fmt.Errorf("state: tls: %w", err)
	}
	address := state.ExpandAddress(caddy.NewReplacer(), s.URL)
	if address == "" {
		return nil, fmt.Errorf("state: the address %s is empty; set its value in Caddy's environment", s.URL)
	}
	client, err := state.Redis(closer, address, string(tlsID), func() (*tls.Config, error) {
		if s.TLS == nil {
			return nil, nil
		}
		return s.TLS.MakeTLSClientConfig(ctx)
	})
	return &storage{closer: closer, client: client, address: address, deny: s.OnError == onErrorDeny}, err
}

// storage opens what outlives a handler: usage, limits, keys and caches, on this machine or in the shared state.
type storage struct {
	closer  *state.Closer
	client  redis.UniversalClient // of the shared state, or nil
	address string
	deny    bool
}

func (s *storage) usage() state.UsageLedger {
	if s.client == nil {
		return state.Ledger(s.closer)
	}
	return state.SharedLedger(s.closer, s.client)
}

func (s *storage) limiter() (access.Limiter, error) {
	if s.client == nil {
		return state.LocalLimiter(s.closer)
	}
	return state.SharedLimiter(s.closer, s.client, s.address, s.deny)
}

// keyStore returns the store of the keys that change while Caddy runs. A file takes precedence over the shared state, and that over this machine.
func (s *storage) keyStore(file string) (*keystore.Store, error) {
	switch {
	case file != "":
		path, err := filepath.Abs(caddy.NewReplacer().ReplaceKnown(file, ""))
		if err != nil {
			return nil, err
		}
		return keystore.OpenFile(s.closer, path)
	case s.client != nil:
		return keystore.OpenRedis(s.closer, s.client, s.address)
	}
	return keystore.OpenLocal(s.closer)
}

// cache returns the named cache, which holds answers in memory and coalesces requests.
func (s *storage) cache(name string, size int64) (*caching.Cache, error) {
	return state.Acquire(s.closer.Add, state.Caches, name, func() (*caching.Cache, error) { return caching.New(size), nil })
}

// sharedCache returns the store of the named cache in the shared state.
func (s *storage) sharedCache(name string) (*caching.Redis, error) {
	return state.Acquire(s.closer.Add, state.CacheServers, state.CacheServer{Cache: name, Client: s.client}, func() (*caching.Redis, error) {
		return caching.NewRedis(s.client, name), nil
	})
}

// acquireReplica returns the state of the replica at an address, which all handlers share. The account is empty, or stands for what else the
// state depends on.
func acquireReplica(closer *state.Closer, address, account string) *replica.Replica {
	r, _ := state.Acquire(closer.Add, state.Replicas, address+account, func() (*replica.Replica, error) { // building it cannot fail
		return &replica.Replica{Address: address}, nil
	})
	return r
}

// acquireStored returns what is known of stored responses, which all handlers share.
func acquireStored(closer *state.Closer) *gateway.StoredResponses {
	s, _ := state.Acquire(closer.Add, state.Responses, "", func() (*gateway.StoredResponses, error) { return gateway.NewStoredResponses(), nil }) // building it cannot fail
	return s
}

// acquireAffinity returns the session affinity, which all handlers share, or nil if no model has routes.
func acquireAffinity(closer *state.Closer, models []*Model) *gateway.Affinity {
	if !slices.ContainsFunc(models, func(m *Model) bool { return len(m.Routes) > 0 }) {
		return nil
	}
	a, _ := state.Acquire(closer.Add, state.Sessions, "", func() (*gateway.Affinity, error) { return gateway.NewAffinity(), nil }) // building it cannot fail
	return a
}
