package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// lockWait is how long another process may hold the file before it counts as in use: the ledger tries again by itself.
const lockWait = time.Nanosecond

// errDamaged is found when a page of the file makes no sense.
var errDamaged = errors.New("the file is damaged")

// A file is the ledger on the disk: one writer at a time, and readers that hold its db.
type file struct {
	path   string
	db     *bbolt.DB // nil while it is not open
	broken error     // after a panic nothing is known of db's locks: it stays as it is
	pruned day       // the day on which old days were last taken out
}

// open opens the file, and makes it where there is none.
func (f *file) open() error {
	if f.db != nil || f.broken != nil {
		return f.broken
	}
	if err := create(f.path); err != nil {
		return fmt.Errorf("making %s: %w", f.path, err)
	}
	var db *bbolt.DB
	err := guarded(func() (err error) {
		db, err = bbolt.Open(f.path, 0o600, &bbolt.Options{Timeout: lockWait, NoStatistics: true})
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%s is in use by another process: %w", f.path, err)
	case errors.Is(err, errDamaged):
		f.broken = fmt.Errorf("opening %s: %w", f.path, err)
		return f.broken
	case err != nil:
		return fmt.Errorf("opening %s: %w", f.path, err)
	}
	f.db = db
	return nil
}

func (f *file) close() error {
	if f.db == nil || f.broken != nil {
		return f.broken
	}
	db := f.db
	f.db = nil
	return db.Close()
}

// create makes the file under another name first: a process that is killed before it has written the first pages would
// leave a file behind that nobody can open.
func create(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fresh, err := os.CreateTemp(dir, filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(fresh.Name())
	if err := fresh.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(fresh.Name(), 0o600, nil)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	// A link, where the file system has them, does not take the place of what another process made meanwhile.
	if err := os.Link(fresh.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(fresh.Name(), path); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// syncDir puts the names in a folder on the disk.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // does it by itself, and refuses to be asked
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// guarded turns a panic, which bbolt answers a damaged file with, into an error: usage is not worth the proxy.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // the file is mapped: one that was cut short is a fault
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return do()
}

// read looks into the file.
func (f *file) read(look func(*bbolt.Tx)) error {
	if err := f.open(); err != nil {
		return err
	}
	err := guarded(func() error {
		return f.db.View(func(tx *bbolt.Tx) error { look(tx); return nil })
	})
	return f.judge("reading", err)
}

// commit writes a batch, and the value after it, or nothing.
func (f *file) commit(b *batch, now *entry) error {
	if err := f.open(); err != nil {
		return err
	}
	today := dayOf(time.Now())
	err := guarded(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error {
			if f.pruned != today {
				if err := prune(tx, today); err != nil {
					return fmt.Errorf("taking old days out: %w", err)
				}
			}
			return b.write(tx, now)
		})
	})
	if err == nil {
		f.pruned = today
	}
	return f.judge("writing", err)
}

// judge lets go of a file that could not be used: the next attempt begins with what is on the disk.
func (f *file) judge(doing string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s %s: %w", doing, f.path, err)
	if errors.Is(err, errDamaged) {
		f.broken = err
	}
	return errors.Join(err, f.close())
}
