package main

import (
	"context"
	"time"
)

// spread is the time over which paced streams are begun. All in one moment would make 500 streams beat in step, and each
// beat a burst that no server with real users sees.
const spread = time.Second

// paced has every connection take one stream, whose events come at the upstream's pace.
func (l *load) paced(ctx context.Context, lasting time.Duration) (result, error) {
	step := spread / time.Duration(len(l.workers))
	return l.all(ctx, spread+lasting, func(i int, w *worker) error {
		start := time.NewTimer(time.Duration(i) * step)
		defer start.Stop()
		select {
		case <-start.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		w.answer.gaps, w.answer.open = &w.gaps, &l.open
		err := w.once(l.request)
		if w.answer.first > 0 {
			l.open.Add(-1)
		}
		return err
	})
}
