package wire

import "bytes"

// An alikeness is the last event that an Assembly read. The next one is mostly the same but for a few strings: then only these
// are looked at.
type alikeness struct {
	event []byte
	holes []hole // in their order in the event
	unfit bool   // something else than a string grew, so that the same again would not be nothing new
}

// A hole is the inside of a string that may be another one in the next event.
type hole struct {
	Span
	grows *fields // whose member the string is a part of; nil for padding
	at    int     // which member
	next  Span    // the string in the event at hand
}

// begin forgets the last event for one that is to be read. It is copied: the caller may use its bytes again.
func (l *alikeness) begin(event []byte) []byte {
	l.event, l.holes, l.unfit = append(l.event[:0], event...), l.holes[:0], false
	return l.event
}

// hole notes that a value, which lies in the event, is a string that may change.
func (l *alikeness) hole(value []byte, grows *fields, at int) {
	start := cap(l.event) - cap(value) + 1 // slices of the event reach to its end
	l.holes = append(l.holes, hole{Span: Span{start, start + len(value) - 2}, grows: grows, at: at})
}

// take takes an event that is like the last one; false if it is not, and then nothing is taken.
func (l *alikeness) take(event []byte) bool {
	if l.unfit || len(l.event) == 0 {
		return false
	}
	s, i, from := scanner{b: event}, 0, 0
	for n := range l.holes {
		h := &l.holes[n]
		before := l.event[from:h.Start] // up to the quote
		if !bytes.HasPrefix(event[i:], before) {
			return false
		}
		start := i + len(before)
		end := s.str(start - 1)
		if end == failed {
			return false
		}
		i, from = end-1, h.End
		h.next = Span{start, i}
	}
	if !bytes.Equal(event[i:], l.event[from:]) {
		return false
	}
	for _, h := range l.holes {
		if h.grows != nil {
			x := &(*h.grows)[h.at]
			x.value = append(x.value, h.next.Of(event)...)
		}
	}
	return true
}
