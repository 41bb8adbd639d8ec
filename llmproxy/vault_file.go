package llmproxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// maxKeysFile bounds the file of keys: a hundred thousand keys fit.
const maxKeysFile = 32 << 20

// A keysFile is a document in a file.
type keysFile struct {
	path string
	mu   sync.Mutex // one writer
}

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
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := f.read()
	if err != nil {
		return err
	}
	if !bytes.Equal(now, old) {
		return errReplaced
	}
	path, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		path = f.path
	}
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".llm-keys-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // gone if all went well
	_, err = temp.Write(text)
	if err := errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
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
