package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

const (
	// maxFileSize is enough for a hundred thousand keys.
	maxFileSize = 32 << 20
	// lockTimeout is how long to wait for another writer, and lockInterval how often to try.
	lockTimeout  = 10 * time.Second
	lockInterval = 5 * time.Millisecond
)

// OpenFile returns the store of a file, which need not exist yet. An invalid file is an error.
func OpenFile(c *state.Closer, path string) (*Store, error) {
	return open(c, path, func() (*Store, error) {
		s := NewFile(path)
		if _, err := s.load(); err != nil {
			return nil, fmt.Errorf("keys_file %s: %w", path, err)
		}
		return s, nil
	})
}

// NewFile returns a store of a file, for a command. Handlers do not share it.
func NewFile(path string) *Store { return newStore(path, &fileDocument{path}) }

// fileDocument is a document in a file.
type fileDocument struct{ path string }

func (f *fileDocument) exclusive() bool { return false }

func (f *fileDocument) read() ([]byte, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err == nil && len(text) > maxFileSize {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxFileSize)
	}
	return text, err
}

func (f *fileDocument) replace(old, text []byte) error {
	path, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		path = f.path
	}
	unlock, err := lockFile(path)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := f.read()
	if err != nil {
		return err
	}
	if !bytes.Equal(now, old) {
		return errConflict
	}
	return state.WriteFile(path, text)
}

// lockFile keeps out other writers: a running Caddy, and commands. It locks a second file, because the file itself is
// replaced by every change.
func lockFile(path string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	createLock(path)
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, lockInterval); err != nil {
		return nil, fmt.Errorf("locking %s.lock: %w", path, err)
	}
	return func() { lock.Unlock() }, nil //nolint:errcheck // it closes the file, which unlocks in any case
}

// createLock creates the lock file with the owner of the keys, so that both Caddy and root can open it.
func createLock(path string) {
	fresh, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return // it exists, or locking it reports the error
	}
	defer fresh.Close()
	if info, err := os.Stat(path); err == nil {
		_ = state.CopyOwner(fresh, info) // as far as the file system allows
	}
}
