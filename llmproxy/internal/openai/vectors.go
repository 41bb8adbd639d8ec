package openai

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// WantsBase64 reports whether a request for embeddings asks for base64 in place of lists of numbers. OpenAI's SDKs for
// Python and Node do so by themselves.
func (h *Head) WantsBase64() bool {
	value, ok := h.Get("encoding_format")
	return ok && jsonspan.Is(value, "base64")
}

// Vectors turns the lists of numbers in an answer with embeddings into base64 of little-endian float32s, for servers that
// ignore "encoding_format" (Ollama 0.11.4): OpenAI's Node SDK reads garbage out of numbers. All else stays as it is, base64
// too. The zero Vectors is at the beginning of an answer, which it takes in pieces of any size.
type Vectors struct {
	state   vectorState
	matched int    // bytes of the key that were seen
	number  []byte // the number at hand
	bytes   []byte // of floats, less than the three that make four characters
}

type vectorState uint8

const (
	outside  vectorState = iota // looking for the key
	afterKey                    // which was seen; a colon must follow
	afterColon
	opening // inside of a bracket, before the first element
	numbers
)

// ErrNoVector says that a list is not one of numbers.
var ErrNoVector = errors.New("the embedding is not a list of numbers")

const (
	vectorKey = `"embedding"`
	maxNumber = 64 // bytes; a float64 needs 24
)

// Append appends the next piece of the answer, turned.
func (v *Vectors) Append(dst, piece []byte) ([]byte, error) {
	for i := 0; i < len(piece); i++ {
		c := piece[i]
		switch {
		case v.state == outside:
			from := i
			i = v.find(piece, i)
			dst = append(dst, piece[from:min(i+1, len(piece))]...)
			continue
		case c == ' ' || c == '\n' || c == '\r' || c == '\t':
			if v.state < opening {
				dst = append(dst, c)
			}
			continue
		case v.state == opening && (c == '-' || c >= '0' && c <= '9'):
			v.state = numbers
			dst = append(dst, '"')
		case v.state < numbers:
			dst = v.step(dst, c)
			continue
		}
		var err error
		if dst, err = v.take(dst, c); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// find gives the index of the byte that completes the key, or the piece's length.
func (v *Vectors) find(piece []byte, i int) int {
	for ; i < len(piece); i++ {
		if v.matched == 0 {
			quote := bytes.IndexByte(piece[i:], '"')
			if quote < 0 {
				return len(piece)
			}
			i += quote
		}
		switch c := piece[i]; {
		case c == vectorKey[v.matched]:
			v.matched++
		case c == '"':
			v.matched = 1
		default:
			v.matched = 0
		}
		if v.matched == len(vectorKey) {
			v.state, v.matched = afterKey, 0
			return i
		}
	}
	return i
}

// step goes from the key to the first number, or back to looking for the key: "object":"embedding" is none.
func (v *Vectors) step(dst []byte, c byte) []byte {
	switch {
	case v.state == afterKey && c == ':':
		v.state = afterColon
	case v.state == afterColon && c == '[':
		v.state = opening
		return dst // written once it is known whether numbers follow
	case v.state == opening:
		v.state = outside
		dst = append(dst, '[')
	default:
		v.state = outside
		if c == '"' {
			v.matched = 1
		}
	}
	return append(dst, c)
}

// take takes a byte of the list of numbers.
func (v *Vectors) take(dst []byte, c byte) ([]byte, error) {
	if c != ',' && c != ']' {
		if len(v.number) == maxNumber {
			return dst, ErrNoVector
		}
		v.number = append(v.number, c)
		return dst, nil
	}
	f, err := strconv.ParseFloat(string(v.number), 32)
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrNoVector, err)
	}
	v.number = v.number[:0]
	v.bytes = binary.LittleEndian.AppendUint32(v.bytes, math.Float32bits(float32(f)))
	whole := len(v.bytes) / 3 * 3
	if c == ']' {
		whole = len(v.bytes)
	}
	dst = base64.StdEncoding.AppendEncode(dst, v.bytes[:whole])
	v.bytes = append(v.bytes[:0], v.bytes[whole:]...)
	if c == ']' {
		v.state = outside
		dst = append(dst, '"')
	}
	return dst, nil
}
