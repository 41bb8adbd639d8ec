package reqbody

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A compressed body is unpacked only when all of it has arrived, so that a slow client does not hold the memory that a decoder takes.

// contentCoding returns the Content-Encoding of a request, or "" without one.
func contentCoding(r *http.Request) string {
	if r.Header["Content-Encoding"] == nil {
		return ""
	}
	coding := strings.ToLower(r.Header.Get("Content-Encoding"))
	if coding == "identity" {
		return ""
	}
	return coding
}

// knownCoding reports whether a Content-Encoding can be unpacked. "" stands for none.
func knownCoding(coding string) bool {
	switch coding {
	case "", "gzip", "x-gzip", "zstd": // Codex sends zstd
		return true
	}
	return false
}

// A packed body can be unpacked. Head is its beginning, at least the header of its coding.
type packed struct {
	head   []byte
	body   io.Reader // all of it
	coding string
}

// maxPackedHeader is the maximum size of a header in bytes.
const maxPackedHeader = zstd.HeaderMaxSize

// unpack calls read with the decompressed body, which fails with an http.MaxBytesError beyond the limit.
func (p packed) unpack(c claim, limit int64, read func(io.Reader) error) error {
	plain, release, err := p.decoder(c, limit)
	if err != nil {
		return err
	}
	defer release()
	return read(http.MaxBytesReader(nil, io.NopCloser(plain), limit))
}

// decoder returns a reader of the decompressed body. The caller must release it.
func (p packed) decoder(c claim, limit int64) (plain io.Reader, release func(), err error) {
	if p.coding == "zstd" {
		return p.zstdDecoder(c, limit)
	}
	plain, err = gzip.NewReader(p.body)
	if err != nil {
		return nil, nil, &codingError{err}
	}
	return plain, func() {}, nil
}

const (
	// maxWindow is the largest window of zstd that is accepted: the one that the format recommends every decoder to support.
	maxWindow = 8 << 20
	// minWindow is the smallest that there is.
	minWindow = 1 << 10
)

// zstdDecoder reserves the memory for the window that the first frame announces, which the decoder takes at once. It accepts no frame with
// a larger one.
func (p packed) zstdDecoder(c claim, limit int64) (io.Reader, func(), error) {
	var h zstd.Header
	if err := h.Decode(p.head); err != nil {
		return nil, nil, &codingError{err}
	}
	window := min(h.WindowSize, maxWindow) // a larger one is an error of the decoder
	switch {
	case h.Skippable:
		window = maxWindow
	case h.SingleSegment: // the window is all of the content
		window = h.FrameContentSize
	}
	if window = max(window, minWindow); window > max(maxWindow, uint64(limit)) {
		return nil, nil, &http.MaxBytesError{Limit: limit}
	}
	need := int64(min(2*window, window+1<<20)) // what the decoder takes
	if err := c.reserve(need); err != nil {
		return nil, nil, err
	}
	plain, err := zstd.NewReader(p.body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(window), zstd.WithDecoderMaxWindow(min(window, maxWindow)))
	if err != nil {
		c.release(need)
		return nil, nil, &codingError{err}
	}
	return plain, func() {
		plain.Close()
		c.release(need)
	}, nil
}

// A codingError means that a body does not begin as its coding does.
type codingError struct{ err error }

// Error implements error.
func (e *codingError) Error() string { return e.err.Error() }

// unpackError returns the error for the client after unpacking has failed, or nil if it has not.
func (s *source) unpackError(err error, coding string) *openai.Error {
	if _, bad := errors.AsType[*codingError](err); bad {
		return invalid("The body is not " + coding + ", as its Content-Encoding says: " + err.Error() + ".")
	}
	return s.readError(err)
}

// unpackJSON unpacks a body into a buffer.
func unpackJSON(body []byte, coding string, into *buffer) error {
	return packed{body, bytes.NewReader(body), coding}.unpack(into.another(), into.limit, into.readToEnd)
}
