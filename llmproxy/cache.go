package llmproxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
)

// A Cache stores answers. Repeated requests are answered from it, and identical concurrent requests share one upstream call.
type Cache struct {
	// The name of the cache. Handlers whose caches have the same name share answers, as far as scope allows, and one
	// max_size. Default: default.
	Name string `json:"name,omitempty"`

	// Where answers are stored: "memory", or "redis" for the server of the shared state, so that all Caddys that use it share
	// answers. Default: redis with a shared state, else memory.
	Store string `json:"store,omitempty"`

	// How long an answer is stored. Default: 1h.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// The longest time that a client may ask for with X-LLM-Cache-TTL. Default: ttl.
	MaxTTL caddy.Duration `json:"max_ttl,omitempty"`

	// The maximum size of all answers in memory in bytes, compressed and with overhead. An eighth of it holds answers that were
	// requested repeatedly, uncompressed and ready to be sent, even if the store is redis. (Redis limits its own memory with
	// maxmemory.) Answers that are being recorded may take the same amount in addition, all together; what does not fit is not stored. Default: 268435456 (256 MiB).
	MaxSize int64 `json:"max_size,omitempty"`

	// The maximum size of a stored answer in bytes, before compression; of embeddings, that of a single one. Default: 4194304
	// (4 MiB).
	MaxEntry int64 `json:"max_entry,omitempty"`

	// Who shares answers: with "key", clients that use the same key, or all that use none; with "site", all clients. Default:
	// key.
	Scope string `json:"scope,omitempty"`

	// The endpoints whose answers are stored: chat, completions, embeddings, rerank, moderations, responses. Default: all but
	// responses.
	Endpoints []string `json:"endpoints,omitempty"`

	// Store only answers that do not depend on chance: temperature 0, one choice. Default: false.
	DeterministicOnly bool `json:"deterministic_only,omitempty"`

	// Also store answers that were cut at max_tokens. Default: false.
	KeepCut bool `json:"keep_cut,omitempty"`

	// Request headers that answers depend on, besides those of the API itself. Default: none.
	Vary []string `json:"vary,omitempty"`
}

// The values of Store and Scope, and the defaults of a Cache.
const (
	defaultCacheName     = "default"
	defaultCacheTTL      = caddy.Duration(time.Hour)
	defaultCacheSize     = 256 << 20
	defaultCacheMaxEntry = 4 << 20
	scopeKey, scopeSite  = "key", "site"
	inMemory, inRedis    = "memory", "redis"
)

// cacheableEndpoints are the endpoints whose answers can be cached. By default, those of the last one are not.
var cacheableEndpoints = []string{"chat", "completions", "embeddings", "rerank", "moderations", "responses"}

// provision returns the cache of a gateway, or nil if c is nil.
func (c *Cache) provision(store *storage) (*answercache.Cache, error) {
	if c == nil {
		return nil, nil
	}
	cache := &answercache.Cache{
		Name: cmp.Or(c.Name, defaultCacheName), TTL: time.Duration(cmp.Or(c.TTL, defaultCacheTTL)), MaxTTL: time.Duration(c.MaxTTL),
		MaxSize: cmp.Or(c.MaxSize, defaultCacheSize), MaxEntry: cmp.Or(c.MaxEntry, defaultCacheMaxEntry),
		SiteScope: c.Scope == scopeSite, DeterministicOnly: c.DeterministicOnly, KeepCut: c.KeepCut, Endpoints: map[string]bool{},
	}
	endpoints := c.Endpoints
	if len(endpoints) == 0 {
		endpoints = cacheableEndpoints[:len(cacheableEndpoints)-1]
	}
	for _, name := range endpoints {
		cache.Endpoints[name] = true
	}
	for _, name := range c.Vary {
		cache.Vary = append(cache.Vary, http.CanonicalHeaderKey(name))
	}
	var err error
	if cache.Shared, err = store.cache(cache.Name, cache.MaxSize); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	cache.Store = cache.Shared.Memory
	if store.client != nil && c.Store != inMemory {
		if cache.Store, err = store.sharedCache(cache.Name); err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		}
	}
	return cache, nil
}

func (c *Cache) validate() error {
	if !slices.Contains([]string{"", inMemory, inRedis}, c.Store) {
		return fmt.Errorf("unknown store %q; use memory or redis", c.Store)
	}
	if !slices.Contains([]string{"", scopeKey, scopeSite}, c.Scope) {
		return fmt.Errorf("unknown scope %q; use key or site", c.Scope)
	}
	for _, name := range c.Endpoints {
		if !slices.Contains(cacheableEndpoints, name) {
			if near := nearestEndpoint(name, cacheableEndpoints); near != "" {
				return fmt.Errorf("unknown endpoint %q; did you mean %s?", name, near)
			}
			return fmt.Errorf("answers of the endpoint %q cannot be cached; use %s", name, strings.Join(cacheableEndpoints, ", "))
		}
	}
	if c.TTL < 0 || c.MaxTTL < 0 || c.MaxSize < 0 || c.MaxEntry < 0 {
		return errors.New("ttl, max_ttl, max_size and max_entry must not be negative")
	}
	return nil
}
