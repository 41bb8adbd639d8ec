package dialect

import (
	"cmp"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A streamedCall is a tool call of the stream.
type streamedCall struct {
	index   int
	id      string
	name    string
	pending []byte   // arguments that came while something else was open, raw
	extra   []byte   // its extra_content, raw
	closed  bool     // it has been open, and nothing can be added
	json    progress // of the arguments
}

// streamedCalls are the tool calls of a stream that has one thing open at a time.
type streamedCalls []*streamedCall

// of returns the call that a part belongs to. Without an index, a new ID or name begins a new call, and so does a new ID with a name
// after a complete call: old versions of Ollama sent all calls with index 0.
func (l *streamedCalls) of(index int, id, name string) *streamedCall {
	var c *streamedCall
	for _, known := range *l { // the last one that it can be
		if index < 0 && id != "" && known.id == id {
			return known
		}
		if index < 0 || known.index == index {
			c = known
		}
	}
	if c != nil {
		switch another := id != "" && c.id != "" && c.id != id; {
		case index < 0 && (another || name != "" && (id == "" || c.id == "") && c.name != ""):
			c = nil
		case another && name != "" && c.name != "" && (c.json.complete() || c.closed):
			c = nil
		}
	}
	if c == nil {
		if index < 0 {
			index = len(*l)
		}
		c = &streamedCall{index: index}
		*l = append(*l, c)
	}
	c.id, c.name = cmp.Or(c.id, id), cmp.Or(c.name, name)
	return c
}

// wait reports whether a call waits to be opened.
func (l streamedCalls) wait() bool {
	return slices.ContainsFunc(l, func(c *streamedCall) bool { return !c.closed && c.name != "" })
}

// rawArguments returns the arguments in a part of a call as a raw string. Some servers send the object itself.
func rawArguments(arguments []byte) []byte {
	if len(arguments) > 0 && arguments[0] == '{' {
		quoted := jsonspan.AppendString(nil, string(arguments))
		return quoted[1 : len(quoted)-1]
	}
	raw, _ := jsonspan.RawString(arguments)
	return raw
}

// A progress follows the arguments of a call as they arrive, to know when they are complete.
type progress struct {
	depth           int
	quoted, escaped bool
	begun           bool
}

// add adds a part of the arguments.
func (p *progress) add(text []byte) {
	for _, c := range text {
		switch {
		case p.escaped:
			p.escaped = false
		case c == '\\':
			p.escaped = p.quoted
		case c == '"':
			p.quoted = !p.quoted
		case p.quoted:
		case c == '{' || c == '[':
			p.depth++
			p.begun = true
		case c == '}' || c == ']':
			p.depth--
		}
	}
}

func (p *progress) complete() bool { return p.begun && p.depth <= 0 && !p.quoted }
