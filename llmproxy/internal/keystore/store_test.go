package keystore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// A running Caddy and any number of commands can change a file at the same time without losing keys.
func TestManyWritersOfOneFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	var writers sync.WaitGroup
	for i := range 8 {
		s := NewFile(file)
		writers.Go(func() {
			for j := range 5 {
				name := fmt.Sprintf("%d-%d", i, j)
				if err := s.Change(Add(&keys.Entry{Name: name, Secret: keys.Digest(name)})); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	writers.Wait()
	s := NewFile(file)
	if err := s.Read(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Entries()); n != 40 {
		t.Errorf("%d keys, want 40", n)
	}
}

// The admin API would show a plain secret in JSON.
func TestPlainSecretsAreRefused(t *testing.T) {
	t.Setenv("A_KEY", "hunter2")
	t.Setenv("MARKED_KEY", "\ufeffhunter2\r\n") // from a file that an editor on Windows wrote
	for secret, valid := range map[string]bool{"hunter2": false, "{env.A_KEY}": true, "{env.MARKED_KEY}": true, " {env.A_KEY}\n": true, "sk-{env.A_KEY}": true, keys.Digest("hunter2"): true, "{env.NOT_SET}": false, "": false} {
		list, err := HashSecrets([]*keys.Entry{{Name: "a", Secret: secret}})
		if (err == nil) != valid || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", secret, err)
		}
		if valid && !keys.IsDigest(list[0].Secret) {
			t.Errorf("%q became %q", secret, list[0].Secret)
		}
		if secret == "{env.MARKED_KEY}" && list[0].Secret != keys.Digest("hunter2") {
			t.Error("the byte order mark is a part of the secret")
		}
	}
}

// A file that an editor on Windows writes while Caddy runs begins with a byte order mark. A change by a command keeps all keys.
func TestFileWithByteOrderMark(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte("\ufeff"+`{"keys":[{"name":"a","secret":"`+keys.Digest("a")+`"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewFile(file)
	if err := s.Change(Add(&keys.Entry{Name: "b", Secret: keys.Digest("b")})); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Entries()); n != 2 {
		t.Errorf("%d keys, want 2", n)
	}
}
