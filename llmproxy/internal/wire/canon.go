package wire

import (
	"bytes"
	"errors"
	"hash"
	"slices"
)

const (
	// canonDepth, canonMembers and canonSize bound the work that one text can make: what goes beyond is not worth knowing
	// again. Long strings count as 33 bytes.
	canonDepth   = 64
	canonMembers = 1 << 16
	canonSize    = 8 << 20
	// canonInline is the longest string that stands in the form itself; of longer ones their SHA-256 does.
	canonInline = 64
)

// ErrNoCanon says that a text is too deep or has too many parts to be put into its canonical form.
var ErrNoCanon = errors.New("too deep or too large for a canonical form")

// A Canon brings JSON into its canonical form: two texts have the same form exactly when they say the same. White space,
// the order of keys and the spelling of strings and numbers do not matter; numbers are compared by value, however long.
// Keys that stand twice are all kept, in their order, since servers disagree on which one counts.
//
// The form is binary and every part of it tells its own length, so that no text can be made to look like another. It is
// made in one pass. A Canon can be used again, by one goroutine at a time.
type Canon struct {
	s       scanner
	form    []byte
	pairs   []canonPair // of the objects that are open, those of the innermost last
	scratch []byte
	long    hash.Hash  // of a string with escapes
	room    [1024]byte // for what these stand for
	over    bool
}

// A canonPair is a member within the form.
type canonPair struct{ start, value, end int }

// Object gives the form of an object without the members that skip names, by their keys as they stand. It is valid until
// the next call.
func (c *Canon) Object(o *Object, skip func(key []byte) bool) ([]byte, error) {
	c.reset(o.Body)
	c.form = append(c.form, '{')
	for _, m := range o.Members {
		if skip(m.Key.Of(o.Body)) {
			continue
		}
		pair := canonPair{start: len(c.form)}
		c.text(m.Key.Of(o.Body))
		pair.value = len(c.form)
		if c.value(m.Value.Start, 1) == failed {
			break
		}
		pair.end = len(c.form)
		c.pairs = append(c.pairs, pair)
	}
	c.sort(0)
	c.form = append(c.form, '}')
	return c.result()
}

// Value gives the form of any value. It is valid until the next call.
func (c *Canon) Value(value []byte) ([]byte, error) {
	c.reset(value)
	if i := c.value(c.s.space(0), 0); i != failed {
		c.s.atEnd(i)
	}
	return c.result()
}

func (c *Canon) reset(text []byte) {
	c.s = scanner{b: text}
	c.form, c.pairs, c.over = c.form[:0], c.pairs[:0], false
}

func (c *Canon) result() ([]byte, error) {
	if c.over {
		return nil, ErrNoCanon
	}
	return c.form, c.s.result()
}

// tooMuch gives up.
func (c *Canon) tooMuch() int {
	c.over = true
	return failed
}

func (c *Canon) value(i, depth int) int {
	if depth > canonDepth || len(c.form) > canonSize {
		return c.tooMuch()
	}
	switch first := c.s.peek(i); first {
	case '{':
		return c.object(i, depth+1)
	case '[':
		return c.array(i, depth+1)
	case '"':
		end := c.s.str(i)
		if end != failed {
			c.text(c.s.b[i+1 : end-1])
		}
		return end
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		end := c.s.number(i)
		if end != failed {
			c.number(c.s.b[i:end])
		}
		return end
	default:
		c.form = append(c.form, first) // t, f, n; anything else fails
		return c.s.value(i, depth)
	}
}

func (c *Canon) array(i, depth int) int {
	c.form = append(c.form, '[')
	if i = c.s.space(i + 1); c.s.peek(i) == ']' {
		c.form = append(c.form, ']')
		return i + 1
	}
	for {
		if i = c.value(i, depth); i == failed {
			return failed
		}
		switch i = c.s.space(i); c.s.peek(i) {
		case ',':
			i = c.s.space(i + 1)
		case ']':
			c.form = append(c.form, ']')
			return i + 1
		default:
			return c.s.fail(i, "a comma or a closing bracket is expected")
		}
	}
}

func (c *Canon) object(i, depth int) int {
	c.form = append(c.form, '{')
	first := len(c.pairs)
	i = c.s.space(i + 1)
	for c.s.peek(i) != '}' {
		if i = c.member(i, depth); i == failed {
			return failed
		}
		i = c.s.space(i)
		if c.s.peek(i) == '}' {
			break
		}
		if c.s.peek(i) != ',' {
			return c.s.fail(i, "a comma or a closing brace is expected")
		}
		if i = c.s.space(i + 1); c.s.peek(i) != '"' {
			return c.s.fail(i, "a key in double quotes is expected")
		}
	}
	c.sort(first)
	c.form = append(c.form, '}')
	return i + 1
}

func (c *Canon) member(i, depth int) int {
	if c.s.peek(i) != '"' {
		return c.s.fail(i, "a key in double quotes is expected")
	}
	if len(c.pairs) == canonMembers {
		return c.tooMuch()
	}
	key := i + 1
	if i = c.s.str(i); i == failed {
		return failed
	}
	pair := canonPair{start: len(c.form)}
	c.text(c.s.b[key : i-1])
	pair.value = len(c.form)
	if i = c.s.space(i); c.s.peek(i) != ':' {
		return c.s.fail(i, "a colon is expected behind a key")
	}
	if i = c.value(c.s.space(i+1), depth); i == failed {
		return failed
	}
	pair.end = len(c.form)
	c.pairs = append(c.pairs, pair)
	return i
}

// sort brings the members of the object that just ended, from pair first on, into the order of their keys.
func (c *Canon) sort(first int) {
	pairs := c.pairs[first:]
	c.pairs = c.pairs[:first]
	byKey := func(a, b canonPair) int { return bytes.Compare(c.form[a.start:a.value], c.form[b.start:b.value]) }
	if slices.IsSortedFunc(pairs, byKey) {
		return
	}
	start := pairs[0].start
	slices.SortStableFunc(pairs, byKey)
	c.scratch = append(c.scratch[:0], c.form[start:]...)
	c.form = c.form[:start]
	for _, p := range pairs {
		c.form = append(c.form, c.scratch[p.start-start:p.end-start]...)
	}
}
