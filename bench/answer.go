package main

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"time"
)

// want is what a right answer looks like, learned from the upstream itself before anything is measured.
type want struct {
	stream  bool
	length  int // of a whole answer
	events  int // of a stream, [DONE] included
	content int // which event is the first with content, counted from 1
}

// idDigits is by how much the length of right answers differs: their ids count up.
const idDigits = 16

const doneEvent = "data: [DONE]\n\n"

// An answer is what is kept of the one being read.
type answer struct {
	want *want
	gaps *[]time.Duration // where the time between two reads that bring events is noted, if anywhere
	open *atomic.Int64    // how many streams have brought content and have not ended, if anybody counts
	text *bytes.Buffer    // the whole of it, if somebody wants it

	begin, last    time.Time
	length, events int
	first          time.Duration // until the first content
	opening        byte
	newline        bool // the last byte was one
	tail           [len(doneEvent)]byte
}

func (a *answer) reset(now time.Time) {
	a.begin, a.last = now, time.Time{}
	a.length, a.events, a.first, a.opening, a.newline = 0, 0, 0, 0, false
	a.tail = [len(doneEvent)]byte{}
}

// take looks at the next bytes of the body.
func (a *answer) take(p []byte) {
	if len(p) == 0 {
		return
	}
	if a.text != nil {
		a.text.Write(p)
	}
	if a.length == 0 {
		a.opening = p[0]
	}
	a.length += len(p)
	if a.want.stream {
		a.count(p)
	}
	if n := len(p); n >= len(a.tail) {
		copy(a.tail[:], p[n-len(a.tail):])
	} else {
		copy(a.tail[:], a.tail[n:])
		copy(a.tail[len(a.tail)-n:], p)
	}
}

// count counts the events that end here: every blank line ends one.
func (a *answer) count(p []byte) {
	n := bytes.Count(p, []byte("\n\n"))
	if a.newline && p[0] == '\n' {
		n++
	}
	a.newline = p[len(p)-1] == '\n' && !bytes.HasSuffix(p, []byte("\n\n"))
	if n == 0 {
		return
	}
	now := time.Now()
	a.events += n
	if a.gaps != nil && !a.last.IsZero() {
		*a.gaps = append(*a.gaps, now.Sub(a.last))
	}
	a.last = now
	if a.first == 0 && a.events >= a.want.content {
		a.first = now.Sub(a.begin)
		if a.open != nil {
			a.open.Add(1)
		}
	}
}

// check tells what is wrong with the answer.
func (a *answer) check() error {
	switch w := a.want; {
	case w.stream && a.events != w.events:
		return fmt.Errorf("a stream of %d events came, not of %d", a.events, w.events)
	case w.stream && string(a.tail[:]) != doneEvent:
		return fmt.Errorf("a stream ended with %q", a.tail[:])
	case !w.stream && (a.length < w.length-idDigits || a.length > w.length+idDigits):
		return fmt.Errorf("an answer of %d bytes came, not of %d", a.length, w.length)
	case !w.stream && (a.opening != '{' || !bytes.HasSuffix(bytes.TrimSpace(a.tail[:]), []byte("}"))):
		return fmt.Errorf("an answer begins with %q and ends with %q: not a JSON object", a.opening, a.tail[:])
	}
	return nil
}

// learn makes of the upstream's own answer what every other one is held against.
func learn(c *conn, request []byte, stream bool) (*want, error) {
	a := answer{want: &want{stream: stream}, text: new(bytes.Buffer)}
	if err := c.exchange(request, &a); err != nil {
		return nil, err
	}
	w := &want{stream: stream, length: a.length, events: a.events}
	if stream {
		for i, event := range bytes.Split(a.text.Bytes(), []byte("\n\n")) {
			_, content, found := bytes.Cut(event, []byte(`"content":"`))
			if found && content[0] != '"' {
				w.content = i + 1
				break
			}
		}
		if w.content == 0 {
			return nil, fmt.Errorf("no event of the upstream's stream has content: %.300q", a.text.Bytes())
		}
	}
	a.want = w
	return w, a.check()
}
