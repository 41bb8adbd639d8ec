// Package state owns what outlives a configuration: the facts that handlers share across reloads, and the places that store
// them: memory, the embedded store of this machine, or a Redis or Valkey server that several Caddys share. A Closer releases
// everything that one handler acquired.
//
// It stores facts, never rules, so that a configuration that fails to load has changed nothing. It decides nothing about a
// request. It knows Caddy, and stands on the lowest of the floors that do, below keystore, telemetry, admin and llmproxy.
package state

import (
	"io"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
)

// A Pool holds values that handlers share, each for as long as at least one handler holds it.
type Pool struct{ pool *caddy.UsagePool }

// The pools of the process, with the types of their values and keys.
var (
	Sites        = newPool() // *overview.Site by itself: the handlers in use, without those of previous configurations
	Recent       = newPool() // *overview.Recent, only one: the latest requests
	Replicas     = newPool() // *replica.Replica by address: slots, admission queue, circuit breaker, health
	Sessions     = newPool() // *gateway.Affinity, only one: the rule that each session was routed by
	Responses    = newPool() // *gateway.StoredResponses, only one: the upstream that has stored each response
	Caches       = newPool() // *caching.Cache by name
	CacheServers = newPool() // *caching.Redis by CacheServer
	Ledgers      = newPool() // UsageLedger by path or client
	RedisClients = newPool() // redis.UniversalClient by address and TLS configuration
	Limits       = newPool() // the usage of all limits, by client, or ThisMachine
	BudgetAlerts = newPool() // of telemetry, only one: the budgets that were reported as used up
	KeyStores    = newPool() // *keystore.Store by path, client, or ThisMachine
	Memory       = newPool() // *memory.Usage, only one: the bytes that requests of all handlers hold
	Ballast      = newPool() // []byte, only one: memory that nobody touches, so that garbage is collected less often
	GarbageTimer = newPool() // *time.Timer, only one: it returns the garbage of loading a configuration to the operating system
)

// ThisMachine is the key of a value that there is once on this machine.
const ThisMachine = "local"

// A CacheServer is the key of a cache's store at a shared server.
type CacheServer struct {
	Cache  string // its name
	Client redis.UniversalClient
}

func newPool() *Pool { return &Pool{caddy.NewUsagePool()} }

// Acquire returns the value of a key, and builds it if no handler holds it. It passes the function that releases the value to
// own, which is a Closer's Add or AddLasting. A value with a method Close is closed when the last handler releases it.
func Acquire[V any](own func(release func()), p *Pool, key any, build func() (V, error)) (V, error) {
	value, _, err := p.pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		v, err := build()
		return pooled[V]{v}, err
	})
	if err != nil {
		var none V
		return none, err
	}
	own(func() { p.pool.Delete(key) }) //nolint:errcheck // values report their own errors
	return value.(pooled[V]).value, nil
}

// Each calls visit for each value that a handler holds.
func Each[V any](p *Pool, visit func(key any, value V)) {
	p.pool.Range(func(key, value any) bool {
		visit(key, value.(pooled[V]).value)
		return true
	})
}

// Len returns the number of values that handlers hold.
func (p *Pool) Len() (n int) {
	p.pool.Range(func(_, _ any) bool {
		n++
		return true
	})
	return n
}

// References returns the number of times that a key's value is held.
func (p *Pool) References(key any) int {
	n, _ := p.pool.References(key)
	return n
}

// pooled is a value as Caddy's pools hold it.
type pooled[V any] struct{ value V }

// Destruct implements caddy.Destructor.
func (p pooled[V]) Destruct() error {
	switch v := any(p.value).(type) {
	case io.Closer:
		return v.Close()
	case interface{ Close() }:
		v.Close()
	}
	return nil
}
