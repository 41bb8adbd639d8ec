package keystore

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

const (
	redisKey     = "llm_proxy:keys"
	redisTimeout = 500 * time.Millisecond
)

// OpenRedis returns the store of the shared state at an address. If the server cannot be reached at the start, the store begins
// with the keys that were last read from it.
func OpenRedis(c *state.Closer, client redis.UniversalClient, address string) (*Store, error) {
	// The key is the client: there may be several states, and during a reload the old and the new one.
	return open(c, client, func() (*Store, error) {
		doc := &redisDocument{client: client, snapshot: state.SnapshotOf("keys", address)}
		s := newStore("state", doc)
		if file, err := keys.ParseFile(doc.snapshot.Read()); err == nil {
			s.file = file // not marked as loaded, because the server may have newer keys
		}
		return s, nil
	})
}

// NewRedis returns a store of a shared state that is not shared with handlers.
func NewRedis(client redis.UniversalClient) *Store {
	return newStore("state", &redisDocument{client: client})
}

// redisDocument is a document in the shared state. The server may lose changes, because it is flushed, restored from an older
// copy, or replaced by a replica that lagged behind. Therefore every text has a version, and a Caddy that knows a newer version
// than the server writes it again.
type redisDocument struct {
	client   redis.UniversalClient
	snapshot state.Snapshot // empty if it is not wanted

	mu     sync.Mutex
	latest version

	saving sync.Mutex // held while the snapshot is written
}

// A version is the text after a number of changes.
type version struct {
	number int64
	text   []byte
}

// encode returns the value as the server stores it: a line with the number, and the text.
func (v version) encode() string {
	if v.number == 0 {
		return string(v.text)
	}
	return strconv.FormatInt(v.number, 10) + "\n" + string(v.text)
}

// parseVersion parses a value. A value without a number was written by something else and is older than all changes.
func parseVersion(value string) version {
	line, text, _ := strings.Cut(value, "\n")
	if number, err := strconv.ParseInt(line, 10, 64); err == nil && number > 0 {
		return version{number, []byte(text)}
	}
	if value == "" {
		return version{}
	}
	return version{0, []byte(value)}
}

func (r *redisDocument) exclusive() bool { return false }

func (r *redisDocument) read() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	value, err := r.client.Get(ctx, redisKey).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	found := parseVersion(value)
	if found.number >= r.latest.number {
		r.setLatest(found)
		return found.text, nil
	}
	written, err := r.compareAndSet(ctx, value, r.latest)
	if err != nil {
		return nil, err
	}
	if written { // else another Caddy wrote first, and the next read returns that
		caddy.Log().Named("http.handlers.llm_proxy").Warn("the shared state had lost changes to keys; they were restored")
	}
	return r.latest.text, nil
}

func (r *redisDocument) replace(old, text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !bytes.Equal(r.latest.text, old) {
		return errConflict
	}
	next := version{r.latest.number + 1, text}
	written, err := r.compareAndSet(ctx, r.latest.encode(), next)
	if err != nil {
		return err
	}
	if !written {
		return errConflict
	}
	r.setLatest(next)
	return nil
}

var compareAndSetScript = redis.NewScript(`if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`)

func (r *redisDocument) compareAndSet(ctx context.Context, old string, next version) (written bool, err error) {
	n, err := compareAndSetScript.Run(ctx, r.client, []string{redisKey}, old, next.encode()).Int()
	return n == 1, err
}

// setLatest is called with mu held.
func (r *redisDocument) setLatest(v version) {
	same := r.latest.number == v.number && bytes.Equal(r.latest.text, v.text)
	r.latest = v
	if !same && r.snapshot != "" {
		go r.saveSnapshot() // the disk may be slow
	}
}

func (r *redisDocument) saveSnapshot() {
	r.saving.Lock()
	defer r.saving.Unlock()
	r.mu.Lock()
	text := r.latest.text
	r.mu.Unlock()
	if err := r.snapshot.Write(text); err != nil {
		caddy.Log().Named("http.handlers.llm_proxy").Warn("cannot save the shared keys for the next start; check the data directory", zap.Error(err))
	}
}
