//go:build unix

package state

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// CopyOwner gives a file the owner of another one, so that a file that root replaces stays readable for Caddy. It is no
// error if the process may not change owners; it then owns the file itself.
func CopyOwner(file *os.File, from fs.FileInfo) error {
	owner, ok := from.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := file.Chown(int(owner.Uid), int(owner.Gid)); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
