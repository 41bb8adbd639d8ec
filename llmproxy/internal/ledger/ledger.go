// Package ledger keeps what was used, by day, key, model and target, and small values that must outlive the process: keys
// and budgets.
//
// It decides when the file is written: batches are gathered in memory and committed within half a second, so that no
// request waits for a disk and a crash or a power cut loses less than a second of usage; what SaveNow was given is on the
// disk when it returns. It bounds what it keeps: rows of a day, days, lengths of names. It never decides who may use how
// much, and knows neither prices nor requests. It stands beside relay and upstream and imports none of our packages.
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
			return fmt.Errorf("%.40q is no name for a saved value: 1 to %d bytes are", name, maxEntryName)
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

// A gatherer gathers batches in memory and sees to it that they are written in time.
type gatherer struct {
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

func (g *gatherer) init(report func(error), commit func(*batch, *entry) (*batch, error)) {
	if report == nil {
		report = func(error) {}
	}
	g.report, g.commit, g.pending, g.pause = report, commit, newBatch(), interval
}

// Add sums the use into the row of its day, key, model and target. It waits for nothing. Names are cut to 200 bytes, and
// beyond maxRows rows a day, models and targets that are new are summed under the name "other".
func (g *gatherer) Add(u Use) {
	id := rowID{dayOf(u.At), cut(u.Key), cut(u.Model), cut(u.Target)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending.add(id, u.sums())
	g.arm()
}

// Flush writes what waits to be written.
func (g *gatherer) Flush() error {
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

// finish writes what waits; what is added later is lost.
func (g *gatherer) finish() error {
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

// arm sees to it that what is pending is written in time. The caller holds mu.
func (g *gatherer) arm() {
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

// tick writes a batch when its time has come.
func (g *gatherer) tick() {
	g.mu.Lock()
	g.armed = false
	g.mu.Unlock()
	_ = g.Flush() // was reported, and is tried again
}

// write hands on what is pending, and the value after it. The caller holds writing.
func (g *gatherer) write(now *entry) error {
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

// use calls what looks into what is written, one at a time, and never beside a write.
func (g *gatherer) use(look func() error) error {
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

// tell reports when writing begins to fail, and when it works again. The caller holds writing.
func (g *gatherer) tell(err error) {
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
