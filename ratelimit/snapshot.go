package ratelimit

import (
	"encoding/binary"
	"errors"
	"math"
)

// Changes gives the facts that changed since it was last called, to be kept over a restart, and from then on takes note of
// changes. Requests that are under way, and addresses, are not kept.
func (m *Memory) Changes() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes := make(map[string][]byte, len(m.changed))
	for id := range m.changed {
		changes[id] = encode(m.cells[id])
	}
	m.changed = map[string]struct{}{}
	return changes
}

// Restore gives facts back that Changes gave. They are added to what was counted since, if anything was.
func (m *Memory) Restore(id string, facts []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := decode(facts)
	if err != nil {
		return err
	}
	if counted, ok := m.cells[id]; ok {
		join(c, counted)
	}
	m.cells[id] = c
	return nil
}

// The first byte of encoded facts.
const (
	isBucket   = 'b'
	isMetered  = 'm'
	isSpending = 's'
	isPeriod   = 'p'
)

var errInvalidState = errors.New("invalid stored state of a limit")

func encode(c cell) []byte {
	var b []byte
	switch c := c.(type) {
	case *bucket:
		b = c.append([]byte{isBucket})
	case *metered:
		b = c.append([]byte{isMetered})
	case *spending:
		b = binary.BigEndian.AppendUint64([]byte{isSpending, c.level}, uint64(c.head))
		for _, n := range c.spent {
			b = binary.AppendVarint(b, n)
		}
	case *period:
		b = binary.BigEndian.AppendUint64([]byte{isPeriod, c.level}, uint64(c.number))
		b = binary.AppendVarint(b, c.spent)
	}
	return b
}

func decode(b []byte) (cell, error) {
	if len(b) < 10 {
		return nil, errInvalidState
	}
	switch b[0] {
	case isBucket:
		one := new(bucket)
		return one, one.parse(b[1:])
	case isMetered:
		one := new(metered)
		return one, one.parse(b[1:])
	case isSpending:
		s := &spending{level: b[1], head: int64(binary.BigEndian.Uint64(b[2:]))}
		return s, amounts(b[10:], s.spent[:])
	case isPeriod:
		p := &period{level: b[1], number: int64(binary.BigEndian.Uint64(b[2:]))}
		var spent [1]int64
		err := amounts(b[10:], spent[:])
		p.spent = spent[0]
		return p, err
	}
	return nil, errInvalidState
}

func (b *bucket) append(to []byte) []byte {
	to = binary.BigEndian.AppendUint64(to, math.Float64bits(b.used))
	return binary.BigEndian.AppendUint64(to, uint64(b.at))
}

// parse reads what append wrote.
func (b *bucket) parse(from []byte) error {
	if len(from) != 16 {
		return errInvalidState
	}
	b.used, b.at = math.Float64frombits(binary.BigEndian.Uint64(from)), int64(binary.BigEndian.Uint64(from[8:]))
	if !(b.used >= 0 && b.used <= maxLimit) {
		return errInvalidState
	}
	return nil
}

// amounts reads so many amounts, and nothing else.
func amounts(b []byte, to []int64) error {
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

// join adds what was counted before the kept facts were there.
func join(kept, counted cell) {
	switch c := counted.(type) {
	case *bucket:
		if k, ok := kept.(*bucket); ok {
			k.join(c)
		}
	case *metered:
		if k, ok := kept.(*metered); ok {
			k.join(&c.bucket)
			k.reserved = c.reserved
		}
	case *spending:
		if k, ok := kept.(*spending); ok {
			k.advance(c.head)
			for _, n := range c.spent {
				k.spent[0] += n
			}
			k.reserved = c.reserved
		}
	case *period:
		if k, ok := kept.(*period); ok && c.number >= k.number {
			if c.number > k.number {
				*k = *c
				return
			}
			k.spent, k.reserved = k.spent+c.spent, c.reserved
		}
	}
}

func (b *bucket) join(counted *bucket) {
	b.used += counted.used
	b.at = max(b.at, counted.at)
}
