package http1

import (
	"errors"
	"io"
)

// A chunked decodes a chunked body (RFC 9112 §7.1). It reads into the caller's buffer and removes the framing there, so that no
// buffer is needed in between, and the caller gets at once all that has arrived, not only what fits the 4 KiB of net/http's
// reader. It accepts and rejects the same bodies as net/http.
type chunked struct {
	src   io.Reader
	state chunkState
	left  uint64 // of the chunk's data
	// digits counts the digits of the chunk's length so far, because leading zeros are bounded, too.
	digits int
	// line is the length of the current line of framing so far; a trailer counts as one line.
	line int
	// overhead is by how many bytes the framing exceeds what the data justifies.
	overhead int64
	// surplus means that bytes followed the body.
	surplus bool
}

// A chunkState is what the next byte belongs to.
type chunkState uint8

const (
	chunkLength chunkState = iota
	lengthPadding
	chunkExtension
	lengthLF
	chunkData
	dataCR
	dataLF
	trailerStart
	trailerName
	trailerValue
	trailerLF
	lastLF
	chunksEnd
)

const (
	// maxChunkLine bounds a chunk's length with its extensions, and the trailer, which is ignored.
	maxChunkLine = 4 << 10
	// maxChunk is where net/http's count of the overhead overflows.
	maxChunk = 1 << 61
	// maxOverhead bounds the framing in excess of 16 bytes a chunk and twice its data, as in net/http.
	maxOverhead = 16 << 10
)

var (
	errChunk     = errors.New("malformed chunked encoding")
	errChunkSize = errors.New("chunk length overflows")
	errTrailer   = errors.New("malformed trailer")
	errChunkLine = errors.New("line of the chunked encoding too long")
	errOverhead  = errors.New("chunked encoding contains too much non-data")
)

// Read implements io.Reader. It returns zero bytes only with an error.
func (r *chunked) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if r.state == chunksEnd {
			return 0, io.EOF
		}
		got, err := r.src.Read(p)
		n, bad := r.decode(p[:got])
		switch {
		case bad != nil:
			return n, bad
		case r.state == chunksEnd:
			return n, io.EOF
		case err == io.EOF:
			return n, io.ErrUnexpectedEOF
		case n > 0 || err != nil:
			return n, err
		}
	}
	return 0, nil
}

// decode moves the data in p to its front and returns its length.
func (r *chunked) decode(p []byte) (n int, err error) {
	for i := 0; i < len(p); {
		switch r.state {
		case chunkData:
			part := p[i : i+int(min(r.left, uint64(len(p)-i)))]
			n += copy(p[n:], part)
			i += len(part)
			if r.left -= uint64(len(part)); r.left == 0 {
				r.state = dataCR
			}
		case chunksEnd:
			r.surplus = true
			return n, nil
		default:
			if n := r.fastFraming(p[i:]); n > 0 {
				i += n
				continue
			}
			if err := r.framing(p[i]); err != nil {
				return n, err
			}
			i++
		}
	}
	return n, nil
}

// fastFraming decodes the framing between two chunks if it is complete and has nothing but a length, which is the usual case, and
// returns its size. It returns zero to leave the bytes to framing.
func (r *chunked) fastFraming(p []byte) int {
	if r.state == dataCR && len(p) >= 2 && p[0] == '\r' && p[1] == '\n' {
		r.line, r.digits, r.state = 0, 0, chunkLength
		return 2
	}
	if r.state != chunkLength || r.line > 0 {
		return 0
	}
	const maxDigits = 7 // longer lengths are left to framing
	left := uint64(0)
	for i, b := range p[:min(len(p), maxDigits+1)] {
		if digit, ok := hex(b); ok {
			left = left<<4 | uint64(digit)
			continue
		}
		if b != '\r' || left == 0 || i+1 == len(p) || p[i+1] != '\n' {
			return 0
		}
		r.left, r.state = left, chunkData
		r.overhead = max(r.overhead+int64(i+2)-16-2*int64(left), 0)
		return i + 2
	}
	return 0
}

// framing decodes one byte of framing.
func (r *chunked) framing(b byte) error {
	if r.line++; r.line > maxChunkLine {
		return errChunkLine
	}
	switch r.state {
	case chunkLength:
		return r.length(b)
	case lengthPadding:
		if b == ' ' || b == '\t' {
			return nil
		}
		return r.expect(b, '\r', lengthLF)
	case chunkExtension:
		return r.skip(b, lengthLF)
	case lengthLF:
		return r.begin(b)
	case dataCR:
		return r.expect(b, '\r', dataLF)
	case dataLF:
		r.line, r.digits = 0, 0
		return r.expect(b, '\n', chunkLength)
	case trailerStart:
		return r.trailer(b)
	case trailerName:
		return r.name(b)
	case trailerValue:
		return r.value(b)
	case trailerLF:
		return r.expect(b, '\n', trailerStart)
	}
	return r.expect(b, '\n', chunksEnd)
}

func (r *chunked) expect(b, want byte, then chunkState) error {
	if b != want {
		return errChunk
	}
	r.state = then
	return nil
}

// skip ignores a byte of a line. A line feed alone does not end the line: servers that accept it would see other chunks.
func (r *chunked) skip(b byte, then chunkState) error {
	switch b {
	case '\r':
		r.state = then
	case '\n':
		return errChunk
	}
	return nil
}

// trailer decodes the first byte of a line of the trailer, which is ignored if it is well-formed. A line that begins with white space
// continues the one before.
func (r *chunked) trailer(b byte) error {
	switch {
	case b == '\r':
		r.state = lastLF
		return nil
	case b == ' ' || b == '\t':
		if r.line == 1 { // no line precedes it
			return errTrailer
		}
		r.state = trailerValue
		return nil
	case b == ':':
		return errTrailer
	}
	r.state = trailerName
	return r.name(b)
}

// name decodes a byte of a field's name. Like net/http, it accepts spaces in it.
func (r *chunked) name(b byte) error {
	switch {
	case b == ':':
		r.state = trailerValue
	case b != ' ' && !tokenByte[b]:
		return errTrailer
	}
	return nil
}

// value decodes a byte of a field's value.
func (r *chunked) value(b byte) error {
	switch {
	case b == '\r':
		r.state = trailerLF
	case b < ' ' && b != '\t' || b == 0x7f:
		return errTrailer
	}
	return nil
}

// length decodes a digit of the chunk's length, or what ends it.
func (r *chunked) length(b byte) error {
	if digit, ok := hex(b); ok {
		r.left = r.left<<4 | uint64(digit)
		if r.digits++; r.digits > 16 || r.left > maxChunk {
			return errChunkSize
		}
		return nil
	}
	if r.digits == 0 {
		return errChunk
	}
	switch b {
	case ';':
		r.state = chunkExtension
	case ' ', '\t':
		r.state = lengthPadding
	case '\r':
		r.state = lengthLF
	default:
		return errChunk
	}
	return nil
}

// begin decodes the end of the line with the chunk's length.
func (r *chunked) begin(b byte) error {
	then := chunkData
	if r.left == 0 {
		then = trailerStart
	}
	if r.overhead = max(r.overhead+int64(r.line)-16-2*int64(r.left), 0); r.overhead > maxOverhead {
		return errOverhead
	}
	r.line = 0
	return r.expect(b, '\n', then)
}

func hex(b byte) (digit byte, ok bool) {
	switch {
	case '0' <= b && b <= '9':
		return b - '0', true
	case 'a' <= b && b <= 'f':
		return b - 'a' + 10, true
	case 'A' <= b && b <= 'F':
		return b - 'A' + 10, true
	}
	return 0, false
}
