package ledger

import (
	"errors"
	"sync"
	"time"
)

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
