package caching

import (
	"sync/atomic"
	"time"
)

// A Rest leaves a server alone that fails: after so many failures in a row for a pause, which doubles up to the longest. After
// it, one request finds out. The zero value is ready.
type Rest struct {
	strikes atomic.Int64
	until   atomic.Int64 // Unix nanoseconds
}

const (
	restStrikes  = 3
	restPause    = time.Second
	restPauseMax = 30 * time.Second
)

// Open tells whether the server is to be asked.
func (r *Rest) Open() bool {
	until := r.until.Load()
	if until == 0 {
		return true
	}
	now := time.Now()
	return now.UnixNano() >= until && r.until.CompareAndSwap(until, now.Add(r.pause()).UnixNano())
}

// Resting tells whether the server is left alone, and takes nobody's turn to find out.
func (r *Rest) Resting() bool { return r.until.Load() != 0 }

func (r *Rest) pause() time.Duration {
	doublings := min(max(r.strikes.Load()-restStrikes, 0), 5)
	return min(restPause<<doublings, restPauseMax)
}

// Judge takes note of how the server did.
func (r *Rest) Judge(err error) {
	if err == nil {
		r.strikes.Store(0)
		r.until.Store(0)
		return
	}
	if r.strikes.Add(1) >= restStrikes {
		r.until.Store(time.Now().Add(r.pause()).UnixNano())
	}
}
