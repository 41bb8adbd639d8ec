package openai

import (
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// EmbeddingInputs takes the input of a request for embeddings apart: a list of texts or of lists of tokens into its items.
// One text, or one list of tokens, is one item. False if it is anything else.
func EmbeddingInputs(input []byte) (items [][]byte, list, ok bool) {
	if len(input) > 0 && input[0] == '"' {
		return [][]byte{input}, false, true
	}
	ok = true
	tokens := 0
	err := jsonspan.EachElement(input, func(item []byte) bool {
		switch item[0] {
		case '"', '[':
			items = append(items, item)
		case '{', 't', 'f', 'n':
			ok = false
		default:
			tokens++
		}
		return ok
	})
	switch {
	case err != nil || !ok || tokens > 0 && len(items) > 0 || tokens+len(items) == 0:
		return nil, false, false
	case tokens > 0:
		return [][]byte{input}, false, true
	}
	return items, true, true
}

// Embeddings are an answer of the embeddings endpoint, taken apart.
type Embeddings struct {
	// Envelope are its members but for data and usage, each with a comma behind it.
	Envelope []byte
	// Items are the elements of data in the order of their index, without their index: each the members of an object, with a
	// comma before each of them.
	Items    [][]byte
	Usage    Usage
	HasUsage bool
}

// ParseEmbeddings takes an answer apart that must have n items. What it gives lies in buffers of its own.
func ParseEmbeddings(body []byte, n int) (*Embeddings, bool) {
	e := &Embeddings{Items: make([][]byte, n)}
	ok, filled := true, 0
	err := jsonspan.EachMember(body, func(key, value []byte) bool {
		switch string(key) {
		case "data":
			err := jsonspan.EachElement(value, func(item []byte) bool {
				ok = ok && e.take(item)
				filled++
				return ok
			})
			ok = ok && err == nil
		case "usage":
			e.Usage, e.HasUsage = ParseUsage(value)
		case "error":
			ok = ok && jsonspan.IsNull(value)
		default:
			e.Envelope = appendMember(e.Envelope, key, value)
		}
		return ok
	})
	return e, err == nil && ok && filled == n
}

func (e *Embeddings) take(item []byte) bool {
	index, ok := indexOf(item)
	if !ok || index >= len(e.Items) || e.Items[index] != nil {
		return false
	}
	b, found := make([]byte, 0, len(item)), false
	err := jsonspan.EachMember(item, func(key, value []byte) bool {
		if string(key) == "index" {
			return true
		}
		found = found || string(key) == "embedding" && !empty(value)
		b = append(append(append(b, `,"`...), key...), `":`...)
		b = append(b, value...)
		return true
	})
	e.Items[index] = b
	return err == nil && found
}

// AppendJSON appends the answer.
func (e *Embeddings) AppendJSON(b []byte) []byte {
	b = append(append(append(b, '{'), e.Envelope...), `"data":[`...)
	for i, item := range e.Items {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"index":`...), int64(i), 10)
		b = append(append(b, item...), '}')
	}
	b = append(b, ']')
	if e.HasUsage {
		b = strconv.AppendInt(append(b, `,"usage":{"prompt_tokens":`...), e.Usage.Input, 10)
		b = append(strconv.AppendInt(append(b, `,"total_tokens":`...), e.Usage.Input+e.Usage.Output, 10), '}')
	}
	return append(b, '}')
}

// JoinArray makes one array of values.
func JoinArray(values [][]byte) []byte {
	b := []byte{'['}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, v...)
	}
	return append(b, ']')
}
