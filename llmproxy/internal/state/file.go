package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// WriteFile replaces a file and keeps its owner and mode, or creates one that only its owner may read. The text is durable
// when WriteFile returns. At any moment, even after a power failure, the file has either the old text or the new one.
func WriteFile(path string, text []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".llm-proxy-*") // readable by its owner alone
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // it was renamed if all went well
	_, err = temp.Write(text)
	if info, failed := os.Stat(path); failed == nil {
		err = errors.Join(err, CopyOwner(temp, info), temp.Chmod(info.Mode().Perm()))
	}
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	_ = dir.Sync() // some file systems do not support it; the rename is done
	return nil
}

// A Snapshot is a file with a copy of something in the shared state, for a start while its server cannot be reached.
type Snapshot string

// SnapshotOf returns the snapshot of something in the shared state at an address. Its name identifies the server and its
// database, and contains no password.
func SnapshotOf(what, address string) Snapshot {
	where := ""
	if u, err := url.Parse(address); err == nil {
		q := u.Query()
		where = strings.Join(append([]string{u.Host, u.Path, q.Get("db"), q.Get("master_name")}, q["addr"]...), " ")
	}
	sum := sha256.Sum256([]byte(where))
	return Snapshot(filepath.Join(caddy.AppDataDir(), "llm_proxy", what+"-"+hex.EncodeToString(sum[:8])))
}

// Read returns the saved text, or nil if nothing was saved or it cannot be read.
func (s Snapshot) Read() []byte {
	text, err := os.ReadFile(string(s))
	if err != nil {
		return nil
	}
	return text
}

// Write saves a text.
func (s Snapshot) Write(text []byte) error {
	if err := os.MkdirAll(filepath.Dir(string(s)), 0o700); err != nil {
		return err
	}
	return WriteFile(string(s), text)
}
