//go:build redis

package keystore

import (
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/google/go-cmp/cmp"
)

// another is the vault of another Caddy on the same server.
func another(t *testing.T, server *redistest.Server) *Store {
	t.Helper()
	client, err := state.NewRedis(server.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return NewRedis(client)
}

func keyNames(v *Store) (list []string) {
	for _, e := range v.Entries() {
		list = append(list, e.Name)
	}
	return list
}

// Of two that write at the same time, one tries anew, and nothing is lost.
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
		t.Errorf("after %d tries the second writer is told %v", tries, err)
	}
	b.Refresh()
	if diff := cmp.Diff([]string{"bob", "alice"}, keyNames(b)); diff != "" {
		t.Error(diff)
	}
}

// A server that keeps its memory on the disk keeps the keys, also for a Caddy that begins later.
func TestSharedKeysOutliveARestart(t *testing.T) {
	server := redistest.StartLasting(t)
	a := another(t, server)
	if err := a.Change(add("alice", "bob")); err != nil {
		t.Fatal(err)
	}
	server.Down()
	if a.Refresh(); len(a.Entries()) != 2 {
		t.Error("keys are forgotten while the server is down")
	}
	server.Up()
	b := another(t, server)
	b.Refresh()
	if diff := cmp.Diff([]string{"alice", "bob"}, keyNames(b)); diff != "" {
		t.Error(diff)
	}
}

// What a server forgets, because it was flushed or came back with an older copy, it is told again; and what was revoked stays so,
// also where somebody tells it who did not know yet.
func TestSharedKeysAreToldAgain(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	a, b := another(t, server), another(t, server)
	expect := func(when string, v *Store, want ...string) {
		t.Helper()
		v.Refresh()
		if diff := cmp.Diff(want, keyNames(v)); diff != "" || v.failed != nil {
			t.Error(when, diff, v.failed)
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
	for when, forget := range map[string]func() error{
		"flushed":       func() error { return client.FlushAll(t.Context()).Err() },
		"an older copy": func() error { return client.Set(t.Context(), redisKey, old, 0).Err() },
	} {
		if err := forget(); err != nil {
			t.Fatal(err)
		}
		expect(when, a, "alice", "bob")
		expect(when, another(t, server), "alice", "bob")
	}
	if err := a.Change(Without("alice")); err != nil {
		t.Fatal(err)
	}
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	expect("told by who is behind", b, "alice")
	expect("told by who knows", a, "bob")
	expect("then", b, "bob")
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := a.Change(add("carol")); err != nil {
		t.Fatal(err)
	}
	expect("a change after a flush", b, "bob", "carol")
}

// add is a change that adds keys.
func add(names ...string) func([]*keys.Entry) ([]*keys.Entry, error) {
	return func(list []*keys.Entry) ([]*keys.Entry, error) {
		for _, name := range names {
			list = append(list, &keys.Entry{Name: name, Secret: keys.Digest("secret-" + name)})
		}
		return list, nil
	}
}
