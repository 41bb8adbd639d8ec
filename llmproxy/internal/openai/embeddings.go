package openai

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// EmbeddingInputs splits the input of an embeddings request into its items: the elements of a list of texts or of token lists. A
// single text or token list is one item. It returns false for anything else.
func EmbeddingInputs(input []byte) (items [][]byte, ok bool) {
	if len(input) > 0 && input[0] == '"' {
		return [][]byte{input}, true
	}
	tokens := 0
	ok = eachElement(input, func(item []byte) bool {
		switch item[0] {
		case '"', '[':
			items = append(items, item)
		case '{', 't', 'f', 'n':
			return false
		default:
			tokens++
		}
		return true
	})
	switch {
	case !ok || tokens > 0 && len(items) > 0 || tokens+len(items) == 0:
		return nil, false
	case tokens > 0:
		return [][]byte{input}, true
	}
	return items, true
}

// Embeddings is the answer to an embeddings request, in parts.
type Embeddings struct {
	// Envelope has the members except data and usage, with a comma after each.
	Envelope []byte
	// Items are the elements of data in the order of their index. Each has the members of an object except the index, with a comma
	// before each.
	Items    [][]byte
	Usage    tokens.Usage
	HasUsage bool
}

// ParseEmbeddings splits an answer. It returns false unless the answer has exactly n embeddings and no error. The result does not
// refer to the body.
func ParseEmbeddings(body []byte, n int) (*Embeddings, bool) {
	e := &Embeddings{Items: make([][]byte, n)}
	filled := 0
	ok := eachMember(body, func(key, value []byte) bool {
		switch string(key) {
		case "data":
			return eachElement(value, func(item []byte) bool { filled++; return e.addItem(item) })
		case "usage":
			e.Usage, e.HasUsage = ParseUsage(value)
		case "error":
			return jsonspan.IsNull(value)
		default:
			e.Envelope = append(appendMember(e.Envelope, key, value), ',')
		}
		return true
	})
	return e, ok && filled == n
}

func (e *Embeddings) addItem(item []byte) bool {
	index, ok := indexOf(item, -1)
	if !ok || index < 0 || index >= len(e.Items) || e.Items[index] != nil {
		return false
	}
	b, found := make([]byte, 0, len(item)), false
	ok = eachMember(item, func(key, value []byte) bool {
		if string(key) != "index" {
			found = found || string(key) == "embedding" && !isEmpty(value)
			b = appendMember(append(b, ','), key, value)
		}
		return true
	})
	e.Items[index] = b
	return ok && found
}

// AppendJSON appends the whole answer.
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
		b = append(strconv.AppendInt(append(b, `,"total_tokens":`...), e.Usage.Total(), 10), '}')
	}
	return append(b, '}')
}

// An EmbeddingEncoder converts the lists of numbers in an answer with embeddings into base64 of little-endian float32s, for servers
// that ignore "encoding_format" (Ollama 0.11.4): OpenAI's Node SDK decodes garbage from numbers. Everything else stays as it is,
// including base64. The zero value is ready for the beginning of an answer, which comes in pieces of any size.
type EmbeddingEncoder struct {
	state   encoderState
	matched int    // bytes of the key found so far
	number  []byte // the current number, as far as it was received, if it was not received as a whole
	bytes   []byte // of floats, not encoded yet
}

type encoderState uint8

const (
	beforeKey encoderState = iota // looking for the key
	afterKey                      // a colon must follow
	afterColon
	afterBracket // before the first element
	inNumbers
)

// ErrInvalidEmbedding means that a list contains something other than numbers.
var ErrInvalidEmbedding = errors.New("the embedding is not a list of numbers")

const (
	embeddingKey    = `"embedding"`
	maxNumberLength = 64 // bytes; a float64 needs 24
	// maxWaiting is how many bytes of floats wait to be encoded together. A multiple of three makes whole groups of four characters.
	maxWaiting = 3 << 10
)

