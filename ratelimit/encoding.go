package ratelimit

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Changes returns the counters that changed since its last call, by limit ID, so that the caller can save them for the next
// start. The first call starts the recording of changes. Counters of running requests and of addresses are not included.
func (m *Memory) Changes() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes := make(map[string][]byte, len(m.changed))
	for id := range m.changed {
		changes[id] = encode(m.counters[id])
	}
	m.changed = map[string]struct{}{}
	return changes
}

// Restore adds a counter that Changes returned to what has been counted since.
func (m *Memory) Restore(id string, saved []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := decode(saved)
	if err != nil {
		return err
	}
	if current, ok := m.counters[id]; ok {
		merge(c, current)
	}
	m.counters[id] = c
	return nil
}

// The first byte of an encoded counter.
const (
	tagTokenBucket    = 'b'
	tagMeteredBucket  = 'm'
	tagSlidingBudget  = 's'
	tagCalendarBudget = 'p'
)

var errInvalidState = errors.New("invalid stored state of a limit")

func encode(c Counter) []byte {
	var b []byte
	switch c := c.(type) {
	case *tokenBucket:
		b = c.append([]byte{tagTokenBucket})
	case *meteredBucket:
		b = c.append([]byte{tagMeteredBucket})
	case *slidingBudget:
		b = binary.BigEndian.AppendUint64([]byte{tagSlidingBudget, c.alerted}, uint64(c.newest))
		for _, n := range c.spent {
			b = binary.AppendVarint(b, n)
		}
	case *calendarBudget:
		b = binary.BigEndian.AppendUint64([]byte{tagCalendarBudget, c.alerted}, uint64(c.period))
		b = binary.AppendVarint(b, c.spent)
	}
	return b
}

func decode(b []byte) (Counter, error) {
	if len(b) < 10 {
		return nil, errInvalidState
	}
	switch b[0] {
	case tagTokenBucket:
		c := new(tokenBucket)
		return c, c.parse(b[1:])
	case tagMeteredBucket:
		c := new(meteredBucket)
		return c, c.parse(b[1:])
	case tagSlidingBudget:
		c := &slidingBudget{alerted: b[1], newest: int64(binary.BigEndian.Uint64(b[2:]))}
		return c, parseAmounts(b[10:], c.spent[:])
	case tagCalendarBudget:
		c := &calendarBudget{alerted: b[1], period: int64(binary.BigEndian.Uint64(b[2:]))}
		var spent [1]int64
		err := parseAmounts(b[10:], spent[:])
		c.spent = spent[0]
		return c, err
	}
	return nil, errInvalidState
}

func (b *tokenBucket) append(to []byte) []byte {
	to = binary.BigEndian.AppendUint64(to, math.Float64bits(b.used))
	return binary.BigEndian.AppendUint64(to, uint64(b.at))
}

// parse reads what append wrote.
func (b *tokenBucket) parse(from []byte) error {
	if len(from) != 16 {
		return errInvalidState
	}
	b.used, b.at = math.Float64frombits(binary.BigEndian.Uint64(from)), int64(binary.BigEndian.Uint64(from[8:]))
	if !(b.used >= 0 && b.used <= maxLimit) {
		return errInvalidState
	}
	return nil
}

// parseAmounts fills a slice with amounts, and fails if there are fewer or more.
func parseAmounts(b []byte, to []int64) error {
	for i := range to {
		n, size := binary.Varint(b)
		if size <= 0 || n < 0 || n > maxLimit {
			return errInvalidState
		}
		to[i], b = n, b[size:]
	}
	if len(b) > 0 {
		return errInvalidState
	}
	return nil
}

// merge adds to a saved counter what was counted before it was restored.
func merge(saved, current Counter) {
	switch c := current.(type) {
	case *tokenBucket:
		if s, ok := saved.(*tokenBucket); ok {
			s.merge(c)
		}
	case *meteredBucket:
		if s, ok := saved.(*meteredBucket); ok {
			s.merge(&c.tokenBucket)
			s.reserved = c.reserved
		}
	case *slidingBudget:
		if s, ok := saved.(*slidingBudget); ok {
			s.shift(c.newest)
			for _, n := range c.spent {
				s.spent[0] += n
			}
			s.reserved = c.reserved
		}
	case *calendarBudget:
		if s, ok := saved.(*calendarBudget); ok && c.period >= s.period {
			if c.period > s.period {
				*s = *c
				return
			}
			s.spent, s.reserved = s.spent+c.spent, c.reserved
		}
	}
}

func (b *tokenBucket) merge(current *tokenBucket) {
	b.used += current.used
	b.at = max(b.at, current.at)
}

// ParseCounter parses the counter of a rule from the numbers, separated by spaces, that a shared store keeps for it: the
// running requests; or what is used and the time in microseconds since 1970; or the number of the period, the threshold that
// was reported, and what was spent in the period or in each of the 61 intervals, the newest first. What running requests have
// reserved of tokens and budgets is the last number.
func ParseCounter(text string, r Rule) (Counter, error) {
	var f [intervals + 4]float64
	n := 0
	for number := range strings.FieldsSeq(text) {
		value, err := strconv.ParseFloat(number, 64)
		if err != nil || n == len(f) || math.Abs(value) > 1<<62 || value != value {
			return nil, errInvalidState
		}
		f[n] = value
		n++
	}
	c := newCounter(r)
	want := 0
	switch c := c.(type) {
	case *concurrency:
		want, c.running = 1, int64(f[0])
	case *tokenBucket:
		want, c.used, c.at = 2, f[0], int64(f[1])*int64(time.Microsecond)
	case *meteredBucket:
		want, c.used, c.at, c.reserved = 3, f[0], int64(f[1])*int64(time.Microsecond), reserved(f[2])
	case *calendarBudget:
		want, c.period, c.alerted, c.spent, c.reserved = 4, int64(f[0]), uint8(f[1]), int64(f[2]), reserved(f[3])
	case *slidingBudget:
		want, c.newest, c.alerted, c.reserved = len(f), int64(f[0]), uint8(f[1]), reserved(f[len(f)-1])
		for i := range c.spent {
			c.spent[i] = int64(f[2+i])
		}
	}
	if n != want {
		return nil, errInvalidState
	}
	return c, nil
}
