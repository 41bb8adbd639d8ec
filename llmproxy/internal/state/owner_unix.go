//go:build unix

package state

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// KeepOwner gives a file the owner of the one that it takes the place of, or stands beside: what root changes must stay
// Caddy's. Who may not give files away owns them alone, as a rule.
func KeepOwner(file *os.File, of fs.FileInfo) error {
	owner, ok := of.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := file.Chown(int(owner.Uid), int(owner.Gid)); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
