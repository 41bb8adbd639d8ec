package ratelimit

import (
	"context"
	"time"
)

const (
	// firstBeat is when a process first says that it is there: one that only looks at its configuration says nothing.
	firstBeat = 250 * time.Millisecond
	// sharedBeat is how often it says so, and hears of the others.
	sharedBeat = 2 * time.Second
	// presence is how long a process that has died counts as one of those that share.
	presence = 10 * time.Second
)

// beat says that the process is there for so long, and hears how many are.
func (s *Shared) beat(long time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), sharedPatience)
	defer cancel()
	n, err := presentShared.Run(ctx, s.client, []string{sharedPrefix + "present"}, s.clock, long.Microseconds(), s.name).Int64()
	if err != nil {
		s.fail(err)
		return err
	}
	s.present.Store(n)
	if s.Heard != nil && long > 0 {
		s.Heard(n)
	}
	return nil
}

// share is among how many processes the limits are divided while the server is away: as many as it last told of, or, to a
// process that has heard nothing yet, to the one before.
func (s *Shared) share() share {
	if n := s.present.Load(); n > 0 {
		return share(n)
	}
	return share(max(1, s.Sharers))
}
