//go:build redis

package keystore

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// another returns the store of another Caddy on the same server.
func another(t *testing.T, server *redistest.Server) *Store {
	t.Helper()
	client, err := state.NewRedis(server.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return NewRedis(client)
}

func keyNames(s *Store) (list []string) {
	for _, e := range s.Entries() {
		list = append(list, e.Name)
	}
	return list
}

// If two write at the same time, one of them tries again, and nothing is lost.
func TestSharedKeysAreNotOverwritten(t *testing.T) {
	server := redistest.Start(t)
	a, b := another(t, server), another(t, server)
	tries := 0
	err := a.Change(func(list []*keys.Entry) ([]*keys.Entry, error) {
		if tries++; tries == 1 {
			if err := b.Change(add("bob")); err != nil {
				t.Fatal(err)
			}
		}
		return add("alice")(list)
	})
	if err != nil || tries != 2 {
		t.Errorf("after %d tries the second writer got %v", tries, err)
	}
	b.Refresh()
	if diff := cmp.Diff([]string{"bob", "alice"}, keyNames(b)); diff != "" {
		t.Error(diff)
	}
}

// A server with persistence keeps the keys across a restart, also for a Caddy that starts later.
func TestSharedKeysSurviveARestart(t *testing.T) {
	server := redistest.StartLasting(t)
	a := another(t, server)
	if err := a.Change(add("alice", "bob")); err != nil {
		t.Fatal(err)
	}
	server.Down()
	if a.Refresh(); len(a.Entries()) != 2 {
		t.Error("keys are lost while the server is down")
	}
	server.Up()
	b := another(t, server)
	b.Refresh()
	if diff := cmp.Diff([]string{"alice", "bob"}, keyNames(b)); diff != "" {
		t.Error(diff)
	}
}

// Changes that a server lost, because it was flushed or restored from an older copy, are written again. Revoked keys stay
// revoked, even if a Caddy that did not know yet writes first.
func TestLostChangesAreWrittenAgain(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	a, b := another(t, server), another(t, server)
	expect := func(when string, s *Store, want ...string) {
		t.Helper()
		s.Refresh()
		if diff := cmp.Diff(want, keyNames(s)); diff != "" || s.lastErr != nil {
			t.Error(when, diff, s.lastErr)
		}
	}
	if err := a.Change(add("alice")); err != nil {
		t.Fatal(err)
	}
	old, err := client.Get(t.Context(), redisKey).Result()
	if err != nil {
		t.Fatal(err)
	}
	expect("at first", b, "alice")
	if err := a.Change(add("bob")); err != nil {
		t.Fatal(err)
	}
	for when, lose := range map[string]func() error{
		"flushed":       func() error { return client.FlushAll(t.Context()).Err() },
		"an older copy": func() error { return client.Set(t.Context(), redisKey, old, 0).Err() },
	} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		expect(when, a, "alice", "bob")
		expect(when, another(t, server), "alice", "bob")
	}
	if err := a.Change(Remove("alice")); err != nil {
		t.Fatal(err)
	}
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	expect("written by the one that is behind", b, "alice")
	expect("written by the one that knows", a, "bob")
	expect("then", b, "bob")
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := a.Change(add("carol")); err != nil {
		t.Fatal(err)
	}
	expect("a change after a flush", b, "bob", "carol")
}

// add returns an edit that adds keys.
func add(names ...string) Edit {
	return func(list []*keys.Entry) ([]*keys.Entry, error) {
		for _, name := range names {
			list = append(list, &keys.Entry{Name: name, Secret: keys.Digest("secret-" + name)})
		}
		return list, nil
	}
}
