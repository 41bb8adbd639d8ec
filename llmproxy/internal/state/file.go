package state

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile replaces a file, or makes one that only its owner may read. It is durable when it returns, and whoever reads
// meanwhile, or after a power failure, finds the old text or the new one.
func WriteFile(path string, text []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".llm-keys-*") // readable by its owner alone
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // gone if all went well
	_, err = temp.Write(text)
	if info, failed := os.Stat(path); failed == nil {
		err = errors.Join(err, KeepOwner(temp, info), temp.Chmod(info.Mode().Perm()))
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
