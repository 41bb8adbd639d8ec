package ratelimit

import (
	"context"
	"time"
)

const (
	// sharedProbe is how often a server that is away is asked.
	sharedProbe = 100 * time.Millisecond
	// sharedPatience bounds what no request waits for.
	sharedPatience = 500 * time.Millisecond
	// sharedBatch is how many settlements or leases are sent at once: a script keeps the server from everybody else.
	sharedBatch = 64
)

// work settles, renews leases, says that the process is there, and finds out when the server is back.
func (s *Shared) work() {
	defer close(s.ended)
	probe, renewal, beat := time.NewTicker(sharedProbe), time.NewTicker(leaseRenewal), time.NewTicker(firstBeat)
	defer probe.Stop()
	defer renewal.Stop()
	defer beat.Stop()
	probe.Stop()
	told := false
	for {
		queue := s.queue
		if s.away.Load() {
			queue = nil // they wait
		}
		select {
		case job := <-queue:
			s.send(sharedPatience, s.more(job)...) //nolint:errcheck // it counts as away then
		case <-renewal.C:
			s.renew()
		case <-beat.C:
			beat.Reset(sharedBeat)
			if !s.away.Load() && s.beat(presence) == nil {
				s.pay() //nolint:errcheck // it counts as away then
			}
		case err := <-s.failed:
			if !s.back() && !told {
				told = true
				s.tell(err)
			}
			probe.Reset(sharedProbe)
		case <-probe.C:
			if !s.back() {
				continue
			}
			probe.Stop()
			if told {
				told = false
				s.tell(nil)
			}
		case <-s.stop:
			s.last()
			return
		}
	}
}

// more adds what else waits.
func (s *Shared) more(first settlement) []settlement {
	jobs := []settlement{first}
	for len(jobs) < sharedBatch {
		select {
		case job := <-s.queue:
			jobs = append(jobs, job)
		default:
			return jobs
		}
	}
	return jobs
}

// last sends what waits when the store is closed, and takes leave.
func (s *Shared) last() {
	for !s.away.Load() {
		select {
		case job := <-s.queue:
			s.send(sharedPatience, s.more(job)...) //nolint:errcheck // it counts as away then
			continue
		default:
		}
		if s.pay() == nil && s.present.Load() > 0 {
			s.beat(0) //nolint:errcheck // it is forgotten in any case, later
		}
		return
	}
}

// back asks the server for what requests ask it. What was taken meanwhile is added, and the places that it may have lost are
// taken again, before requests ask it.
func (s *Shared) back() bool {
	if !s.away.Load() {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), sharedPatience)
	defer cancel()
	args := append(appendRule([]any{"", "", 0, 1}, Rule{Unit: Requests, Limit: maxLimit, Window: time.Second}), 1)
	if takeShared.Run(ctx, s.client, []string{sharedPrefix + "probe"}, args...).Err() != nil || s.beat(presence) != nil || s.pay() != nil {
		return false
	}
	s.away.Store(false)
	s.renew()
	return s.pay() == nil && !s.away.Load() // who saw it away may have taken since
}

func (s *Shared) tell(err error) {
	if s.Report != nil {
		s.Report(err)
	}
}

// renew makes the leases of requests that are under way good for longer.
func (s *Shared) renew() {
	var keys []string
	var leases []any
	s.mu.Lock()
	for lease, places := range s.held {
		for _, key := range places {
			keys, leases = append(keys, key), append(leases, lease)
		}
	}
	s.mu.Unlock()
	for len(keys) > 0 && !s.away.Load() {
		n := min(len(keys), sharedBatch)
		ctx, cancel := context.WithTimeout(context.Background(), sharedPatience)
		err := renewShared.Run(ctx, s.client, keys[:n], append([]any{s.clock, leaseLife.Microseconds()}, leases[:n]...)...).Err()
		cancel()
		if err != nil {
			s.fail(err)
		}
		keys, leases = keys[n:], leases[n:]
	}
}
