//go:build redis

package caching

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
)

// stalled is far longer than GetTimeout on any machine, and the client's own timeouts are far longer than stalled, so that a test
// shows which of them ended a wait.
const stalled = 5 * time.Second

// startRedis starts a server and returns a client that respects the deadlines of contexts, as that of the shared state does.
func startRedis(t *testing.T) (*redis.Client, *redistest.Server) {
	t.Helper()
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{
		Addr: server.Address, DialTimeout: time.Second, ReadTimeout: 4 * stalled, WriteTimeout: 4 * stalled, PoolTimeout: GetTimeout,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { client.Close() })
	return client, server
}

// awaitPuts waits until all Puts have ended.
func (r *Redis) awaitPuts() {
	for range maxPuts {
		r.puts <- struct{}{}
	}
	for range maxPuts {
		<-r.puts
	}
}

func TestRedis(t *testing.T) {
	client, _ := startRedis(t)
	ctx := context.Background()
	a, b := NewRedis(client, "a"), NewRedis(client, "b")
	a.Put("m", []Item{{key(1), []byte("one")}, {key(2), []byte("two")}}, time.Hour)
	a.Put("n*", []Item{{key(3), []byte("three")}}, time.Hour)
	b.Put("m", []Item{{key(1), []byte("other")}}, time.Hour)
	if got := a.Get(ctx, "m", []Key{key(1)}); string(got[0]) != "one" {
		t.Errorf("%q while it is being written", got)
	}
	a.awaitPuts()
	b.awaitPuts()
	if len(a.pending) != 0 {
		t.Errorf("%d values are still pending", len(a.pending))
	}
	if got := a.Get(ctx, "m", []Key{key(1), key(9), key(2)}); string(got[0]) != "one" || got[1] != nil || string(got[2]) != "two" {
		t.Errorf("Get: %q", got)
	}
	if got := b.Get(ctx, "m", []Key{key(1)}); string(got[0]) != "other" {
		t.Errorf("Get of the other cache: %q", got)
	}
	if n, err := a.Purge(ctx, "m"); n != 2 || err != nil {
		t.Errorf("Purge of a model: %d, %v", n, err)
	}
	if n, err := a.Purge(ctx, ""); n != 1 || err != nil {
		t.Errorf("Purge of everything: %d, %v", n, err)
	}
	if got := b.Get(ctx, "m", []Key{key(1)}); string(got[0]) != "other" {
		t.Errorf("Get of the other cache after purging this one: %q", got)
	}
	b.Put("m", []Item{{key(5), []byte("short")}}, time.Millisecond)
	b.awaitPuts()
	for deadline := time.Now().Add(time.Minute); b.Get(ctx, "m", []Key{key(5)})[0] != nil; {
		if time.Now().After(deadline) {
			t.Fatal("an entry with a TTL of 1 ms does not expire")
		}
	}
}

// Lookups in a server that is down are misses, and soon do not wait for it.
func TestRedisIsDown(t *testing.T) {
	client, server := startRedis(t)
	ctx := context.Background()
	r := NewRedis(client, "a")
	r.Put("m", []Item{{key(1), []byte("one")}}, time.Hour)
	r.awaitPuts()
	if got := r.Get(ctx, "m", []Key{key(1)}); string(got[0]) != "one" {
		t.Fatalf("Get: %q", got)
	}
	server.Down()
	for range breakerFailures {
		start := time.Now()
		if got := r.Get(ctx, "m", []Key{key(1)}); got[0] != nil {
			t.Errorf("Get: %q", got)
		}
		if took := time.Since(start); took > stalled {
			t.Errorf("Get took %s", took)
		}
	}
	if r.breaker.allow() {
		t.Error("the circuit breaker is not open")
	}
	r.Put("m", []Item{{key(1), []byte("one")}}, time.Hour)
	if len(r.puts) != 0 {
		t.Error("Put writes while the circuit breaker is open")
	}
	r.breaker.openUntil.Store(1) // long ago
	if !r.breaker.allow() || r.breaker.allow() {
		t.Error("the half-open circuit breaker does not allow exactly one attempt")
	}
}

// A lookup in a server that hangs takes 50 ms.
func TestRedisHangs(t *testing.T) {
	client, server := startRedis(t)
	r := NewRedis(client, "a")
	r.Put("m", []Item{{key(1), []byte("one")}}, time.Hour)
	r.awaitPuts()
	server.Hang()
	defer server.GoOn()
	start := time.Now()
	if got := r.Get(context.Background(), "m", []Key{key(1)}); got[0] != nil {
		t.Errorf("Get: %q", got)
	}
	if took := time.Since(start); took < GetTimeout/2 || took > stalled {
		t.Errorf("Get took %s", took)
	}
}

// A server that is full and evicts nothing still returns what it has.
func TestRedisIsFull(t *testing.T) {
	client, _ := startRedis(t)
	ctx := context.Background()
	r := NewRedis(client, "a")
	r.Put("m", []Item{{key(1), []byte("one")}}, time.Hour)
	r.awaitPuts()
	for name, value := range map[string]string{"maxmemory-policy": "noeviction", "maxmemory": "1"} {
		if err := client.ConfigSet(ctx, name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 2 * breakerFailures {
		r.Put("m", []Item{{key(10 + n), []byte("more")}}, time.Hour)
		r.awaitPuts()
	}
	if got := r.Get(ctx, "m", []Key{key(1)}); string(got[0]) != "one" || r.breaker.isOpen() {
		t.Errorf("Get: %q; the circuit breaker is open: %t", got, r.breaker.isOpen())
	}
	if got := r.Get(ctx, "m", []Key{key(10)}); got[0] != nil {
		t.Errorf("a full server stored %q", got)
	}
}

// A value of another type under a key is a miss, and is overwritten.
func TestRedisHoldsAnotherType(t *testing.T) {
	client, _ := startRedis(t)
	ctx := context.Background()
	r := NewRedis(client, "a")
	k := key(1)
	if err := client.LPush(ctx, r.modelPrefix("m")+string(k[:]), "x").Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 * breakerFailures {
		if got := r.Get(ctx, "m", []Key{k, key(2)}); got[0] != nil || got[1] != nil {
			t.Errorf("Get: %q", got)
		}
	}
	r.Put("m", []Item{{k, []byte("one")}}, time.Hour)
	r.awaitPuts()
	if got := r.Get(ctx, "m", []Key{k}); string(got[0]) != "one" {
		t.Errorf("Get after it was overwritten: %q", got)
	}
}
