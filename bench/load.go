package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long after the end of a pass an answer may still come before the run fails.
const patience = 20 * time.Second

// A load is a number of connections to one server that all send the same request.
type load struct {
	request []byte
	workers []worker
	open    atomic.Int64 // streams that have brought content and have not ended
	stop    atomic.Bool
}

// A worker is one connection and what was seen on it.
type worker struct {
	conn           *conn
	answer         answer
	total          []time.Duration
	first, gaps    []time.Duration
	requests, sums int
	err            error
}

// result is what was seen on all connections.
type result struct {
	requests, events   int
	elapsed            time.Duration
	total, first, gaps []time.Duration // sorted
}

// newLoad opens the connections, some at a time so that the listener's backlog holds them.
func newLoad(ctx context.Context, addr string, connections int, request []byte, w *want) (*load, error) {
	l := &load{request: request, workers: make([]worker, connections)}
	for i := range l.workers {
		c, err := dial(ctx, addr)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		l.workers[i].conn = c
		l.workers[i].answer.want = w
	}
	return l, nil
}

func (l *load) close() {
	for i := range l.workers {
		if c := l.workers[i].conn; c != nil {
			_ = c.Close()
		}
	}
}

// repeat has every connection send one request after the other for as long as d. Those that are under way then are
// finished and counted, so that CPU time and requests belong together.
func (l *load) repeat(ctx context.Context, d time.Duration) (result, error) {
	end := time.Now().Add(d)
	return l.all(ctx, d, func(_ int, w *worker) error {
		for { // once at least: on a busy machine a goroutine may begin late
			if err := w.once(l.request); err != nil || l.stop.Load() || !time.Now().Before(end) {
				return err
			}
		}
	})
}

// times has every connection send n requests.
func (l *load) times(ctx context.Context, n int) (result, error) {
	return l.all(ctx, 0, func(_ int, w *worker) error {
		for range n {
			if err := w.once(l.request); err != nil {
				return err
			}
		}
		return nil
	})
}

// once makes one exchange, checks it and notes its times.
func (w *worker) once(request []byte) error {
	if err := w.conn.exchange(request, &w.answer); err != nil {
		return err
	}
	w.total = append(w.total, time.Since(w.answer.begin))
	if err := w.answer.check(); err != nil {
		return err
	}
	w.requests++
	w.sums += w.answer.events
	if w.answer.want.stream {
		w.first = append(w.first, w.answer.first)
	}
	return nil
}

// all runs work for every connection at once, and gathers what they saw. The first failure ends it for all.
func (l *load) all(ctx context.Context, d time.Duration, work func(int, *worker) error) (result, error) {
	stopped := context.AfterFunc(ctx, func() { l.stop.Store(true); l.close() })
	defer stopped()
	l.stop.Store(false)
	deadline := time.Now().Add(d + patience)
	for i := range l.workers {
		w := &l.workers[i]
		w.total, w.first, w.gaps, w.requests, w.sums = w.total[:0], w.first[:0], w.gaps[:0], 0, 0
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
		r.events += w.sums
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

// quantile is the value that q of all sorted ones do not exceed, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	i := min(int(q*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[i]) / float64(time.Millisecond)
}
