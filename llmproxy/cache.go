package llmproxy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// A Cache keeps answers and gives them to whoever asks the same again.
type Cache struct {
	// Keeps caches apart: answers are shared by handlers whose caches have the same name, as far as scope allows, and
	// max_size is one for all of them. Default: default.
	Name string `json:"name,omitempty"`

	// Where answers are kept: in "memory", or in the "redis" of the shared state, for all Caddys that share it. Default: redis
	// with shared state, else memory.
	Store string `json:"store,omitempty"`

	// How long an answer is kept. Default: 1h.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// The longest that a client may ask for with X-LLM-Cache-TTL. Default: ttl.
	MaxTTL caddy.Duration `json:"max_ttl,omitempty"`

	// What all answers in memory may take, in bytes, compressed and with what it costs to keep them; an eighth of it is for those
	// that were asked for again, ready to be sent, also where a shared server keeps them, which has a bound of its own, maxmemory.
	// Answers that are just being written down may take as much again. Default: 268435456 (256 MiB).
	MaxSize int64 `json:"max_size,omitempty"`

	// The largest answer that is kept, in bytes, before compression; of embeddings, the largest single one. Default: 4194304
	// (4 MiB).
	MaxEntry int64 `json:"max_entry,omitempty"`

	// Who shares answers: those with the same key ("key"; all without a key are one), or everybody at the site ("site").
	// Default: key.
	Scope string `json:"scope,omitempty"`

	// The endpoints whose answers are kept, by name: chat, completions, embeddings, rerank, moderations, responses.
	// Default: all but responses.
	Endpoints []string `json:"endpoints,omitempty"`

	// Keep only answers that are not drawn by chance: temperature 0, one choice. Default: false.
	DeterministicOnly bool `json:"deterministic_only,omitempty"`

	// Keep also answers that were cut at max_tokens. Default: false.
	KeepCut bool `json:"keep_cut,omitempty"`

	// Request headers on which answers depend, besides those of the API itself. Default: none.
	Vary []string `json:"vary,omitempty"`
}

// The defaults of a Cache.
const (
	defaultCacheName     = "default"
	defaultCacheTTL      = time.Hour
	defaultCacheSize     = 256 << 20
	defaultCacheMaxEntry = 4 << 20
	scopeKey, scopeSite  = "key", "site"
	inMemory, inRedis    = "memory", "redis"
)

var (
	cacheableEndpoints = []string{"chat", "completions", "embeddings", "rerank", "moderations", "responses"}
	defaultEndpoints   = cacheableEndpoints[:5]
)

// cache makes the rules, and takes a reference to what they are about; nil without a cache.
func (h *Handler) cache() (*answercache.Cache, error) {
	c := h.Cache
	if c == nil {
		return nil, nil
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	rules := &answercache.Cache{
		Name: cmp.Or(c.Name, defaultCacheName), TTL: time.Duration(cmp.Or(c.TTL, caddy.Duration(defaultCacheTTL))), MaxTTL: time.Duration(c.MaxTTL),
		MaxSize: cmp.Or(c.MaxSize, defaultCacheSize), MaxEntry: cmp.Or(c.MaxEntry, defaultCacheMaxEntry),
		Everybody: c.Scope == scopeSite, Deterministic: c.DeterministicOnly, Length: c.KeepCut, Endpoints: map[string]bool{},
	}
	endpoints := c.Endpoints
	if len(endpoints) == 0 {
		endpoints = defaultEndpoints
	}
	for _, name := range endpoints {
		rules.Endpoints[name] = true
	}
	for _, name := range c.Vary {
		rules.Vary = append(rules.Vary, http.CanonicalHeaderKey(name))
	}
	shared, err := state.Acquire(h.closer.Add, state.Caches, rules.Name, func() (*caching.Cache, error) {
		return caching.New(rules.MaxSize), nil
	})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	rules.Shared = shared
	if rules.Store, err = h.cacheStore(rules); err != nil {
		return nil, err
	}
	return rules, nil
}

func (h *Handler) cacheStore(rules *answercache.Cache) (caching.Store, error) {
	client, err := h.redis()
	if err != nil {
		return nil, err
	}
	if h.Cache.Store == inMemory || h.Cache.Store == "" && client == nil {
		return rules.Shared.Memory, nil
	}
	if client == nil {
		return nil, errors.New("cache: store redis needs a shared state; add state redis://…")
	}
	where := state.CacheServer{Cache: rules.Name, Client: client}
	store, err := state.Acquire(h.closer.Add, state.CacheServers, where, func() (*caching.Redis, error) {
		return caching.NewRedis(client, rules.Name), nil
	})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	return store, nil
}

func (c *Cache) check() error {
	if c.Store != "" && c.Store != inMemory && c.Store != inRedis {
		return fmt.Errorf("unknown store %q; use memory or redis", c.Store)
	}
	if c.Scope != "" && c.Scope != scopeKey && c.Scope != scopeSite {
		return fmt.Errorf("unknown scope %q; use key or site", c.Scope)
	}
	for _, name := range c.Endpoints {
		if !slices.Contains(cacheableEndpoints, name) {
			return fmt.Errorf("answers of the endpoint %q cannot be cached; use %s", name, strings.Join(cacheableEndpoints, ", "))
		}
	}
	if c.TTL < 0 || c.MaxTTL < 0 || c.MaxSize < 0 || c.MaxEntry < 0 {
		return errors.New("durations and sizes must not be negative")
	}
	return nil
}

// fingerprint stands for what answers of an upstream may depend on: all of its configuration but how it is reached and for
// how long it is waited for. What is added to it counts.
func fingerprint(u *Upstream) (string, error) {
	same := *u
	same.APIKey, same.TransportRaw = "", nil
	same.DialTimeout, same.FirstTokenTimeout, same.IdleTimeout, same.Timeout = 0, 0, 0, 0
	text, err := json.Marshal(&same)
	if err != nil {
		return "", fmt.Errorf("reading its configuration: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