// Append appends the next piece of the answer, converted.
func (e *EmbeddingEncoder) Append(dst, piece []byte) ([]byte, error) {
	for i := 0; i < len(piece); i++ {
		c := piece[i]
		switch {
		case e.state == beforeKey:
			from := i
			i = e.findKey(piece, i)
			dst = append(dst, piece[from:min(i+1, len(piece))]...)
			continue
		case c == ' ' || c == '\n' || c == '\r' || c == '\t':
			if e.state < afterBracket {
				dst = append(dst, c)
			}
			continue
		case e.state == afterBracket && (c == '-' || c >= '0' && c <= '9'):
			e.state = inNumbers
			dst = append(dst, '"')
			if e.bytes == nil {
				e.bytes = make([]byte, 0, maxWaiting)
			}
		case e.state < inNumbers:
			dst = e.step(dst, c)
			continue
		}
		if len(e.number) == 0 {
			var n int
			if dst, n = e.addNumbers(dst, piece[i:]); n > 0 {
				i += n - 1
				continue
			}
		}
		var err error
		if dst, err = e.addByte(dst, c); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// findKey returns the index of the byte that completes the key, or the length of the piece.
func (e *EmbeddingEncoder) findKey(piece []byte, i int) int {
	for ; i < len(piece); i++ {
		if e.matched == 0 {
			quote := bytes.IndexByte(piece[i:], '"')
			if quote < 0 {
				return len(piece)
			}
			i += quote
		}
		switch c := piece[i]; {
		case c == embeddingKey[e.matched]:
			e.matched++
		case c == '"':
			e.matched = 1
		default:
			e.matched = 0
		}
		if e.matched == len(embeddingKey) {
			e.state, e.matched = afterKey, 0
			return i
		}
	}
	return i
}

// step goes from the key to the first number, or back to looking for the key: "object":"embedding" is not the key.
func (e *EmbeddingEncoder) step(dst []byte, c byte) []byte {
	switch {
	case e.state == afterKey && c == ':':
		e.state = afterColon
	case e.state == afterColon && c == '[':
		e.state = afterBracket
		return dst // the bracket is written once it is known whether numbers follow
	case e.state == afterBracket:
		e.state = beforeKey
		dst = append(dst, '[')
	default:
		e.state = beforeKey
		if c == '"' {
			e.matched = 1
		}
	}
	return append(dst, c)
}

// addNumbers adds the numbers that a piece of a list begins with, each with the comma or bracket after it. It returns the length of those that
// it has added, and leaves all that is unusual to addByte.
func (e *EmbeddingEncoder) addNumbers(dst, piece []byte) (_ []byte, n int) {
	for e.state == inNumbers {
		var length int
		if e.bytes, length = usualFloats(e.bytes, piece[n:]); len(e.bytes) == maxWaiting {
			dst = e.encode(dst)
		}
		n += length
		f, size, ok := parseFloat32(piece[n:])
		end := n + size
		if !ok || size > maxNumberLength || end == len(piece) || piece[end] != ',' && piece[end] != ']' {
			break
		}
		dst = e.addFloat(dst, f, piece[end])
		for n = end + 1; n < len(piece) && piece[n] == ' ' && e.state == inNumbers; {
			n++
		}
	}
	return dst, n
}

// addByte adds a byte of a list of numbers.
func (e *EmbeddingEncoder) addByte(dst []byte, c byte) ([]byte, error) {
	if c != ',' && c != ']' {
		if len(e.number) == maxNumberLength {
			return dst, ErrInvalidEmbedding
		}
		e.number = append(e.number, c)
		return dst, nil
	}
	f, err := strconv.ParseFloat(string(e.number), 32)
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrInvalidEmbedding, err)
	}
	e.number = e.number[:0]
	return e.addFloat(dst, float32(f), c), nil
}

// addFloat adds a number that ends with a comma or a bracket.
func (e *EmbeddingEncoder) addFloat(dst []byte, f float32, end byte) []byte {
	e.bytes = binary.LittleEndian.AppendUint32(e.bytes, math.Float32bits(f))
	if end == ']' {
		e.state = beforeKey
		return append(e.encode(dst), '"')
	}
	if len(e.bytes) == maxWaiting {
		return e.encode(dst)
	}
	return dst
}

// encode encodes the floats that wait.
func (e *EmbeddingEncoder) encode(dst []byte) []byte {
	dst = appendBase64(dst, e.bytes)
	e.bytes = e.bytes[:0]
	return dst
}
