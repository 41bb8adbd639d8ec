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

// stalled is far beyond LongestWait, on whatever machine, and what startRedis' client waits by itself is far beyond stalled.
const stalled = 5 * time.Second

// startRedis runs a real server, and a client that heeds deadlines, as those of the state do.
func startRedis(t *testing.T) (*redis.Client, *redistest.Server) {
	t.Helper()
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{
		Addr: server.Address, DialTimeout: time.Second, ReadTimeout: 4 * stalled, WriteTimeout: 4 * stalled, PoolTimeout: LongestWait,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { client.Close() })
	return client, server
}

// settle waits for what is put behind the client's back.
func (r *Redis) settle() {
	for range redisPuts {
		r.puts <- struct{}{}
	}
	for range redisPuts {
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
	a.settle()
	b.settle()
	if len(a.written) != 0 {
		t.Errorf("%d values are held", len(a.written))
	}
	if got := a.Get(ctx, "m", []Key{key(1), key(9), key(2)}); string(got[0]) != "one" || got[1] != nil || string(got[2]) != "two" {
		t.Errorf("%q", got)
	}
	if got := b.Get(ctx, "m", []Key{key(1)}); string(got[0]) != "other" {
		t.Errorf("%q", got)
	}
	if n, err := a.Purge(ctx, "m"); n != 2 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if n, err := a.Purge(ctx, ""); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if got := b.Get(ctx, "m", []Key{key(1)}); string(got[0]) != "other" {
		t.Errorf("purging one cache took from another: %q", got)
	}
	b.Put("m", []Item{{key(5), []byte("short")}}, time.Millisecond)
	b.settle()
	for deadline := time.Now().Add(time.Minute); b.Get(ctx, "m", []Key{key(5)})[0] != nil; {
		if time.Now().After(deadline) {
			t.Fatal("it does not expire")
		}
	}
}

// A server that dies is a miss, and soon costs nothing.
func TestRedisThatDies(t *testing.T) {
	client, server := startRedis(t)
	ctx := context.Background()
	r := NewRedis(client, "a")
	r.Put("m", []Item{{key(1), []byte("one")}}, time.Hour)
	r.settle()
	if got := r.Get(ctx, "m", []Key{key(1)}); string(got[0]) != "one" {
		t.Fatalf("%q", got)
	}
	server.Down()
	for range restStrikes {
		start := time.Now()
		if got := r.Get(ctx, "m", []Key{key(1)}); got[0] != nil {
			t.Errorf("%q", got)
		}
		if took := time.Since(start); took > stalled {
			t.Errorf("a dead server cost %s", took)
		}
	}
	if r.rest.Open() {
		t.Error("it is asked again at once")
	}
	r.Put("m", []Item{{key(1), []byte("one")}}, time.Hour)
	if len(r.puts) != 0 {
		t.Error("something is put into a dead server")
	}
	r.rest.until.Store(1) // the pause is over
	if !r.rest.Open() || r.rest.Open() {
		t.Error("after the pause exactly one request is to try")
	}
}

// A server that hangs costs 50 ms.
func TestRedisThatHangs(t *testing.T) {
	client, server := startRedis(t)
	r := NewRedis(client, "a")
	r.Put("m", []Item{{key(1), []byte("one")}}, time.Hour)
	r.settle()
	server.Hang()
	defer server.GoOn()
	start := time.Now()
	if got := r.Get(context.Background(), "m", []Key{key(1)}); got[0] != nil {
		t.Errorf("%q", got)
	}
	if took := time.Since(start); took < LongestWait/2 || took > stalled {
		t.Errorf("a server that hangs cost %s", took)
	}
}

// A server that has no room, and lets nothing go for it, still gives what it has.
func TestRedisThatIsFull(t *testing.T) {
	client, _ := startRedis(t)
	ctx := context.Background()
	r := NewRedis(client, "a")
	r.Put("m", []Item{{key(1), []byte("one")}}, time.Hour)
	r.settle()
	for name, value := range map[string]string{"maxmemory-policy": "noeviction", "maxmemory": "1"} {
		if err := client.ConfigSet(ctx, name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 2 * restStrikes {
		r.Put("m", []Item{{key(10 + n), []byte("more")}}, time.Hour)
		r.settle()
	}
	if got := r.Get(ctx, "m", []Key{key(1)}); string(got[0]) != "one" || r.rest.Resting() {
		t.Errorf("%q; left alone: %t", got, r.rest.Resting())
	}
	if got := r.Get(ctx, "m", []Key{key(10)}); got[0] != nil {
		t.Errorf("%q was kept", got)
	}
}

// What somebody else put there in another type is a miss, and is overwritten.
func TestRedisWithSomethingElse(t *testing.T) {
	client, _ := startRedis(t)
	ctx := context.Background()
	r := NewRedis(client, "a")
	k := key(1)
	if err := client.LPush(ctx, r.of("m")+string(k[:]), "x").Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 * restStrikes {
		if got := r.Get(ctx, "m", []Key{k, key(2)}); got[0] != nil || got[1] != nil {
			t.Errorf("%q", got)
		}
	}
	r.Put("m", []Item{{k, []byte("one")}}, time.Hour)
	r.settle()
	if got := r.Get(ctx, "m", []Key{k}); string(got[0]) != "one" {
		t.Errorf("%q", got)
	}
}
