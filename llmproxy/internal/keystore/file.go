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

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/gofrs/flock"
)

const (
	// maxFile bounds the file of keys: a hundred thousand keys fit.
	maxFile = 32 << 20
	// lockWait is how long another writer, which needs a moment, is waited for, and lockEvery how often it is looked.
	lockWait  = 10 * time.Second
	lockEvery = 5 * time.Millisecond
)

// A fileDocument is a document in a file.
type fileDocument struct{ path string }

func (f *fileDocument) read() ([]byte, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		return nil, fmt.Errorf("the file of keys is larger than %d bytes", maxFile)
	}
	return text, err
}

// replace writes a second file and gives it the first one's name, so that whoever reads, whenever the power fails, finds the old
// keys or the new ones.
func (f *fileDocument) replace(old, text []byte) error {
	path, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		path = f.path
	}
	unlock, err := f.lock(path)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := f.read()
	if err != nil {
		return err
	}
	if !bytes.Equal(now, old) {
		return errReplaced
	}
	return state.WriteFile(path, text)
}

// lock keeps out other writers: a running Caddy, and commands. The file that is locked cannot be that of the keys, which is replaced.
func (f *fileDocument) lock(path string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockWait)
	defer cancel()
	makeLock(path)
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, lockEvery); err != nil {
		return nil, fmt.Errorf("locking %s.lock: %w", path, err)
	}
	return func() { lock.Unlock() }, nil //nolint:errcheck // closing it, which it does too, unlocks in any case
}

// makeLock makes the file that is locked, where there is none, so that who owns the keys can open it, too.
func makeLock(path string) {
	fresh, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return // it is there, or locking says what is wrong
	}
	defer fresh.Close()
	if info, err := os.Stat(path); err == nil {
		_ = state.KeepOwner(fresh, info) // as good as the file system allows
	}
}
