package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// answerTimeout is how long after the end of a pass an answer may still come; after that, the run fails.
const answerTimeout = time.Minute

// A load is a set of connections to one server that all send the same request, or variations of it.
type load struct {
	workers []worker
	open    atomic.Int64 // streams that have sent content and have not ended
	stop    atomic.Bool
}

// A worker is one connection and what was measured on it.
type worker struct {
	conn             *conn
	request          []byte
	change           func() // of the request, before it is sent; may be nil
	answer           answer
	total            []time.Duration
	first, gaps      []time.Duration
	requests, events int
	err              error
}

// A result is what was measured on all connections.
type result struct {
	requests, events   int
	elapsed            time.Duration
	total, first, gaps []time.Duration // sorted
}

// newLoad opens the connections, one by one so that they fit in the listener's backlog.
func newLoad(ctx context.Context, addr string, connections int, request []byte, w *want) (*load, error) {
	l := &load{workers: make([]worker, connections)}
	for i := range l.workers {
		c, err := dial(ctx, addr)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		l.workers[i].conn, l.workers[i].request = c, request
		l.workers[i].answer.want = w
	}
	return l, nil
}

// vary gives each connection a request of its own that changes.
func (l *load) vary(v vary) {
	for i := range l.workers {
		w := &l.workers[i]
		w.request = bytes.Clone(w.request)
		w.change = v(w.request)
	}
}

func (l *load) close() {
	for i := range l.workers {
		if c := l.workers[i].conn; c != nil {
			_ = c.Close()
		}
	}
}

// repeat sends requests back to back on every connection for d. The last ones are finished and counted, so that the CPU time
// is that of the counted requests.
func (l *load) repeat(ctx context.Context, d time.Duration) (result, error) {
	end := time.Now().Add(d)
	return l.all(ctx, d, func(_ int, w *worker) error {
		for { // at least once: on a busy machine a goroutine may begin late
			if err := w.once(); err != nil || l.stop.Load() || !time.Now().Before(end) {
				return err
			}
		}
	})
}

// times sends n requests on every connection.
func (l *load) times(ctx context.Context, n int) (result, error) {
	return l.all(ctx, 0, func(_ int, w *worker) error {
		for range n {
			if err := w.once(); err != nil {
				return err
			}
		}
		return nil
	})
}

// once makes one exchange, checks the answer and records its times.
func (w *worker) once() error {
	if w.change != nil {
		w.change()
	}
	if err := w.conn.exchange(w.request, &w.answer); err != nil {
		return err
	}
	w.total = append(w.total, time.Since(w.answer.begin))
	if err := w.answer.check(); err != nil {
		return err
	}
	w.requests++
	w.events += w.answer.events
	if w.answer.want.stream {
		w.first = append(w.first, w.answer.first)
	}
	return nil
}

