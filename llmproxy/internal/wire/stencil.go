package wire

import "slices"

// A Stencil is an event of a stream with a hole where its text was. From one event of an answer to the next nearly always the
// text alone is another one: then two comparisons tell what going through the JSON would. The zero Stencil fits nothing.
type Stencil struct {
	around []byte // the event without its text
	hole   int    // where that was
	beside Said   // what the event says elsewhere
	vain   int    // how often in a row it did not fit
}

const (
	// maxStencil bounds what is copied of an event.
	maxStencil = 1 << 10
	// maxVain is after how many events that are unlike one another nothing is copied any more.
	maxVain = 8
)

// Next is Framing.Next for the events of one stream, in their order.
func (s *Stencil) Next(f Framing, name, data []byte) Event {
	if f != Chunks || len(name) > 0 || s.vain > maxVain {
		return f.Next(name, data)
	}
	if said, fits := s.fit(data); fits {
		s.vain = 0
		return Event{Said: said}
	}
	s.vain++
	var said Said
	walk := skimmer{data: data, nest: 1, said: &said}
	news, whole := walk.skim()
	if news || !whole {
		return f.Next(name, data)
	}
	s.cut(data, walk.last, said)
	return Event{Said: said}
}

// fit tells whether the event differs from the last one in its text alone, and what it says.
func (s *Stencil) fit(data []byte) (said Said, fits bool) {
	n := len(data) - len(s.around)
	if n < 0 || s.hole == 0 || string(data[:s.hole]) != string(s.around[:s.hole]) || string(data[s.hole+n:]) != string(s.around[s.hole:]) {
		return Said{}, false
	}
	text := data[s.hole : s.hole+n]
	said = s.beside
	// A quote in it ends the text early, and so does not a backslash before the quote behind it.
	return said, said.text(text) == n && (n == 0 || text[n-1] != '\\')
}

// cut makes a stencil of an event that brings no news.
func (s *Stencil) cut(data []byte, text Span, said Said) {
	s.hole = 0
	n := len(data) - (text.End - text.Start)
	if text.Start == 0 || n > maxStencil {
		return
	}
	var inside Said
	inside.text(text.Of(data))
	s.beside = Said{said.Chars - inside.Chars, said.Bytes - inside.Bytes}
	s.around = append(append(slices.Grow(s.around[:0], n), data[:text.Start]...), data[text.End:]...)
	s.hole = text.Start
}
