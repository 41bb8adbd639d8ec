//go:build redis

package llmproxy

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keystore"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// another returns the store of another Caddy on the same server.
func another(t *testing.T, server *redistest.Server) *keystore.Store {
	t.Helper()
	client, err := state.NewRedis(server.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return keystore.NewRedis(client)
}

func keyNames(v *keystore.Store) (list []string) {
	for _, e := range v.Entries() {
		list = append(list, e.Name)
	}
	return list
}

// Keys that another Caddy makes, changes and revokes are in force here when the server is asked the next time.
func TestKeysAreShared(t *testing.T) {
	server := redistest.Start(t)
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\trequire_key\n\t\tstate "+server.URL()+"\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	here, there := theStore(t, "state"), another(t, server)
	expect := func(when string, want map[string]int) {
		t.Helper()
		here.Refresh()
		for secret, status1 := range want {
			if got := status(t, url, secret); got != status1 {
				t.Errorf("%s: %q: status %d, want %d", when, secret, got, status1)
			}
		}
	}
	expect("without keys", map[string]int{"secret-alice": 401})
	if err := there.Change(add("alice", "bob")); err != nil {
		t.Fatal(err)
	}
	expect("after they were made", map[string]int{"secret-alice": 200, "secret-bob": 200, "": 401})
	digest := keys.Digest("new")
	if err := there.Change(keystore.Rotate("alice", digest, new(keys.Entry))); err != nil {
		t.Fatal(err)
	}
	expect("after a rotation", map[string]int{"secret-alice": 401, "new": 200, "secret-bob": 200})
	if err := there.Change(func(list []*keys.Entry) ([]*keys.Entry, error) { return list[:1], nil }); err != nil {
		t.Fatal(err)
	}
	expect("after a revocation", map[string]int{"new": 200, "secret-bob": 401})
	server.Hang()
	for secret, want := range map[string]int{"new": 200, "secret-bob": 401} {
		if got := status(t, url, secret); got != want {
			t.Errorf("while the server hangs: %q: status %d, want %d", secret, got, want)
		}
	}
	server.GoOn()
	if err := here.Change(add("carol")); err != nil {
		t.Fatal(err)
	}
	there.Refresh()
	if diff := cmp.Diff([]string{"alice", "carol"}, keyNames(there)); diff != "" {
		t.Error(diff)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
}

// Nobody needs to be told of a key that another Caddy makes or revokes.
func TestKeysAreSharedSoon(t *testing.T) {
	server := redistest.Start(t)
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\trequire_key\n\t\tstate "+server.URL()+"\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	here, there := theStore(t, "state"), another(t, server)
	eventually(t, "the keys are not read", func() bool { loaded, _ := here.Loaded(); return loaded })
	for _, test := range []struct {
		what string
		edit func([]*keys.Entry) ([]*keys.Entry, error)
		want int
	}{
		{"made", add("alice"), 200},
		{"revoked", func([]*keys.Entry) ([]*keys.Entry, error) { return nil, nil }, 401},
	} {
		if err := there.Change(test.edit); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		eventually(t, "it is not known that a key was "+test.what, func() bool { return status(t, url, "secret-alice") == test.want })
		t.Logf("that a key was %s is known after %s", test.what, time.Since(start))
	}
}

// A Caddy that starts while the server is away knows the keys that it last saw there, and refuses no other one for good.
func TestSharedKeysAreRemembered(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	server := redistest.Start(t)
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel m u/x\n\t\trequire_key\n\t\tstate "+server.URL()+"\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	here := theStore(t, "state")
	if err := here.Change(add("alice", "bob")); err != nil {
		t.Fatal(err)
	}
	if err := another(t, server).Change(keystore.Remove("alice")); err != nil {
		t.Fatal(err)
	}
	here.Refresh()
	eventually(t, "the keys are not remembered", func() bool {
		text := string(state.SnapshotOf("keys", server.URL()).Read())
		return strings.Contains(text, "bob") && !strings.Contains(text, "alice")
	})
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	server.Down()
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for secret, want := range map[string]int{"secret-bob": 200, "secret-alice": 503, "": 401} {
		if got := status(t, url, secret); got != want {
			t.Errorf("while the server is away: %q: status %d, want %d", secret, got, want)
		}
	}
	server.Up() // and knows nothing
	eventually(t, "the server is not believed", func() bool { return status(t, url, "secret-bob") == 401 })
}

// add returns an edit that adds keys.
func add(names ...string) keystore.Edit {
	return func(list []*keys.Entry) ([]*keys.Entry, error) {
		for _, name := range names {
			list = append(list, &keys.Entry{Name: name, Secret: keys.Digest("secret-" + name)})
		}
		return list, nil
	}
}
