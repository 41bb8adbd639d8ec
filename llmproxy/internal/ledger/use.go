package ledger

import "time"

// A Use is something to add to the ledger: a request that is over, as a rule.
type Use struct {
	Key    string // the name of the client's key; empty for none
	Model  string // as the client asked for it
	Target string // what answered, "upstream/model"
	At     time.Time

	Requests int64
	Input    int64 // tokens, cached ones included
	Output   int64 // tokens
	Cached   int64 // tokens of the input
	Spilled  int64 // requests that went on to a later pool
	Unpriced int64 // requests whose price is not known; USD lacks them
	USD      float64
	Saved    float64 // US dollars that a target to compare with would have cost more
}

// Sums are what uses add up to.
type Sums struct {
	Requests int64   `json:"requests"`
	Input    int64   `json:"input_tokens"`
	Output   int64   `json:"output_tokens"`
	Cached   int64   `json:"cached_tokens"`
	Spilled  int64   `json:"spilled"`
	Unpriced int64   `json:"unpriced"`
	USD      float64 `json:"usd"`
	Saved    float64 `json:"saved_usd"`
}

func (u *Use) sums() Sums {
	return Sums{u.Requests, u.Input, u.Output, u.Cached, u.Spilled, u.Unpriced, u.USD, u.Saved}
}

func (s *Sums) add(o Sums) {
	s.Requests += o.Requests
	s.Input += o.Input
	s.Output += o.Output
	s.Cached += o.Cached
	s.Spilled += o.Spilled
	s.Unpriced += o.Unpriced
	s.USD += o.USD
	s.Saved += o.Saved
}

// A day is counted from 1 January 1970, UTC.
type day uint32

const secondsADay = 24 * 60 * 60

// dayOf is the day of a time; what lies before 1970 comes from a clock that was not set.
func dayOf(t time.Time) day { return day(max(0, t.Unix()) / secondsADay) }

// String is the day's date: 2006-01-02.
func (d day) String() string { return time.Unix(int64(d)*secondsADay, 0).UTC().Format(time.DateOnly) }
