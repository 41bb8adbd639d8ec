//go:build unix

package keystore

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// A file keeps its owner and mode, no matter which user changes it. If the test may not change owners, it uses its own user.
func TestKeysFileKeepsItsOwner(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte(`{"keys":[]}`), 0o640); err != nil {
		t.Fatal(err)
	}
	uid, gid := 12345, 12346
	if err := os.Chown(file, uid, gid); err != nil {
		uid, gid = os.Getuid(), os.Getgid()
	}
	if err := NewFile(file).Change(Add(&keys.Entry{Name: "alice", Secret: keys.Digest("secret-alice")})); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{file: 0o640, file + ".lock": 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		stat := info.Sys().(*syscall.Stat_t)
		if int(stat.Uid) != uid || int(stat.Gid) != gid || info.Mode().Perm() != mode {
			t.Errorf("%s: owner %d:%d, mode %s, want %d:%d, %s", name, stat.Uid, stat.Gid, info.Mode(), uid, gid, mode)
		}
	}
}
