package keystore

import (
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// OpenFile returns the store of a file, which need not exist yet. One that is broken is an error.
func OpenFile(c *state.Closer, path string) (*Store, error) {
	return open(c, path, func() (*Store, error) {
		s := NewFile(path)
		if _, err := s.load(); err != nil {
			return nil, fmt.Errorf("keys_file %s: %w", path, err)
		}
		return s, nil
	})
}

// OpenRedis returns the store of the shared state at an address. What was seen there last is remembered for a start while the
// state is away.
func OpenRedis(c *state.Closer, client redis.UniversalClient, address string) (*Store, error) {
	// By client: there may be several, also for a while when a reload names another server.
	return open(c, client, func() (*Store, error) {
		doc := &redisDocument{client: client, copy: state.Remembered("keys", address)}
		s := newStore("state", doc)
		s.file = doc.recall()
		return s, nil
	})
}

// OpenLocal returns the store of this machine.
func OpenLocal(c *state.Closer) (*Store, error) {
	ledger := state.Ledger(c)
	return open(c, state.ThisMachine, func() (*Store, error) {
		return newStore(state.ThisMachine, &localDocument{ledger: ledger}), nil
	})
}

func open(c *state.Closer, place any, build func() (*Store, error)) (*Store, error) {
	s, err := state.Acquire(state.KeyStores, place, func() (*Store, error) {
		s, err := build()
		if err != nil {
			return nil, err
		}
		time.AfterFunc(state.FirstUse, s.watch) // a configuration that is only validated asks nobody
		return s, nil
	}, (*Store).close)
	if err != nil {
		return nil, err
	}
	c.AddLasting(func() { state.KeyStores.Release(place) })
	return s, nil
}

// NewFile returns a store of a file that no handler shares, for a command.
func NewFile(path string) *Store { return newStore(path, &fileDocument{path: path}) }

// NewRedis returns a store of a shared state that no handler shares.
func NewRedis(client redis.UniversalClient) *Store {
	return newStore("state", &redisDocument{client: client})
}
