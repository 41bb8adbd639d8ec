package ratelimit

import (
	"slices"
	"strconv"
	"time"
)

const (
	// sharedPart is how many amounts are paid at once: a script keeps the server from everybody else.
	sharedPart = 64
	// sharedRounds is how often is gathered what was taken while the rest was paid: it is less each time.
	sharedRounds = 8
	// markSeconds is how long the server remembers what was paid: far longer than a payment may be sent again.
	markSeconds = 24 * 60 * 60
)

// pay adds what was taken while the server was away to its facts. A payment that fails is sent again, with its mark, so that
// it counts once even if only the answer was lost.
func (s *Shared) pay() error {
	for range sharedRounds {
		if len(s.dues) == 0 {
			s.gather()
		}
		if len(s.dues) == 0 {
			break
		}
		for len(s.dues) > 0 {
			if err := s.send(sharedPatience, s.dues[0]); err != nil {
				return err
			}
			s.dues = s.dues[1:]
		}
	}
	return nil
}

func (s *Shared) gather() {
	for part := range slices.Chunk(s.debts.gather(time.Now()), sharedPart) {
		s.paid++
		s.dues = append(s.dues, payment(part, sharedPrefix+"paid:"+s.name+":"+strconv.Itoa(s.paid)))
	}
}

// payment is the settlement of requests that had taken nothing.
func payment(part []due, mark string) settlement {
	told := map[*Limit]func(*Limit, int){}
	job := settlement{args: []any{"", "", markSeconds}, crossed: func(l *Limit, percent int) {
		if tell := told[l]; tell != nil {
			tell(l, percent)
		}
	}}
	for _, d := range part {
		told[&d.limit] = d.crossed
		job.keys, job.limits = append(job.keys, sharedKey(&d.limit)), append(job.limits, &d.limit)
		amount := strconv.FormatFloat(d.amount, 'f', -1, 64)
		job.args = append(appendRule(job.args, d.limit.Rule), 0, amount, d.at.UnixMicro())
	}
	job.keys = append(job.keys, mark)
	return job
}
