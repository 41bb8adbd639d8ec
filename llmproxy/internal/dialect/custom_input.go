package dialect

import (
	"bytes"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A customReader takes the input of a custom tool out of the arguments of the function that stands for it, as they arrive:
// {"input":"…"}. A model that writes anything else means that to be the input.
type customReader struct {
	state customState
	held  []byte // what cannot be read yet: everything before the input, or an incomplete escape in it
}

type customState uint8

const (
	beforeInput customState = iota
	inInput
	afterInput
	otherArguments
)

// add adds a part of the arguments, and appends what it has of the input, as a raw string.
func (r *customReader) add(b, part []byte) []byte {
	switch r.state {
	case afterInput:
		return b
	case otherArguments:
		r.held = append(r.held, part...)
		return b
	}
	if len(r.held) > 0 {
		r.held = append(r.held, part...)
		part = r.held
	}
	if r.state == beforeInput {
		n, known := inputStart(part)
		switch {
		case !known:
			r.hold(part)
			return b
		case n == 0:
			r.state = otherArguments
			r.hold(part)
			return b
		}
		r.state, part = inInput, part[n:]
	}
	b, rest := r.read(b, part)
	r.hold(rest)
	return b
}

// hold keeps the rest of a part for the next one. It may be a part of what was kept before.
func (r *customReader) hold(rest []byte) { r.held = append(r.held[:0], rest...) }

// inputStart returns where the text of the input begins in the arguments, or zero if they begin with anything else. It returns false
// while that is not known.
func inputStart(arguments []byte) (n int, known bool) {
	for _, token := range [...]string{"{", `"` + customInput + `"`, ":", `"`} {
		for n < len(arguments) && (arguments[n] == ' ' || arguments[n] == '\n' || arguments[n] == '\r' || arguments[n] == '\t') {
			n++
		}
		for i := range len(token) {
			switch {
			case n == len(arguments):
				return 0, false
			case arguments[n] != token[i]:
				return 0, true
			}
			n++
		}
	}
	return n, true
}

// read appends the text up to its closing quote. It returns an escape that is not complete.
func (r *customReader) read(b, text []byte) (_, rest []byte) {
	for len(text) > 0 {
		n := 0
		for n < len(text) && text[n] != '"' && text[n] != '\\' && text[n] >= ' ' {
			n++
		}
		b, text = append(b, text[:n]...), text[n:]
		switch {
		case len(text) == 0:
			return b, nil
		case text[0] == '"':
			r.state = afterInput
			return b, nil
		case text[0] != '\\': // a model's mistake
			b, text = appendRaw(b, text[:1]), text[1:]
			continue
		}
		switch n = escapeLen(text); {
		case n == 0:
			return b, text
		case n == 2 && bytes.IndexByte([]byte(`"\/bfnrt`), text[1]) >= 0:
			b = append(b, text[:n]...)
		default:
			b = appendRaw(b, jsonspan.AppendUnescaped(nil, text[:n]))
		}
		text = text[n:]
	}
	return b, nil
}

// escapeLen returns the length of the escape with which a text begins, a pair of surrogates included, or zero if more must come.
func escapeLen(text []byte) int {
	switch {
	case len(text) < 2:
		return 0
	case text[1] != 'u':
		return 2
	case len(text) < 6:
		return 0
	case text[2]|' ' != 'd' || bytes.IndexByte([]byte("89abAB"), text[3]) < 0: // not the first half of a pair
		return 6
	case len(text) > 6 && text[6] != '\\' || len(text) > 7 && text[7] != 'u':
		return 6
	case len(text) < 12:
		return 0
	}
	return 12
}

// end appends what is left of the input.
func (r *customReader) end(b []byte) []byte {
	switch r.state {
	case inInput:
		return appendRaw(b, jsonspan.AppendUnescaped(nil, r.held))
	case beforeInput, otherArguments:
		if input := get(r.held, customInput); isText(input) {
			return append(b, input[1:len(input)-1]...)
		}
		return appendRaw(b, r.held)
	}
	return b
}

// appendRaw appends a text as a raw string.
func appendRaw(b, text []byte) []byte {
	at := len(b)
	b = jsonspan.AppendString(b, string(text))
	copy(b[at:], b[at+1:])
	return b[:len(b)-2]
}
