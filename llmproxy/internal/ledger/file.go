package ledger

import (
	"bytes"
	"encoding/binary"
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

// open opens the file, and creates it if it does not exist.
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
		return fmt.Errorf("%s is in use by another process; give each Caddy a data directory of its own, for example by XDG_DATA_HOME, or let them share a state: %w", f.path, err)
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

// The buckets of the file.
var (
	usageBucket = []byte("usage") // a bucket for each day, of rows by name; its sequence counts them
	savedBucket = []byte("saved") // a bucket for each bucket of saved values
)

// write puts the batch, and the value after it, into the file.
func (b *batch) write(tx *bbolt.Tx, now *entry) error {
	for id, s := range b.rows {
		if err := writeRow(tx, id, s); err != nil {
			return err
		}
	}
	for id, value := range b.entries {
		if err := writeEntry(tx, entry{id, value}); err != nil {
			return err
		}
	}
	if now != nil {
		return writeEntry(tx, *now)
	}
	return nil
}

// writeRow adds to a row of the file.
func writeRow(tx *bbolt.Tx, id rowID, s *Sums) error {
	days, err := tx.CreateBucketIfNotExists(usageBucket)
	if err != nil {
		return err
	}
	rows, err := days.CreateBucketIfNotExists(id.day.name())
	if err != nil {
		return err
	}
	id = id.within(int(rows.Sequence()), func(id rowID) bool { return rows.Get(id.appendName(nil)) != nil })
	name := id.appendName(nil)
	sum := *s
	value := rows.Get(name)
	if value == nil {
		if _, err := rows.NextSequence(); err != nil {
			return err
		}
	}
	var before Sums
	if before.parseValue(value) == nil { // one that cannot be read begins anew
		sum.add(before)
	}
	return rows.Put(name, sum.appendValue(nil))
}

// name is the day's bucket: days stand in the file in their order.
func (d day) name() []byte { return binary.BigEndian.AppendUint32(nil, uint32(d)) }

// writeEntry sets or deletes a saved value.
func writeEntry(tx *bbolt.Tx, e entry) error {
	all, err := tx.CreateBucketIfNotExists(savedBucket)
	if err != nil {
		return err
	}
	bucket, err := all.CreateBucketIfNotExists([]byte(e.id.bucket))
	if err != nil {
		return err
	}
	if e.value == nil {
		return bucket.Delete([]byte(e.id.key))
	}
	return bucket.Put([]byte(e.id.key), e.value)
}

// readDays lists the days that the file has, from first to last.
func readDays(tx *bbolt.Tx, first, last day) (list []day) {
	days := tx.Bucket(usageBucket)
	if days == nil {
		return nil
	}
	c := days.Cursor()
	for name, _ := c.Seek(first.name()); name != nil && parseDay(name) <= last; name, _ = c.Next() {
		list = append(list, parseDay(name))
	}
	return list
}

// readDay gives the rows of a day.
func readDay(tx *bbolt.Tx, d day, each func(rowID, Sums)) error {
	days := tx.Bucket(usageBucket)
	if days == nil || days.Bucket(d.name()) == nil {
		return nil // taken out meanwhile
	}
	return days.Bucket(d.name()).ForEach(func(name, value []byte) error {
		id, s := rowID{day: d}, Sums{}
		if err := id.parseName(name); err != nil {
			return err
		}
		if err := s.parseValue(value); err != nil {
			return err
		}
		each(id, s)
		return nil
	})
}

// readEntries copies the values of a bucket.
func readEntries(tx *bbolt.Tx, bucket string) (list []entry) {
	all := tx.Bucket(savedBucket)
	if all == nil || all.Bucket([]byte(bucket)) == nil {
		return nil
	}
	c := all.Bucket([]byte(bucket)).Cursor()
	for key, value := c.First(); key != nil; key, value = c.Next() {
		list = append(list, entry{entryID{bucket, string(key)}, bytes.Clone(value)})
	}
	return list
}

const (
	// retention is how many days are kept.
	retention = 400
	// prunedAtOnce is how many old days are taken out when a new one begins: a clock that is wrong for an hour, and says it
	// were years later, must not cost all of them.
	prunedAtOnce = 2
)

// prune takes the oldest days out.
func prune(tx *bbolt.Tx, today day) error {
	days := tx.Bucket(usageBucket)
	if days == nil {
		return nil
	}
	for range prunedAtOnce {
		name, _ := days.Cursor().First()
		if name == nil || parseDay(name)+retention > today {
			return nil
		}
		if err := days.DeleteBucket(name); err != nil {
			return err
		}
	}
	return nil
}

// parseDay reads what name wrote.
func parseDay(name []byte) day {
	if len(name) != 4 {
		return 0
	}
	return day(binary.BigEndian.Uint32(name))
}
