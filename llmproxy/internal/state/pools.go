// Package state is what outlives a configuration: the facts that handlers share over reloads, and where they are kept: in
// memory, in the embedded store of this machine, or in a Redis or Valkey server that several Caddys share. A Closer gives all
// of it back.
//
// It holds facts, never rules, so that a configuration that fails to load has changed nothing. It knows Caddy, and stands below
// llmproxy, keystore, telemetry and admin.
package state

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
)

// A Pool holds values that handlers share, each for as long as one of them holds it.
type Pool struct{ pool *caddy.UsagePool }

// The pools of the process, and what they are about.
var (
	Replicas     = newPool() // *replica.Replica by address: its slots, queue, circuit breaker and health
	Sessions     = newPool() // *gateway.Affinity: which rule each session got
	Caches       = newPool() // *caching.Cache by name
	CacheServers = newPool() // *caching.Redis by name and client
	Ledgers      = newPool() // UsageLedger by path or client: what was used
	RedisClients = newPool() // redis.UniversalClient by address and trust
	Limits       = newPool() // what is used of all limits, of this machine or of a client
	BudgetAlerts = newPool() // which budgets were reported
	KeyStores    = newPool() // *keystore.Store by file, client or machine
)

func newPool() *Pool { return &Pool{caddy.NewUsagePool()} }

// A shared value is what a pool holds.
type shared[V any] struct {
	value   V
	destroy func(V) error
}

// Destruct implements caddy.Destructor.
func (s *shared[V]) Destruct() error {
	if s.destroy == nil {
		return nil
	}
	return s.destroy(s.value)
}

// Acquire returns the value under a key; it is made if nobody holds one, and destroyed when nobody does any more. Destroy may
// be nil. The caller must Release it.
func Acquire[V any](p *Pool, key any, build func() (V, error), destroy func(V) error) (V, error) {
	value, _, err := p.pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		v, err := build()
		return &shared[V]{v, destroy}, err
	})
	if err != nil {
		var none V
		return none, err
	}
	return value.(*shared[V]).value, nil
}

// Release gives a value back.
func (p *Pool) Release(key any) {
	_, _ = p.pool.Delete(key) // what destroying says, those report who need it
}

// Each visits the values that somebody holds.
func Each[V any](p *Pool, visit func(key any, value V)) {
	p.pool.Range(func(key, value any) bool {
		visit(key, value.(*shared[V]).value)
		return true
	})
}

// Len returns how many values somebody holds.
func (p *Pool) Len() (n int) {
	p.pool.Range(func(_, _ any) bool {
		n++
		return true
	})
	return n
}

// References returns how many hold the value under a key.
func (p *Pool) References(key any) int {
	n, _ := p.pool.References(key)
	return n
}

// A CacheServer is the key of a cache's store at a shared server.
type CacheServer struct {
	Cache  string // its name
	Client redis.UniversalClient
}
