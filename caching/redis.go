package caching

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// GetTimeout is the longest that a request waits for a shared store.
const GetTimeout = 50 * time.Millisecond

const (
	// putTimeout is the longest that a Put in the background takes.
	putTimeout = time.Second
	// maxPuts is how many Puts may be in progress; further ones are dropped.
	maxPuts = 64
	// maxPutBytes is how much they may hold together, in bytes, unless one alone is larger.
	maxPutBytes = 32 << 20
)

// A Redis stores entries in a Redis or Valkey server that several gateways share. If the server does not answer, every lookup
// is a miss: the first few wait for up to 50 ms, and then the circuit breaker opens and none of them waits.
type Redis struct {
	client  redis.UniversalClient
	prefix  string
	puts    chan struct{} // holds a value for each Put in progress
	breaker breaker

	mu           sync.Mutex
	pending      map[string][]byte // the values that are being written, by their key in Redis
	pendingBytes int
}

// NewRedis returns the store of the cache of that name.
func NewRedis(client redis.UniversalClient, name string) *Redis {
	return &Redis{client: client, prefix: "llm_proxy:cache:" + shortHash(name) + ":", puts: make(chan struct{}, maxPuts), pending: map[string][]byte{}}
}

// shortHash makes a name safe in keys and patterns.
func shortHash(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:8])
}

// modelPrefix returns how the keys of a model begin.
func (r *Redis) modelPrefix(model string) string { return r.prefix + shortHash(model) + ":" }

// Get implements Store.
func (r *Redis) Get(ctx context.Context, model string, keys []Key) [][]byte {
	values := make([][]byte, len(keys))
	prefix := r.modelPrefix(model)
	if r.getPending(prefix, keys, values) || !r.breaker.allow() {
		return values
	}
	requestCtx := ctx
	ctx, cancel := context.WithTimeout(ctx, GetTimeout)
	defer cancel()
	// A pipeline of GETs instead of one MGET, because in a cluster the keys are on different nodes.
	pipe := r.client.Pipeline()
	gets := make([]*redis.StringCmd, len(keys))
	for i, k := range keys {
		gets[i] = pipe.Get(ctx, prefix+string(k[:]))
	}
	_, err := pipe.Exec(ctx)
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	if requestCtx.Err() == nil { // otherwise the request gave up, and the server may be fine
		r.record(err)
	}
	for i, get := range gets {
		if value, err := get.Bytes(); err == nil {
			values[i] = value
		}
	}
	return values
}

// refusals are how errors begin that a server returns although it works: it is out of memory, cannot write to its disk, is a
// read-only replica, does not permit the command, or holds a value of another type under the key.
var refusals = []string{"OOM ", "MISCONF ", "READONLY ", "NOPERM ", "WRONGTYPE "}

// record reports a call to the circuit breaker. An error that the server returned is not a failure: the server still answers.
func (r *Redis) record(err error) {
	var answered redis.Error
	if errors.As(err, &answered) && slices.ContainsFunc(refusals, func(s string) bool { return strings.HasPrefix(answered.Error(), s) }) {
		err = nil
	}
	r.breaker.record(err)
}

// getPending fills in the values that are being written, so that an answer is found as soon as it is stored. It reports
// whether these are all.
func (r *Redis) getPending(prefix string, keys []Key, values [][]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := len(r.pending) > 0
	for i := 0; i < len(keys) && len(r.pending) > 0; i++ {
		values[i] = r.pending[prefix+string(keys[i][:])]
		all = all && values[i] != nil
	}
	return all
}

// Put implements Store. It writes in the background.
func (r *Redis) Put(model string, items []Item, ttl time.Duration) {
	if r.breaker.isOpen() || len(items) == 0 {
		return
	}
	select {
	case r.puts <- struct{}{}:
	default:
		return
	}
	prefix, size := r.modelPrefix(model), 0
	for _, i := range items {
		size += len(i.Value)
	}
	if !r.addPending(prefix, items, size) {
		<-r.puts
		return
	}
	go func() {
		defer func() { <-r.puts }()
		r.record(r.set(prefix, items, ttl))
		r.removePending(prefix, items, size)
	}()
}

// addPending notes that items are being written. It returns false if too much is being written already.
func (r *Redis) addPending(prefix string, items []Item, size int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pendingBytes > 0 && r.pendingBytes+size > maxPutBytes {
		return false
	}
	r.pendingBytes += size
	for _, i := range items {
		r.pending[prefix+string(i.Key[:])] = i.Value
	}
	return true
}

func (r *Redis) removePending(prefix string, items []Item, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pendingBytes -= size
	for _, i := range items {
		delete(r.pending, prefix+string(i.Key[:]))
	}
}

func (r *Redis) set(prefix string, items []Item, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), putTimeout)
	defer cancel()
	pipe := r.client.Pipeline()
	for _, i := range items {
		pipe.Set(ctx, prefix+string(i.Key[:]), i.Value, ttl)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// Purge deletes the entries of a model, or all of them if model is empty, and returns how many it deleted, even if it fails.
func (r *Redis) Purge(ctx context.Context, model string) (int, error) {
	pattern := r.prefix + "*"
	if model != "" {
		pattern = r.modelPrefix(model) + "*"
	}
	var n atomic.Int64
	purge := func(ctx context.Context, node *redis.Client) error {
		purged, err := purgeNode(ctx, node, pattern)
		n.Add(int64(purged))
		return err
	}
	var err error
	switch client := r.client.(type) {
	case *redis.ClusterClient:
		err = client.ForEachMaster(ctx, purge)
	case *redis.Client:
		err = purge(ctx, client)
	default:
		err = fmt.Errorf("purging is not supported with a client of type %T", client)
	}
	return int(n.Load()), err
}

// purgeNode deletes the keys of one server that match a pattern. It deletes each key by its own command, because a node of a
// cluster holds several slots, and a command may only name keys of one.
func purgeNode(ctx context.Context, node *redis.Client, pattern string) (n int, err error) {
	for cursor := uint64(0); ; {
		keys, next, err := node.Scan(ctx, cursor, pattern, 1000).Result()
		if err != nil {
			return n, fmt.Errorf("listing cached answers in Redis: %w", err)
		}
		pipe := node.Pipeline()
		deleted := make([]*redis.IntCmd, len(keys))
		for i, k := range keys {
			deleted[i] = pipe.Unlink(ctx, k)
		}
		if len(keys) > 0 {
			if _, err := pipe.Exec(ctx); err != nil {
				return n, fmt.Errorf("deleting cached answers in Redis: %w", err)
			}
		}
		for _, d := range deleted {
			n += int(d.Val())
		}
		if cursor = next; cursor == 0 {
			return n, nil
		}
	}
}
