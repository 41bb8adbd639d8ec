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

// LongestWait is how long a request waits for a shared store.
const LongestWait = 50 * time.Millisecond

const (
	// redisPut bounds what nobody waits for.
	redisPut = time.Second
	// redisPuts is how many may be under way; more are left out.
	redisPuts = 64
)

// A Redis keeps entries in a Redis or Valkey server that several gateways share. A server that does not answer is a miss:
// the first few requests wait 50 ms at most, the others not at all until it is tried again.
type Redis struct {
	client redis.UniversalClient
	prefix string
	puts   chan struct{}
	rest   Rest

	mu      sync.Mutex
	written map[string][]byte // what is on its way to the server, by its key there
}

// NewRedis makes a store for the cache of a name.
func NewRedis(client redis.UniversalClient, name string) *Redis {
	return &Redis{client: client, prefix: "llm_proxy:cache:" + short(name) + ":", puts: make(chan struct{}, redisPuts), written: map[string][]byte{}}
}

// short makes a name safe in keys and patterns.
func short(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:8])
}

func (r *Redis) of(model string) string { return r.prefix + short(model) + ":" }

// Get implements Store.
func (r *Redis) Get(ctx context.Context, model string, keys []Key) [][]byte {
	values := make([][]byte, len(keys))
	prefix := r.of(model)
	if r.writing(prefix, keys, values) || !r.rest.Open() {
		return values
	}
	waited := ctx
	ctx, cancel := context.WithTimeout(ctx, LongestWait)
	defer cancel()
	// Single gets in one go: in a cluster the keys lie at several servers.
	pipe := r.client.Pipeline()
	gets := make([]*redis.StringCmd, len(keys))
	for i, k := range keys {
		gets[i] = pipe.Get(ctx, prefix+string(k[:]))
	}
	_, err := pipe.Exec(ctx)
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	if waited.Err() == nil { // else nobody waits any more
		r.judge(err)
	}
	for i, get := range gets {
		if value, err := get.Bytes(); err == nil {
			values[i] = value
		}
	}
	return values
}

// refusals are the beginnings of what a server says that goes on answering others: it has no room, cannot write to its disk, is a
// replica, must not be asked for this, or keeps something else there.
var refusals = []string{"OOM ", "MISCONF ", "READONLY ", "NOPERM ", "WRONGTYPE "}

// judge takes note of how the server did. That it keeps nothing new is no reason to leave alone what it has.
func (r *Redis) judge(err error) {
	var answered redis.Error
	if errors.As(err, &answered) && slices.ContainsFunc(refusals, func(s string) bool { return strings.HasPrefix(answered.Error(), s) }) {
		err = nil
	}
	r.rest.Judge(err)
}

// writing gives what is on its way to the server, so that whoever asks as soon as an answer is there need not ask for another
// one; false if that is not all.
func (r *Redis) writing(prefix string, keys []Key, values [][]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := len(r.written) > 0
	for i := 0; i < len(keys) && len(r.written) > 0; i++ {
		values[i] = r.written[prefix+string(keys[i][:])]
		all = all && values[i] != nil
	}
	return all
}

// Put implements Store. Nobody waits for it.
func (r *Redis) Put(model string, items []Item, ttl time.Duration) {
	if r.rest.Resting() || len(items) == 0 {
		return
	}
	select {
	case r.puts <- struct{}{}:
	default:
		return
	}
	prefix := r.of(model)
	r.mu.Lock()
	for _, i := range items {
		r.written[prefix+string(i.Key[:])] = i.Value
	}
	r.mu.Unlock()
	go func() {
		defer func() { <-r.puts }()
		r.judge(r.set(prefix, items, ttl))
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, i := range items {
			delete(r.written, prefix+string(i.Key[:]))
		}
	}()
}

func (r *Redis) set(prefix string, items []Item, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), redisPut)
	defer cancel()
	pipe := r.client.Pipeline()
	for _, i := range items {
		pipe.Set(ctx, prefix+string(i.Key[:]), i.Value, ttl)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// Purge implements Store.
func (r *Redis) Purge(ctx context.Context, model string) (int, error) {
	pattern := r.prefix + "*"
	if model != "" {
		pattern = r.of(model) + "*"
	}
	var n atomic.Int64
	purge := func(ctx context.Context, server *redis.Client) error {
		purged, err := purgeServer(ctx, server, pattern)
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
		err = fmt.Errorf("a client of type %T cannot be searched", client)
	}
	return int(n.Load()), err
}

// purgeServer searches one server. Keys go one by one, because those of a cluster's server may lie in several slots.
func purgeServer(ctx context.Context, server *redis.Client, pattern string) (n int, err error) {
	for cursor := uint64(0); ; {
		keys, next, err := server.Scan(ctx, cursor, pattern, 1000).Result()
		if err != nil {
			return n, fmt.Errorf("searching the store: %w", err)
		}
		pipe := server.Pipeline()
		gone := make([]*redis.IntCmd, len(keys))
		for i, k := range keys {
			gone[i] = pipe.Unlink(ctx, k)
		}
		if len(keys) > 0 {
			if _, err := pipe.Exec(ctx); err != nil {
				return n, fmt.Errorf("removing from the store: %w", err)
			}
		}
		for _, g := range gone {
			n += int(g.Val())
		}
		if cursor = next; cursor == 0 {
			return n, nil
		}
	}
}
