// Package ledger stores usage by day, key, model and target, and small values that must survive a restart: keys and budgets.
// It has two stores: a file on disk, and Redis or Valkey for several processes.
//
// Usage is collected in memory and committed within half a second, so that no request waits for the disk and a crash loses
// less than a second of usage. SaveNow returns after its value is on disk. Rows per day, days and name lengths are bounded.
// The package never decides who may use how much, and knows neither prices nor requests. It imports only package tokens
// of this module.
package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

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
	batcher
	file file
}

// New makes a ledger. The file is opened on first use, usually by the first batch.
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

// Save keeps a copy of a value under a key of a bucket, within a second. Neither name may be empty or
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
		l.report(fmt.Errorf("too many unsaved values (%d): %s/%s is dropped", maxEntries, bucket, key))
	}
}

// Delete removes a value within a second.
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

// Close writes the pending batch and closes the file. Usage added later is lost.
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

// maxEntryName bounds the names of saved values, in bytes.
const maxEntryName = 1 << 10

// An entry is a saved value.
type entry struct {
	id    entryID
	value []byte
}

// check keeps names out that the file would refuse, and with them all that is written together with them.
func (id entryID) check() error {
	for _, name := range [...]string{id.bucket, id.key} {
		if name == "" || len(name) > maxEntryName {
			return fmt.Errorf("invalid name %.40q for a saved value: use 1 to %d bytes", name, maxEntryName)
		}
	}
	return nil
}

const (
	// interval is how long a batch is gathered: with the time a disk takes, less than a second is lost by a power cut.
	interval = 500 * time.Millisecond
	// retry is the pause after a write that failed; what was to be written waits in memory.
	retry = 5 * time.Second
)

// errClosed is what a closed ledger answers.
var errClosed = errors.New("the ledger is closed")

// A batcher collects usage in memory and writes it in batches.
type batcher struct {
	report func(error)
	// commit writes a batch, and the value after it. What it gives back waits for the next time.
	commit  func(b *batch, now *entry) (rest *batch, err error)
	writing sync.Mutex // held by who writes, or uses what is written to: guards failing
	failing bool

	mu      sync.Mutex // held for moments only: guards what follows
	pending *batch
	timer   *time.Timer
	armed   bool
	pause   time.Duration
	closed  bool
}

func (g *batcher) init(report func(error), commit func(*batch, *entry) (*batch, error)) {
	if report == nil {
		report = func(error) {}
	}
	g.report, g.commit, g.pending, g.pause = report, commit, newBatch(), interval
}

// Add sums the use into the row of its day, key, model and target. It waits for nothing. Names are cut to 200 bytes, and
// beyond maxRows rows a day, models and targets that are new are summed under the name "other".
func (g *batcher) Add(u Usage) {
	id := rowID{dayOf(u.At), cut(u.Key), cut(u.Model), cut(u.Target)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending.add(id, u.Sums)
	g.arm()
}

// Flush writes the pending batch.
func (g *batcher) Flush() error {
	g.writing.Lock()
	defer g.writing.Unlock()
	g.mu.Lock()
	idle := g.pending.empty() && !g.failing
	g.mu.Unlock()
	if idle {
		return nil
	}
	return g.write(nil)
}

// finish writes the pending batch and stops accepting usage.
func (g *batcher) finish() error {
	err := g.Flush()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	if errors.Is(err, errClosed) {
		return nil
	}
	return err
}

// arm starts the timer that writes the pending batch. The caller holds mu.
func (g *batcher) arm() {
	if g.armed || g.closed {
		return
	}
	g.armed = true
	if g.timer == nil {
		g.timer = time.AfterFunc(g.pause, g.tick)
		return
	}
	g.timer.Reset(g.pause)
}

// tick writes the pending batch when the timer fires.
func (g *batcher) tick() {
	g.mu.Lock()
	g.armed = false
	g.mu.Unlock()
	_ = g.Flush() // was reported, and is tried again
}

// write commits the pending batch, then the value. The caller holds writing.
func (g *batcher) write(now *entry) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return errClosed
	}
	b := g.pending
	g.pending = newBatch()
	g.mu.Unlock()
	rest, err := g.commit(b, now)
	g.tell(err)
	g.mu.Lock()
	defer g.mu.Unlock()
	if rest != nil {
		rest.merge(g.pending)
		g.pending = rest
	}
	g.pause = interval
	if err != nil {
		g.pause = retry
		g.arm()
	}
	return err
}

// use runs a read while no write is in progress.
func (g *batcher) use(look func() error) error {
	g.writing.Lock()
	defer g.writing.Unlock()
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed {
		return errClosed
	}
	return look()
}

// tell reports the first failure, and the recovery after it. The caller holds writing.
func (g *batcher) tell(err error) {
	if failing := err != nil; failing != g.failing {
		g.failing = failing
		g.report(err)
	}
}

// maxEntries bounds the entries of a batch, which its callers bound by the number of their keys.
const maxEntries = 1 << 16

// An entryID names a saved value.
type entryID struct{ bucket, key string }

// A batch is what waits to be written.
type batch struct {
	rows    map[rowID]*Sums
	entries map[entryID][]byte // nil stands for a value to delete
}

func newBatch() *batch { return &batch{rows: map[rowID]*Sums{}, entries: map[entryID][]byte{}} }

func (b *batch) empty() bool { return len(b.rows)+len(b.entries) == 0 }

// add sums into the row, or, when there are too many, into one that stands for others.
func (b *batch) add(id rowID, s Sums) {
	row := b.rows[id]
	if row == nil {
		id = id.within(len(b.rows), func(id rowID) bool { return b.rows[id] != nil })
		row = b.rows[id]
	}
	if row == nil {
		row = new(Sums)
		b.rows[id.clone()] = row
	}
	row.add(s)
}

// save keeps an entry; false if there is no place for it.
func (b *batch) save(id entryID, value []byte) bool {
	if _, known := b.entries[id]; !known && len(b.entries) >= maxEntries {
		return false
	}
	b.entries[id] = value
	return true
}

// merge adds a batch that began later.
func (b *batch) merge(later *batch) {
	for id, s := range later.rows {
		b.add(id, *s)
	}
	for id, value := range later.entries {
		b.save(id, value)
	}
}
