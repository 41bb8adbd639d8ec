package caching

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// A Form is what an answer's bytes are.
type Form uint8

const (
	// Whole is an answer in one piece.
	Whole Form = iota + 1
	// Events is a stream of events.
	Events
	// Part is a piece of an answer, such as one embedding of many.
	Part
)

// Tokens is what an answer cost when it was generated.
type Tokens struct{ Input, Output, Cached, Reasoning int64 }

// An Entry is an answer that is kept.
type Entry struct {
	Form        Form
	ContentType string
	Created     time.Time // to the millisecond
	TTL         time.Duration
	Target      string // what generated it
	Tokens      Tokens
	Counted     bool // the tokens are known
	// Extra are the parts of the body that not every client asked for: the events with the usage.
	Extra []Span
	Body  []byte

	origin uint64 // what the store gave for it, for Ready
}

// The layout of an entry, so that one of another layout, in a store that is shared, is a miss: layout, flags, form, a checksum of all
// but the layout, and the rest.
const layout = 2

// headSize is the size of what stands before the rest, sumAt where the checksum does.
const headSize, sumAt = 7, 3

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of an entry: what was cut or changed in a store that others can write to is a miss.
func sum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[1:sumAt], castagnoli), castagnoli, b[headSize:])
}

const (
	flagPacked = 1 << iota
	flagCounted
)

// packAbove is the size from which a body is compressed, in bytes.
const packAbove = 1 << 10

// maxBody bounds what a body may unpack to, in bytes.
const maxBody = 64 << 20

var errEntry = errors.New("not an entry of this layout")

// Marshal gives the entry as bytes for a store; bodies above 1 KiB are compressed.
func (e *Entry) Marshal() []byte {
	packed := false
	body := e.Body
	if len(body) > packAbove {
		if small := pack(body); len(small) < len(body) {
			body, packed = small, true
		}
	}
	flags := byte(0)
	if packed {
		flags |= flagPacked
	}
	if e.Counted {
		flags |= flagCounted
	}
	b := make([]byte, 0, len(body)+len(e.ContentType)+len(e.Target)+12*(8+2*len(e.Extra)))
	b = append(b, layout, flags, byte(e.Form), 0, 0, 0, 0)
	b = binary.AppendVarint(b, e.Created.UnixMilli())
	b = binary.AppendVarint(b, e.TTL.Milliseconds())
	for _, n := range []int64{e.Tokens.Input, e.Tokens.Output, e.Tokens.Cached, e.Tokens.Reasoning} {
		b = binary.AppendVarint(b, n)
	}
	for _, s := range []string{e.ContentType, e.Target} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Extra)))
	for _, s := range e.Extra {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(s.Start)), uint64(s.End))
	}
	b = append(b, body...)
	binary.BigEndian.PutUint32(b[sumAt:], sum(b))
	return b
}

// isAs tells whether a value holds an entry of that form with its body as it is: to read it takes no work.
func isAs(value []byte, want Form) bool {
	return len(value) >= headSize && value[1]&flagPacked == 0 && Form(value[2]) == want
}

// UnmarshalEntry reads what Marshal gave. A body that was not compressed lies in the bytes given.
func UnmarshalEntry(b []byte) (*Entry, error) {
	if len(b) < headSize || b[0] != layout || binary.BigEndian.Uint32(b[sumAt:]) != sum(b) {
		return nil, errEntry
	}
	e := &Entry{Form: Form(b[2]), Counted: b[1]&flagCounted != 0}
	packed := b[1]&flagPacked != 0
	r := entryReader{b: b[headSize:]}
	e.Created = time.UnixMilli(r.varint())
	e.TTL = time.Duration(r.varint()) * time.Millisecond
	e.Tokens = Tokens{r.varint(), r.varint(), r.varint(), r.varint()}
	e.ContentType, e.Target = r.text(), r.text()
	n := r.length()
	for range min(n, len(r.b)) {
		e.Extra = append(e.Extra, Span{Start: r.length(), End: r.length()})
	}
	if r.bad {
		return nil, errEntry
	}
	e.Body = r.b
	if packed {
		var err error
		if e.Body, err = unpack(r.b); err != nil {
			return nil, err
		}
	}
	last := 0
	for _, s := range e.Extra {
		if s.Start < last || s.End < s.Start || s.End > len(e.Body) {
			return nil, errEntry
		}
		last = s.End
	}
	return e, nil
}

// An entryReader reads numbers and texts; bad tells that one was none.
type entryReader struct {
	b   []byte
	bad bool
}

func (r *entryReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *entryReader) length() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > maxBody {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *entryReader) text() string {
	n := r.length()
	if n > len(r.b) {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// Age is how old the entry is.
func (e *Entry) Age(now time.Time) time.Duration { return max(now.Sub(e.Created), 0) }

// Fresh tells whether the entry is still to be given.
func (e *Entry) Fresh(now time.Time) bool { return e.Age(now) < e.TTL }

// Pieces visits the body piece by piece, its extra parts only if they are wanted.
func (e *Entry) Pieces(extra bool, visit func([]byte)) {
	from := 0
	if !extra {
		for _, s := range e.Extra {
			if s.Start > from {
				visit(e.Body[from:s.Start])
			}
			from = s.End
		}
	}
	if from < len(e.Body) {
		visit(e.Body[from:])
	}
}
