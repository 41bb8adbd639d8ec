package redislimit

import (
	"context"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// A Fallback is a Limiter that does not fail while the server is unavailable: it grants this process its share of what was left
// of each limit.
type Fallback struct{ *Limiter }

// Take reserves from all limits of the request, or from none. It never fails.
func (f Fallback) Take(ctx context.Context, res *ratelimit.Reservation) error {
	if !f.unavailable.Load() {
		f.offline.Start(res)
		counters, err := f.take(ctx, res)
		if err == nil {
			f.offline.Finish(res, counters, f.unavailable.Load())
			return nil
		}
		f.offline.Abort(res)
	}
	res.Lease = f.newLease()
	f.offline.Take(res, f.shares())
	if res.Denied == nil {
		f.hold(res)
	}
	return nil
}

// Peek fills in the quota left and reserves nothing. It never fails.
func (f Fallback) Peek(ctx context.Context, res *ratelimit.Reservation) error {
	if f.Limiter.Peek(ctx, res) != nil {
		f.offline.Peek(res, f.shares())
	}
	return nil
}

// Settle settles where the usage of the reservation is recorded.
func (f Fallback) Settle(res *ratelimit.Reservation, tokens, spend int64) {
	if res.At.IsZero() {
		return
	}
	if f.offline.Settle(res, tokens, spend) {
		f.release(res)
		return
	}
	f.Limiter.Settle(res, tokens, spend)
}
