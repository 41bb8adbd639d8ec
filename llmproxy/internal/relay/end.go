package relay

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A jsonEnd finds the end of an object or an array in a body that arrives in pieces. It does not validate.
type jsonEnd struct {
	depth             int
	inString, escaped bool
	found             bool // the first object or array has been closed
}

// add reads the next piece.
func (e *jsonEnd) add(p []byte) {
	for i := 0; i < len(p) && !e.found; i++ {
		if e.inString {
			i, e.escaped = openai.RestOfString(p, i, e.escaped)
			e.inString = i == len(p)
			continue
		}
		switch p[i] {
		case '"':
			e.inString = true
		case '{', '[':
			e.depth++
		case '}', ']':
			e.depth--
			e.found = e.depth <= 0
		}
	}
}

// An openEnd is the rest of a body whose length is unknown. It ends soon after the answer.
type openEnd struct {
	src      io.Reader
	scanner  *openai.AnswerScanner // of what was read before
	progress Progress
	ending   bool // progress knows
}

// Read implements io.Reader.
func (b *openEnd) Read(p []byte) (int, error) {
	over := b.scanner.Complete()
	if over && b.progress != nil && !b.ending {
		b.ending = true
		b.progress.Ending(endGrace)
	}
	n, err := b.src.Read(p)
	if err != nil && over {
		err = io.EOF
	}
	return n, err
}

// An openJSON is the body of an answer whose length is unknown. If it does not end soon after the JSON text, openJSON closes it: some
// servers, and proxies in front of them, keep it open. A body that does not begin as JSON seems to end there, because the caller must
// look at it.
type openJSON struct {
	res    *http.Response
	end    jsonEnd
	begun  bool // the first byte other than white space has been read
	isJSON bool // it is that of an object or an array
	timer  *time.Timer
}

// Read implements io.Reader.
func (o *openJSON) Read(p []byte) (int, error) {
	switch {
	case o.begun && !o.isJSON:
		return 0, io.EOF
	case o.end.found && o.timer == nil:
		body := o.res.Body // the answer may be closed when the timer fires
		o.timer = time.AfterFunc(endGrace, func() { body.Close() })
	}
	n, err := o.res.Body.Read(p)
	if !o.begun {
		o.begun, o.isJSON = len(bytes.TrimSpace(p[:n])) > 0, beginsAsJSON(p[:n])
	}
	o.end.add(p[:n])
	if err != nil && o.end.found && o.isJSON {
		err = io.EOF
	}
	return n, err
}

// stop stops the timer.
func (o *openJSON) stop() {
	if o.timer != nil {
		o.timer.Stop()
	}
}

// beginsAsJSON reports whether the first byte other than white space is that of an object or an array.
func beginsAsJSON(b []byte) bool {
	for _, first := range b {
		if first > ' ' {
			return first == '{' || first == '['
		}
	}
	return false
}
