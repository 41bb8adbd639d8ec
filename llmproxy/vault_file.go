package llmproxy

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
)

const (
	// maxKeysFile bounds the file of keys: a hundred thousand keys fit.
	maxKeysFile = 32 << 20
	// lockWait is how long another writer, which needs a moment, is waited for, and lockEvery how often it is looked.
	lockWait  = 10 * time.Second
	lockEvery = 5 * time.Millisecond
)

// A keysFile is a document in a file.
type keysFile struct{ path string }

func (f *keysFile) read() ([]byte, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKeysFile+1))
	if err == nil && len(text) > maxKeysFile {
		return nil, fmt.Errorf("the file of keys is larger than %d bytes", maxKeysFile)
	}
	return text, err
}

// replace writes a second file and gives it the first one's name, so that whoever reads, whenever the power fails, finds the old
// keys or the new ones.
func (f *keysFile) replace(old, text []byte) error {
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
	return write(path, text)
}

// lock keeps out other writers: a running Caddy, and commands. The file that is locked cannot be that of the keys, which is replaced.
func (f *keysFile) lock(path string) (unlock func(), err error) {
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
		_ = keepOwner(fresh, info) // as good as the file system allows
	}
}

// write is durable when it returns.
func write(path string, text []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".llm-keys-*") // readable by its owner alone
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // gone if all went well
	_, err = temp.Write(text)
	if info, failed := os.Stat(path); failed == nil {
		err = errors.Join(err, keepOwner(temp, info), temp.Chmod(info.Mode().Perm()))
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
	_ = dir.Sync() // some file systems cannot; the rename is done
	return nil
}
