package ledger

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// A Usage is what one finished request consumed.
type Usage struct {
	Key    string // the name of the client's key; empty for none
	Model  string // as the client asked for it
	Target string // what answered, "upstream/model"
	At     time.Time
	Sums
}

// Sums are totals of usage.
type Sums struct {
	Requests int64 `json:"requests"`
	tokens.Usage
	Spilled  int64   `json:"spilled"`  // requests that went on to a later pool
	Unpriced int64   `json:"unpriced"` // requests whose price is not known; USD lacks them
	USD      float64 `json:"usd"`
	Saved    float64 `json:"saved_usd"` // US dollars that a target to compare with would have cost more
}

func (s *Sums) add(o Sums) {
	s.Requests += o.Requests
	s.Usage.Add(o.Usage)
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

const (
	// maxRows is how many rows a day may have before models and targets that are new are no longer told apart, and twice
	// that many before keys are not: a client can make up names of models. A thousand keys with twenty models each fit.
	maxRows = 20_000
	// maxName bounds the names of a row, in bytes.
	maxName = 200
	// other is the name under which the rows above these bounds are summed.
	other = "other"
)

// A rowID names a row of a day.
type rowID struct {
	day                day
	key, model, target string
}

// cut shortens a name that is too long, between two characters.
func cut(name string) string {
	if len(name) <= maxName {
		return name
	}
	end := maxName
	for end > maxName-utf8.UTFMax && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}

// clone takes the names out of what they may be a part of, such as a request's body.
func (id rowID) clone() rowID {
	return rowID{id.day, strings.Clone(id.key), strings.Clone(id.model), strings.Clone(id.target)}
}

// within is the row to use instead of id among n rows, so that they stay bounded.
func (id rowID) within(n int, exists func(rowID) bool) rowID {
	if n < maxRows || exists(id) {
		return id
	}
	id.model, id.target = other, other
	if n < 2*maxRows || exists(id) {
		return id
	}
	id.key = other
	return id
}

// errRow says that a row of the file cannot be read.
var errRow = errors.New("a row cannot be read")

// appendName appends the row's name within its day: each part with its length before it.
func (id rowID) appendName(b []byte) []byte {
	for _, part := range [...]string{id.key, id.model, id.target} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}

// parseName reads what appendName wrote.
func (id *rowID) parseName(b []byte) error {
	for _, part := range [...]*string{&id.key, &id.model, &id.target} {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return errRow
		}
		*part, b = string(b[size:size+int(n)]), b[size+int(n):]
	}
	if len(b) > 0 {
		return errRow
	}
	return nil
}

// The first byte of a row's value.
const (
	firstFormat = 1 // it counted only input, output and cached tokens
	sumsFormat  = 2
)

// appendValue appends the sums as the file has them. What answers consumed stands last, so that more of it can be added.
func (s *Sums) appendValue(b []byte) []byte {
	b = append(b, sumsFormat)
	for _, n := range [...]int64{s.Requests, s.Spilled, s.Unpriced} {
		b = binary.AppendVarint(b, n)
	}
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(s.USD))
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(s.Saved))
	for _, n := range s.Usage.Counts() {
		b = binary.AppendVarint(b, *n)
	}
	return b
}

// parseValue reads what this version of appendValue or an earlier one wrote.
func (s *Sums) parseValue(b []byte) error {
	if len(b) == 0 {
		return errRow
	}
	switch format, b := b[0], b[1:]; format {
	case firstFormat:
		b, err := parseCounts(b, &s.Requests, &s.Input, &s.Output, &s.Cached, &s.Spilled, &s.Unpriced)
		if err != nil || len(b) != 16 {
			return errRow
		}
		_, err = s.parseMoney(b)
		return err
	case sumsFormat:
		b, err := parseCounts(b, &s.Requests, &s.Spilled, &s.Unpriced)
		if err != nil {
			return err
		}
		if b, err = s.parseMoney(b); err != nil {
			return err
		}
		counts := s.Usage.Counts()
		for i := 0; len(b) > 0; i++ {
			if i == len(counts) {
				return errRow
			}
			if b, err = parseCounts(b, counts[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return errRow
}

// parseCounts reads counts and returns what follows them.
func parseCounts(b []byte, to ...*int64) ([]byte, error) {
	for _, n := range to {
		value, size := binary.Varint(b)
		if size <= 0 {
			return nil, errRow
		}
		*n, b = value, b[size:]
	}
	return b, nil
}

// parseMoney reads the amounts of money and returns what follows them.
func (s *Sums) parseMoney(b []byte) ([]byte, error) {
	if len(b) < 16 {
		return nil, errRow
	}
	s.USD = math.Float64frombits(binary.BigEndian.Uint64(b))
	s.Saved = math.Float64frombits(binary.BigEndian.Uint64(b[8:]))
	return b[16:], nil
}
