package wire

// Body gives the edited body. It stays valid after the next Reset.
func (e *Edit) Body() Body {
	if !e.changed {
		return NewBody(e.o.Body)
	}
	p := splicer{body: e.o.Body, segments: make([][]byte, 0, 8)}
	p.end = e.opening()
	last := -1
	for i := range e.entries {
		if !e.entries[i].dropped {
			e.splice(&p, i, last)
			last = i
		}
	}
	if n := len(e.o.Members); n > 0 {
		p.keep(e.o.Members[n-1].Value.End, len(e.o.Body))
	} else {
		p.keep(e.o.Close, len(e.o.Body))
	}
	p.flush()
	return Body{segments: p.segments}
}

// opening is the length of what stands before the first member: the brace, with white space.
func (e *Edit) opening() int {
	if len(e.o.Members) == 0 {
		return e.o.Close
	}
	return e.o.Members[0].Key.Start - 1
}

// splice appends one member, and the comma before it unless it is the first (last is -1).
func (e *Edit) splice(p *splicer, i, last int) {
	change := &e.entries[i]
	if i >= len(e.o.Members) {
		if last >= 0 {
			p.put(',')
		}
		p.putKey(change.key)
		p.put(':')
		p.value(change.value)
		return
	}
	m := e.o.Members[i]
	if last >= 0 {
		p.keep(e.o.Members[i-1].Value.End, m.Key.Start-1) // a comma, with white space
	}
	if change.renamed {
		p.putKey(change.key)
	} else {
		p.keep(m.Key.Start-1, m.Key.End+1)
	}
	p.keep(m.Key.End+1, m.Value.Start)
	if change.value != nil {
		p.value(change.value)
	} else {
		p.keep(m.Value.Start, m.Value.End)
	}
}

// A splicer collects segments: runs of the old body, and new bytes in between.
type splicer struct {
	body       []byte
	segments   [][]byte
	start, end int    // the run of the old body that is not in segments yet
	fresh      []byte // new bytes that follow on it
}

// keep goes on with a part of the old body.
func (p *splicer) keep(start, end int) {
	if start == end {
		return
	}
	if start != p.end || len(p.fresh) > 0 {
		p.flush()
		p.start = start
	}
	p.end = end
}

// put goes on with new bytes.
func (p *splicer) put(b ...byte) { p.fresh = append(p.fresh, b...) }

func (p *splicer) putKey(key string) { p.fresh = appendString(p.fresh, key) }

// maxCopied bounds the new values that are copied: below it one more Write costs more.
const maxCopied = 256

// value goes on with a new value.
func (p *splicer) value(b []byte) {
	if len(b) <= maxCopied {
		p.put(b...)
		return
	}
	p.flush()
	p.segments = append(p.segments, b)
}

func (p *splicer) flush() {
	if p.start < p.end {
		p.segments = append(p.segments, p.body[p.start:p.end])
	}
	if len(p.fresh) > 0 {
		p.segments = append(p.segments, p.fresh)
	}
	p.start, p.fresh = p.end, nil
}