// all runs work on every connection at once and gathers the results. The first failure ends it for all.
func (l *load) all(ctx context.Context, d time.Duration, work func(int, *worker) error) (result, error) {
	stopped := context.AfterFunc(ctx, func() { l.stop.Store(true); l.close() })
	defer stopped()
	l.stop.Store(false)
	deadline := time.Now().Add(d + answerTimeout)
	for i := range l.workers {
		w := &l.workers[i]
		w.total, w.first, w.gaps, w.requests, w.events = w.total[:0], w.first[:0], w.gaps[:0], 0, 0
		if err := w.conn.SetDeadline(deadline); err != nil {
			return result{}, fmt.Errorf("setting a deadline: %w", err)
		}
	}
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range l.workers {
		wg.Go(func() {
			if w := &l.workers[i]; !l.stop.Load() {
				if w.err = work(i, w); w.err != nil {
					l.stop.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return l.gather(time.Since(begin))
}

func (l *load) gather(elapsed time.Duration) (result, error) {
	r := result{elapsed: elapsed}
	for i := range l.workers {
		w := &l.workers[i]
		if w.err != nil {
			return r, fmt.Errorf("connection %d: %w", i, w.err)
		}
		r.requests += w.requests
		r.events += w.events
		r.total = append(r.total, w.total...)
		r.first = append(r.first, w.first...)
		r.gaps = append(r.gaps, w.gaps...)
	}
	if r.requests == 0 {
		return r, fmt.Errorf("no answer in %v", elapsed)
	}
	slices.Sort(r.total)
	slices.Sort(r.first)
	slices.Sort(r.gaps)
	return r, nil
}

// quantile returns the q-quantile in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	i := min(int(q*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[i]) / float64(time.Millisecond)
}

// spread is the time over which paced streams begin. If all began at once, their events would arrive in bursts that no server
// with real users sees.
const spread = time.Second

// paced reads one stream on every connection, at the upstream's pace.
func (l *load) paced(ctx context.Context, d time.Duration) (result, error) {
	step := spread / time.Duration(len(l.workers))
	return l.all(ctx, spread+d, func(i int, w *worker) error {
		start := time.NewTimer(time.Duration(i) * step)
		defer start.Stop()
		select {
		case <-start.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		w.answer.gaps, w.answer.open = &w.gaps, &l.open
		err := w.once()
		if w.answer.first > 0 {
			l.open.Add(-1)
		}
		return err
	})
}

// want describes a correct answer, as learned from the upstream itself before anything is measured.
type want struct {
	stream  bool
	length  int // of an answer that is not a stream
	events  int // of a stream, [DONE] included
	content int // number of the first event with content, from 1
}

// idDigits is how much the length of correct answers varies: their ids count up.
const idDigits = 16

const doneEvent = "data: [DONE]\n\n"

// An answer is what is kept of the answer being read.
type answer struct {
	want *want
	gaps *[]time.Duration // receives the times between two reads that bring events; may be nil
	open *atomic.Int64    // counts streams that have sent content and have not ended; may be nil
	text *bytes.Buffer    // receives the body; may be nil

	begin, last    time.Time
	length, events int
	first          time.Duration // time to the first content
	opening        byte
	newline        bool // the last byte was a newline
	tail           [len(doneEvent)]byte
}

func (a *answer) reset(now time.Time) {
	a.begin, a.last = now, time.Time{}
	a.length, a.events, a.first, a.opening, a.newline = 0, 0, 0, 0, false
	a.tail = [len(doneEvent)]byte{}
}

// take examines the next bytes of the body.
func (a *answer) take(p []byte) {
	if len(p) == 0 {
		return
	}
	if a.text != nil {
		a.text.Write(p)
	}
	if a.length == 0 {
		a.opening = p[0]
	}
	a.length += len(p)
	if a.want.stream {
		a.count(p)
	}
	if n := len(p); n >= len(a.tail) {
		copy(a.tail[:], p[n-len(a.tail):])
	} else {
		copy(a.tail[:], a.tail[n:])
		copy(a.tail[len(a.tail)-n:], p)
	}
}

// count counts the events that end in p: every blank line ends one.
func (a *answer) count(p []byte) {
	n := bytes.Count(p, []byte("\n\n"))
	if a.newline && p[0] == '\n' {
		n++
	}
	a.newline = p[len(p)-1] == '\n' && !bytes.HasSuffix(p, []byte("\n\n"))
	if n == 0 {
		return
	}
	now := time.Now()
	a.events += n
	if a.gaps != nil && !a.last.IsZero() {
		*a.gaps = append(*a.gaps, now.Sub(a.last))
	}
	a.last = now
	if a.first == 0 && a.events >= a.want.content {
		a.first = now.Sub(a.begin)
		if a.open != nil {
			a.open.Add(1)
		}
	}
}

// check returns what is wrong with the answer.
func (a *answer) check() error {
	switch w := a.want; {
	case w.stream && a.events != w.events:
		return fmt.Errorf("got a stream of %d events, want %d", a.events, w.events)
	case w.stream && string(a.tail[:]) != doneEvent:
		return fmt.Errorf("the stream ended with %q", a.tail[:])
	case !w.stream && (a.length < w.length-idDigits || a.length > w.length+idDigits):
		return fmt.Errorf("got an answer of %d bytes, want %d", a.length, w.length)
	case !w.stream && (a.opening != '{' || !bytes.HasSuffix(bytes.TrimSpace(a.tail[:]), []byte("}"))):
		return fmt.Errorf("the answer begins with %q and ends with %q: not a JSON object", a.opening, a.tail[:])
	}
	return nil
}

// learnAll learns from the upstream what correct answers are. Another gateway than llm_proxy may write them anew, with as much content.
func (p *pass) learnAll(ctx context.Context) error {
	fromUpstream, err := p.learn(ctx, direct)
	if err != nil {
		return fmt.Errorf("asking the upstream directly: %w", err)
	}
	p.wants = [sides]*want{fromUpstream, fromUpstream, fromUpstream}
	if p.servers.peer == nil {
		return nil
	}
	fromPeer, err := p.learn(ctx, ours)
	if err != nil {
		return fmt.Errorf("asking the gateway: %w", err)
	}
	if u := p.scenario.upstream; fromPeer.length < u.bytes*9/10 || fromPeer.events < u.tokens {
		return fmt.Errorf("the gateway's answer is too short: %+v instead of %+v", *fromPeer, *fromUpstream)
	}
	p.wants[ours] = fromPeer
	return nil
}

// learn asks a side what a correct answer is.
func (p *pass) learn(ctx context.Context, from side) (*want, error) {
	c, err := dial(ctx, p.servers.running[from].addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, err
	}
	return learn(c, p.request(from, p.scenario.size), p.scenario.stream)
}

func learn(c *conn, request []byte, stream bool) (*want, error) {
	a := answer{want: &want{stream: stream}, text: new(bytes.Buffer)}
	if err := c.exchange(request, &a); err != nil {
		return nil, err
	}
	w := &want{stream: stream, length: a.length, events: a.events}
	if stream {
		for i, event := range bytes.Split(a.text.Bytes(), []byte("\n\n")) {
			_, content, found := bytes.Cut(event, []byte(`"content":"`))
			if found && content[0] != '"' {
				w.content = i + 1
				break
			}
		}
		if w.content == 0 {
			return nil, fmt.Errorf("the upstream's stream has no event with content: %.300q", a.text.Bytes())
		}
	}
	a.want = w
	return w, a.check()
}
