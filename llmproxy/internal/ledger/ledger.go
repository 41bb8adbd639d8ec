package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

const (
	// interval is how long a batch is gathered: with the time a disk takes, less than a second is lost by a power cut.
	interval = 500 * time.Millisecond
	// retry is the pause after a write that failed; what was to be written waits in memory.
	retry = 5 * time.Second
)

// errClosed is what a closed ledger answers.
var errClosed = errors.New("the ledger is closed")

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
	report  func(error)
	writing sync.Mutex // held by who uses the file: guards file and failing
	file    file
	failing bool

	mu      sync.Mutex // held for moments only: guards what follows
	pending *batch
	timer   *time.Timer
	armed   bool
	pause   time.Duration
	closed  bool
}

// New makes a ledger. It touches nothing: the file is opened by what needs it first, the first batch as a rule.
func New(c Config) *Ledger {
	if c.Report == nil {
		c.Report = func(error) {}
	}
	return &Ledger{report: c.Report, file: file{path: c.Path}, pending: newBatch(), pause: interval}
}

// Add sums the use into the row of its day, key, model and target. It never waits for the disk. Names are cut to 200
// bytes, and beyond 4096 rows a day, models and targets that are new are summed under the name "other".
func (l *Ledger) Add(u Use) {
	id := rowID{dayOf(u.At), cut(u.Key), cut(u.Model), cut(u.Target)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending.add(id, u.sums())
	l.arm()
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
	return l.commit(&entry{id, value})
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

// Flush writes what waits to be written.
func (l *Ledger) Flush() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	idle := l.pending.empty()
	l.mu.Unlock()
	if idle {
		return nil
	}
	return l.commit(nil)
}

// Close writes what waits and closes the file. What is added later is lost.
func (l *Ledger) Close() error {
	err := l.Flush()
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	return errors.Join(err, l.file.close())
}

// arm sees to it that what is pending is written in time. The caller holds mu.
func (l *Ledger) arm() {
	if !l.armed && !l.closed {
		l.armed = true
		if l.timer == nil {
			l.timer = time.AfterFunc(l.pause, l.tick)
			return
		}
		l.timer.Reset(l.pause)
	}
}

// tick writes a batch when its time has come.
func (l *Ledger) tick() {
	l.mu.Lock()
	l.armed = false
	l.mu.Unlock()
	_ = l.Flush() // was reported, and is tried again
}

// read looks into the file. One at a time, and none beside a writer: after a panic, which a damaged file leads to, the
// file's own locks stay locked.
func (l *Ledger) read(look func(*bbolt.Tx)) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return errClosed
	}
	err := l.file.read(look)
	l.tell(err)
	return err
}

// tell reports when the file begins or ceases to be of no use. The caller holds writing.
func (l *Ledger) tell(err error) {
	if failing := err != nil; failing != l.failing {
		l.failing = failing
		l.report(err)
	}
}

// commit writes what is pending, and the value after it. If that fails, what was pending waits for the next time. The
// caller holds writing.
func (l *Ledger) commit(now *entry) error {
	b, err := l.take()
	if err != nil {
		return err
	}
	err = l.file.commit(b, now)
	l.tell(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pause = interval
	if err != nil {
		l.pause = retry
		b.merge(l.pending)
		l.pending = b
		l.arm()
	}
	return err
}

// take is what is pending; from now on another batch is.
func (l *Ledger) take() (*batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	b := l.pending
	l.pending = newBatch()
	return b, nil
}
