package ratelimit

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// sharedQueue is how many settlements may wait; of more, the estimates stand.
const sharedQueue = 4096

// A settlement is what is sent when a request is over.
type settlement struct {
	keys    []string
	args    []any
	limits  []*Limit
	crossed func(*Limit, int)
}

// Settle puts the tokens and the cost that were really used in the place of the estimates, and gives the places back.
// A take that did not take, or was settled before, is left alone. A settlement that fails is not sent again, since it may
// have arrived: the estimate stands, and a place comes free when its lease ends.
func (s *Shared) Settle(t *Take, tokens, spend int64) {
	if t.At.IsZero() {
		return
	}
	job := settlement{crossed: t.Crossed, args: []any{s.clock, t.lease, ""}}
	places := false
	for _, l := range t.Limits {
		taken, used := t.want(l.Rule), used(l.Rule.Unit, tokens, spend)
		if l.Rule.Unit == Requests {
			continue // they stay taken
		}
		places = places || l.Rule.Unit == Concurrent
		job.keys, job.limits = append(job.keys, sharedKey(l)), append(job.limits, l)
		job.args = append(appendRule(job.args, l.Rule), taken, used, t.At.UnixMicro())
	}
	t.At = time.Time{}
	if places {
		s.drop(t)
		if !s.away.Load() {
			s.send(s.wait, job) //nolint:errcheck // it counts as away then
			return
		}
	}
	if len(job.keys) == 0 {
		return
	}
	select {
	case s.queue <- job:
	default:
	}
}

// send sends settlements in one go. It fails with the last error of any.
func (s *Shared) send(wait time.Duration, jobs ...settlement) (failed error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	answers := make([]*redis.Cmd, len(jobs))
	if len(jobs) == 1 { // pipelines have connections of their own, which may have to be made first
		answers[0] = settleShared.EvalSha(ctx, s.client, jobs[0].keys, jobs[0].args...)
	} else {
		pipe := s.client.Pipeline()
		for i, job := range jobs {
			answers[i] = settleShared.EvalSha(ctx, pipe, job.keys, job.args...)
		}
		pipe.Exec(ctx) //nolint:errcheck // each answer has its own error
	}
	for i, job := range jobs {
		if redis.HasErrorPrefix(answers[i].Err(), "NOSCRIPT") { // a server that was started anew, and did nothing
			answers[i] = settleShared.Eval(ctx, s.client, job.keys, job.args...)
		}
		marks, err := answers[i].Int64Slice()
		if err != nil {
			s.fail(err)
			failed = err
			continue
		}
		for n, percent := range marks {
			if percent > 0 && n < len(job.limits) && job.crossed != nil {
				job.crossed(job.limits[n], int(percent))
			}
		}
	}
	return failed
}
