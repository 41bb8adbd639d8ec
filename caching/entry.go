package caching

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// A Form says what the body of an answer is.
type Form uint8

const (
	// Whole is a complete answer in one piece.
	Whole Form = iota + 1
	// Events is a stream of events.
	Events
	// Part is a part of an answer, such as one embedding of a batch.
	Part
)

// An Entry is a stored answer.
type Entry struct {
	Form        Form
	ContentType string
	Created     time.Time // to the millisecond
	TTL         time.Duration
	Target      string // that generated it
	Usage       tokens.Usage
	HasUsage    bool // whether the upstream reported it
	// Extra are the parts of the body that not every client gets, such as the stream events with the usage.
	Extra []Span
	Body  []byte

	source uint64 // the hash of the stored value; see decodedEntries
}

// Age returns how old the entry is.
func (e *Entry) Age(now time.Time) time.Duration { return max(now.Sub(e.Created), 0) }

// Fresh reports whether the entry has not expired.
func (e *Entry) Fresh(now time.Time) bool { return e.Age(now) < e.TTL }

// Pieces calls visit for each piece of the body, with the extra parts or without them.
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

// A marshaled entry begins with the version of this layout, flags, the form, and a checksum of everything.
// An entry of an unknown version, which a shared store may hold, is a miss.
const (
	layoutVersion = 4
	layoutZstd    = 3 // the previous version: its bodies are compressed with zstd
	checksumAt    = 3
	headerSize    = 7
)

const (
	flagCompressed = 1 << iota
	flagHasUsage
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum makes an entry that was cut or changed in a shared store a miss.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:checksumAt], castagnoli), castagnoli, b[headerSize:])
}

// compressAbove is the size of a body in bytes above which it is compressed.
const compressAbove = 1 << 10

// maxBody is the maximum size of a decompressed body in bytes.
const maxBody = 64 << 20

var errInvalidEntry = errors.New("invalid cache entry")

// Marshal encodes the entry for a store. Bodies above 1 KiB are compressed.
func (e *Entry) Marshal() []byte {
	compressed := false
	body := e.Body
	if len(body) > compressAbove {
		scratch := scratches.Get().(*[]byte)
		defer scratches.Put(scratch)
		if small := compress(body, scratch); len(small) < len(body) {
			body, compressed = small, true
		}
	}
	flags := byte(0)
	if compressed {
		flags |= flagCompressed
	}
	if e.HasUsage {
		flags |= flagHasUsage
	}
	b := make([]byte, 0, len(body)+len(e.ContentType)+len(e.Target)+12*(8+2*len(e.Extra)))
	b = append(b, layoutVersion, flags, byte(e.Form), 0, 0, 0, 0)
	b = binary.AppendVarint(b, e.Created.UnixMilli())
	b = binary.AppendVarint(b, e.TTL.Milliseconds())
	counts := e.Usage.Counts()
	b = binary.AppendUvarint(b, uint64(len(counts)))
	for _, n := range counts {
		b = binary.AppendVarint(b, *n)
	}
	for _, s := range []string{e.ContentType, e.Target} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Extra)))
	for _, s := range e.Extra {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(s.Start)), uint64(s.End))
	}
	b = append(b, body...)
	binary.BigEndian.PutUint32(b[checksumAt:], checksum(b))
	return b
}

// isUncompressed reports whether a value holds an uncompressed entry of that form.
func isUncompressed(value []byte, f Form) bool {
	return len(value) >= headerSize && value[1]&flagCompressed == 0 && Form(value[2]) == f
}

// UnmarshalEntry decodes what Marshal returned. An uncompressed body is a part of b, not a copy.
func UnmarshalEntry(b []byte) (*Entry, error) {
	if len(b) < headerSize || b[0] != layoutVersion && b[0] != layoutZstd || binary.BigEndian.Uint32(b[checksumAt:]) != checksum(b) {
		return nil, errInvalidEntry
	}
	e := &Entry{Form: Form(b[2]), HasUsage: b[1]&flagHasUsage != 0}
	compressed := b[1]&flagCompressed != 0
	r := entryReader{b: b[headerSize:]}
	e.Created = time.UnixMilli(r.varint())
	e.TTL = time.Duration(r.varint()) * time.Millisecond
	r.usage(&e.Usage, r.length())
	e.ContentType, e.Target = r.text(), r.text()
	n := r.length()
	for range min(n, len(r.b)) {
		e.Extra = append(e.Extra, Span{Start: r.length(), End: r.length()})
	}
	if r.invalid {
		return nil, errInvalidEntry
	}
	e.Body = r.b
	if compressed {
		var err error
		if e.Body, err = decompress(r.b, b[0]); err != nil {
			return nil, fmt.Errorf("decompressing a cache entry: %w", err)
		}
	}
	last := 0
	for _, s := range e.Extra {
		if s.Start < last || s.End < s.Start || s.End > len(e.Body) {
			return nil, errInvalidEntry
		}
		last = s.End
	}
	return e, nil
}

// An entryReader reads numbers and texts from the start of b, and notes whether one of them was invalid.
type entryReader struct {
	b       []byte
	invalid bool
}

func (r *entryReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.invalid = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// usage reads the first n counts of a usage. More of them than are known come from a newer version, and are skipped.
func (r *entryReader) usage(u *tokens.Usage, n int) {
	counts := u.Counts()
	for i := range min(n, len(r.b)) {
		if v := r.varint(); i < len(counts) {
			*counts[i] = v
		}
	}
}

func (r *entryReader) length() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > maxBody {
		r.invalid = true
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *entryReader) text() string {
	n := r.length()
	if n > len(r.b) {
		r.invalid = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// maxScratch is how much memory scratches keep for one answer, in bytes.
const maxScratch = 256 << 10

// scratches have the memory that bodies are compressed to. Only then their size is known, and they are copied.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

// compress compresses a body with S2. The result may be in scratch. Zstd at its fastest level makes English answers a quarter smaller, and streams a
// third, but takes four to six times as long: 25 µs for an answer of 4 KB, and 475 µs for one of 100 KB, which is as much as all else that such a
// request takes.
func compress(body []byte, scratch *[]byte) []byte {
	small := s2.Encode(*scratch, body)
	if cap(small) <= maxScratch {
		*scratch = small[:0]
	}
	return small
}

// zstdDecoders have decoders for entries of the previous version.
var zstdDecoders = sync.Pool{New: func() any {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBody))
	if err != nil {
		panic(err) // the options are constant and valid
	}
	return r
}}

// decompress decompresses the body of an entry of that version.
func decompress(compressed []byte, version byte) ([]byte, error) {
	if version == layoutZstd {
		r := zstdDecoders.Get().(*zstd.Decoder)
		defer zstdDecoders.Put(r)
		return r.DecodeAll(compressed, nil)
	}
	if n, err := s2.DecodedLen(compressed); err != nil || n > maxBody {
		return nil, errInvalidEntry
	}
	return s2.Decode(nil, compressed)
}
