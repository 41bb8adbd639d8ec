package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// A Config is what a ledger is made of.
type Config struct {
	// Path is the file; its folder is made with it.
	Path string
	// Report hears when the file cannot be used, once, and of nil when it can be used again; nil for nobody. It must not
	// block.
	Report func(error)
}

// A Ledger is a file and what is about to be written to it. It is safe for concurrent use.
type Ledger struct {
	gatherer
	file file
}

// New makes a ledger. It touches nothing: the file is opened by what needs it first, the first batch as a rule.
func New(c Config) *Ledger {
	l := &Ledger{file: file{path: c.Path}}
	l.init(c.Report, func(b *batch, now *entry) (*batch, error) {
		if err := l.file.commit(b, now); err != nil {
			return b, err
		}
		return nil, nil
	})
	return l
}

// Save keeps a value, of which it makes a copy, under a key of a bucket, within a second. Neither name may be empty or
// longer than 1 KiB; nil deletes.
func (l *Ledger) Save(bucket, key string, value []byte) {
	id := entryID{bucket, key}
	if err := id.check(); err != nil {
		l.report(err)
		return
	}
	l.mu.Lock()
	kept := l.pending.save(id, bytes.Clone(value))
	l.arm()
	l.mu.Unlock()
	if !kept {
		l.report(fmt.Errorf("%d values wait to be saved: %s/%s is dropped", maxEntries, bucket, key))
	}
}

// Delete takes a value out, within a second.
func (l *Ledger) Delete(bucket, key string) { l.Save(bucket, key, nil) }

// SaveNow keeps a value like Save and returns when it is on the disk, or with an error: then it is not kept. Nil deletes.
func (l *Ledger) SaveNow(bucket, key string, value []byte) error {
	id := entryID{bucket, key}
	if err := id.check(); err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.write(&entry{id, value})
}

// Load gives each value of a bucket, in the order of their keys; a bucket that nobody saved to is empty. It ends with the
// first error of each, to which the values belong.
func (l *Ledger) Load(bucket string, each func(key string, value []byte) error) error {
	if err := l.Flush(); err != nil {
		return err
	}
	var entries []entry
	err := l.read(func(tx *bbolt.Tx) { entries = readEntries(tx, bucket) })
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := each(e.id.key, e.value); err != nil {
			return err
		}
	}
	return nil
}

// Close writes what waits and closes the file. What is added later is lost.
func (l *Ledger) Close() error {
	err := l.finish()
	l.writing.Lock()
	defer l.writing.Unlock()
	return errors.Join(err, l.file.close())
}

// read looks into the file. It is never read beside a write, because after a panic, which a damaged file leads to, its own
// locks stay locked.
func (l *Ledger) read(look func(*bbolt.Tx)) error {
	return l.use(func() error {
		err := l.file.read(look)
		l.tell(err)
		return err
	})
}

// days implements pages.
func (l *Ledger) days(first, last day) (list []day, err error) {
	err = l.read(func(tx *bbolt.Tx) { list = readDays(tx, first, last) })
	return list, err
}

// rows implements pages.
func (l *Ledger) rows(d day, each func(rowID, Sums)) error {
	var unreadable error
	if err := l.read(func(tx *bbolt.Tx) { unreadable = readDay(tx, d, each) }); err != nil {
		return err
	}
	return unreadable
}

// Query sums what was used until now, in the order of days, keys, models and targets.
func (l *Ledger) Query(q Query) ([]Row, error) { return q.ask(l) }
