//go:build redis

package llmproxy

import (
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// another is the vault of another Caddy on the same server.
func another(t *testing.T, server *redistest.Server) *vault {
	t.Helper()
	client, err := newRedis(server.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return newVault("state", &sharedKeys{client: client})
}

func keyNames(v *vault) (list []string) {
	for _, e := range v.entries() {
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
	here, there := theVault(t, "state"), another(t, server)
	expect := func(when string, want map[string]int) {
		t.Helper()
		here.refresh()
		for secret, status1 := range want {
			if got := status(t, url, secret); got != status1 {
				t.Errorf("%s: %q: status %d, want %d", when, secret, got, status1)
			}
		}
	}
	expect("without keys", map[string]int{"secret-alice": 401})
	if err := there.change(add("alice", "bob")); err != nil {
		t.Fatal(err)
	}
	expect("after they were made", map[string]int{"secret-alice": 200, "secret-bob": 200, "": 401})
	digest := keys.Digest("new")
	err := there.change(func(list []*keys.Entry) ([]*keys.Entry, error) {
		return rotated(list, "alice", digest, new(keys.Entry))
	})
	if err != nil {
		t.Fatal(err)
	}
	expect("after a rotation", map[string]int{"secret-alice": 401, "new": 200, "secret-bob": 200})
	if err := there.change(func(list []*keys.Entry) ([]*keys.Entry, error) { return list[:1], nil }); err != nil {
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
	if err := here.change(add("carol")); err != nil {
		t.Fatal(err)
	}
	there.refresh()
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
	here, there := theVault(t, "state"), another(t, server)
	eventually(t, "the keys are not read", func() bool { known, _ := here.known(); return known })
	for _, test := range []struct {
		what string
		edit func([]*keys.Entry) ([]*keys.Entry, error)
		want int
	}{
		{"made", add("alice"), 200},
		{"revoked", func([]*keys.Entry) ([]*keys.Entry, error) { return nil, nil }, 401},
	} {
		if err := there.change(test.edit); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		eventually(t, "it is not known that a key was "+test.what, func() bool { return status(t, url, "secret-alice") == test.want })
		t.Logf("that a key was %s is known after %s", test.what, time.Since(start))
	}
}

// Of two that write at the same time, one tries anew, and nothing is lost.
func TestSharedKeysAreNotOverwritten(t *testing.T) {
	server := redistest.Start(t)
	a, b := another(t, server), another(t, server)
	tries := 0
	err := a.change(func(list []*keys.Entry) ([]*keys.Entry, error) {
		if tries++; tries == 1 {
			if err := b.change(add("bob")); err != nil {
				t.Fatal(err)
			}
		}
		return add("alice")(list)
	})
	if err != nil || tries != 2 {
		t.Errorf("after %d tries the second writer is told %v", tries, err)
	}
	b.refresh()
	if diff := cmp.Diff([]string{"bob", "alice"}, keyNames(b)); diff != "" {
		t.Error(diff)
	}
}

// A server that keeps its memory on the disk keeps the keys, also for a Caddy that begins later.
func TestSharedKeysOutliveARestart(t *testing.T) {
	server := redistest.StartLasting(t)
	a := another(t, server)
	if err := a.change(add("alice", "bob")); err != nil {
		t.Fatal(err)
	}
	server.Down()
	if a.refresh(); len(a.entries()) != 2 {
		t.Error("keys are forgotten while the server is down")
	}
	server.Up()
	b := another(t, server)
	b.refresh()
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
	expect := func(when string, v *vault, want ...string) {
		t.Helper()
		v.refresh()
		if diff := cmp.Diff(want, keyNames(v)); diff != "" || v.failed != nil {
			t.Error(when, diff, v.failed)
		}
	}
	if err := a.change(add("alice")); err != nil {
		t.Fatal(err)
	}
	old, err := client.Get(t.Context(), sharedKeysName).Result()
	if err != nil {
		t.Fatal(err)
	}
	expect("at first", b, "alice")
	if err := a.change(add("bob")); err != nil {
		t.Fatal(err)
	}
	for when, forget := range map[string]func() error{
		"flushed":       func() error { return client.FlushAll(t.Context()).Err() },
		"an older copy": func() error { return client.Set(t.Context(), sharedKeysName, old, 0).Err() },
	} {
		if err := forget(); err != nil {
			t.Fatal(err)
		}
		expect(when, a, "alice", "bob")
		expect(when, another(t, server), "alice", "bob")
	}
	if err := a.change(func(list []*keys.Entry) ([]*keys.Entry, error) { return without(list, "alice") }); err != nil {
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
	if err := a.change(add("carol")); err != nil {
		t.Fatal(err)
	}
	expect("a change after a flush", b, "bob", "carol")
}

// A Caddy that starts while the server is away knows the keys that it last saw there, and refuses no other one for good.
func TestSharedKeysAreRemembered(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	server := redistest.Start(t)
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel m u/x\n\t\trequire_key\n\t\tstate "+server.URL()+"\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	here := theVault(t, "state")
	if err := here.change(add("alice", "bob")); err != nil {
		t.Fatal(err)
	}
	if err := another(t, server).change(func(list []*keys.Entry) ([]*keys.Entry, error) { return without(list, "alice") }); err != nil {
		t.Fatal(err)
	}
	here.refresh()
	shared := here.doc.(*sharedKeys)
	eventually(t, "the keys are not remembered", func() bool { return len(shared.recall().Keys) == 1 })
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
