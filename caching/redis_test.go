//go:build redis

package caching

import (
	"bufio"
	"context"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// startRedis runs a real server on a free port; stop kills it.
func startRedis(t *testing.T) (client *redis.Client, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	cmd.Dir = t.TempDir()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal("redis-server is needed: ", err)
	}
	stop = func() {
		cmd.Process.Kill() //nolint:errcheck // it may be dead already
		cmd.Wait()         //nolint:errcheck // it was killed
	}
	t.Cleanup(stop)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "Ready to accept") {
			break
		}
	}
	client = redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:" + port, DialTimeout: time.Second, ReadTimeout: 500 * time.Millisecond, WriteTimeout: 500 * time.Millisecond, PoolTimeout: redisWait,
		MaxRetries: -1, ContextTimeoutEnabled: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { client.Close() })
	return client, stop
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
	a.settle()
	b.settle()
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
	for deadline := time.Now().Add(5 * time.Second); b.Get(ctx, "m", []Key{key(5)})[0] != nil; {
		if time.Now().After(deadline) {
			t.Fatal("it does not expire")
		}
	}
}

// A server that dies is a miss, and soon costs nothing.
func TestRedisThatDies(t *testing.T) {
	client, stop := startRedis(t)
	ctx := context.Background()
	r := NewRedis(client, "a")
	r.Put("m", []Item{{key(1), []byte("one")}}, time.Hour)
	r.settle()
	if got := r.Get(ctx, "m", []Key{key(1)}); string(got[0]) != "one" {
		t.Fatalf("%q", got)
	}
	stop()
	for range redisStrikes {
		start := time.Now()
		if got := r.Get(ctx, "m", []Key{key(1)}); got[0] != nil {
			t.Errorf("%q", got)
		}
		if took := time.Since(start); took > 10*redisWait {
			t.Errorf("a dead server cost %s", took)
		}
	}
	if r.open() {
		t.Error("it is asked again at once")
	}
	r.Put("m", []Item{{key(1), []byte("one")}}, time.Hour)
	if len(r.puts) != 0 {
		t.Error("something is put into a dead server")
	}
	r.until.Store(1) // the pause is over
	if !r.open() || r.open() {
		t.Error("after the pause exactly one request is to try")
	}
}

// A server that hangs costs 50 ms.
func TestRedisThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := redis.NewClient(&redis.Options{Addr: l.Addr().String(), MaxRetries: -1, ContextTimeoutEnabled: true, PoolTimeout: redisWait})
	defer client.Close()
	r := NewRedis(client, "a")
	start := time.Now()
	r.Get(context.Background(), "m", []Key{key(1)})
	if took := time.Since(start); took < redisWait/2 || took > 10*redisWait {
		t.Errorf("a server that hangs cost %s", took)
	}
}
