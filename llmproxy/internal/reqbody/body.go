// Package reqbody reads request bodies. It limits their size, decompresses them, and stores them in pooled memory or, if they are
// forms with large files, in a temporary file. It does not change them: it only looks for what the gateway must know about them.
//
// It never writes to a client and does not know about upstreams. The errors that it returns are for the client. It stands beside
// router, above openai.
package reqbody

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A Body is the body of a request. The zero value is ready for Read. It must be closed.
type Body struct {
	// Model is the model that the request names, Stream whether it asks for a stream.
	Model  string
	Stream bool
	// Size is the size of the decompressed body in bytes, ReadTime how long it took to arrive.
	Size     int64
	ReadTime time.Duration
	// Form is the multipart form; nil if the body is JSON.
	Form *Form

	request openai.Request
	isJSON  bool
	memory  Memory
	pooled  bool
	members [8]jsonspan.Member // storage for the members of request, enough for what SDKs send
}

// JSON returns the request's JSON, or nil if the body is a form.
func (b *Body) JSON() *openai.Request {
	if !b.isJSON {
		return nil
	}
	return &b.request
}

// Memory returns the pooled memory that holds the JSON, or nil if it is not pooled.
func (b *Body) Memory() *Memory {
	if !b.pooled {
		return nil
	}
	return &b.memory
}

// Options are how a body is read.
type Options struct {
	// Limit is the maximum size of the decompressed body in bytes.
	Limit int64
	// Keep keeps the body's JSON available after the request has ended, for an access log. Its memory is then not pooled.
	Keep bool
}

// Read reads the body of a request to an endpoint. If the body is too large, it makes w close the connection.
func (b *Body) Read(w http.ResponseWriter, r *http.Request, e *openai.Endpoint, o Options) *openai.Error {
	boundary, err := formBoundary(r, e)
	if err != nil {
		return err
	}
	s := source{w: w, r: r, Options: o}
	began := time.Now()
	if boundary != "" {
		err = b.readForm(&s, boundary)
	} else {
		err = b.readJSON(&s, e, began)
	}
	if b.ReadTime == 0 {
		b.ReadTime = time.Since(began)
	}
	if err != nil {
		return err
	}
	if b.Model == "" {
		b.Model = e.DefaultModel
	}
	if b.Model == "" {
		return &openai.Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Param: "model", Code: "invalid_request",
			Message: fmt.Sprintf("The request to %s does not name a model: set \"model\". GET /v1/models lists the models that are served.", r.URL.Path)}
	}
	return nil
}

// FromJSON returns a Body of JSON that is already in memory.
func FromJSON(body []byte, e *openai.Endpoint) (*Body, *openai.Error) {
	b := new(Body)
	if err := b.parse(body, e); err != nil {
		return nil, err
	}
	return b, nil
}

// Close releases the body's memory and deletes its file. Model, the signals of the JSON and the like remain available.
func (b *Body) Close() {
	if b.Form != nil {
		b.Form.close()
	}
	if b.pooled {
		b.request.ReleaseBody()
		b.memory.Release()
		b.pooled = false
	}
}

// formBoundary returns the boundary of a multipart form, or "" if the Content-Type says that the body is JSON.
func formBoundary(r *http.Request, e *openai.Endpoint) (string, *openai.Error) {
	contentType := r.Header.Get("Content-Type")
	if contentType == "application/json" { // the usual value needs no parsing
		return "", nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil && contentType != "":
		return "", unsupportedMedia("The Content-Type header cannot be read; send application/json.")
	case mayBeJSON(media):
		return "", nil
	case !strings.HasPrefix(media, "multipart/"):
		return "", unsupportedMedia("The Content-Type is " + media + "; send application/json.")
	case !e.Form || media != "multipart/form-data" || params["boundary"] == "":
		return "", unsupportedMedia(r.URL.Path + " does not take " + media + "; send application/json.")
	}
	return params["boundary"], nil
}

// mayBeJSON reports whether a body of a media type may be JSON. Besides JSON types, it accepts no type at all and the type that curl -d
// sends by default.
func mayBeJSON(media string) bool {
	switch media {
	case "", "application/json", "text/plain", "text/json", "application/x-www-form-urlencoded":
		return true
	}
	return strings.HasSuffix(media, "+json")
}

func (b *Body) readJSON(s *source, e *openai.Endpoint, began time.Time) *openai.Error {
	if p, ok := s.r.Body.(*peekedBody); ok && p.request != nil && int64(len(p.request.Body)) <= s.Limit {
		b.request, b.Size = *p.request, int64(len(p.request.Body))
		b.setRequest(e)
		return nil
	}
	b.request.Members = b.members[:0]
	body, err := b.readAll(s)
	b.Size, b.ReadTime = int64(len(body)), time.Since(began)
	if err != nil {
		return err
	}
	return b.parse(body, e)
}

func (b *Body) parse(body []byte, e *openai.Endpoint) *openai.Error {
	if err := b.request.Parse(body); err != nil {
		return err
	}
	b.setRequest(e)
	return nil
}

func (b *Body) setRequest(e *openai.Endpoint) {
	if e.Prompts {
		b.request.CountPrompts()
	}
	b.isJSON, b.Model, b.Stream = true, b.request.Model, b.request.Stream
}

// readChunk is how much of a body of unknown length is read at a time.
const readChunk = 256 << 10

// readAll reads the whole body into memory. A body of known length is read in one piece. Otherwise, chunks are read and joined, so that
// there are never more than two copies.
func (b *Body) readAll(s *source) ([]byte, *openai.Error) {
	if n := s.r.ContentLength; n >= 0 && n <= s.Limit && s.r.Header["Content-Encoding"] == nil {
		whole := b.allocate(int(n), s.Keep)
		_, err := io.ReadFull(s.r.Body, whole)
		s.r.Body.Close()
		if err != nil {
			return nil, s.readError(err)
		}
		return whole, nil
	}
	body, failed := s.open()
	if failed != nil {
		return nil, failed
	}
	defer body.Close()
	var chunks [][]byte
	for {
		chunk := make([]byte, readChunk)
		n, err := fill(body, chunk)
		chunks = append(chunks, chunk[:n])
		if errors.Is(err, io.EOF) {
			return bytes.Join(chunks, nil), nil
		}
		if err != nil {
			return nil, s.readError(err)
		}
	}
}

// allocate returns memory for the body, from a pool unless the body is kept.
func (b *Body) allocate(n int, keep bool) []byte {
	if keep {
		return make([]byte, n)
	}
	b.pooled = true
	return b.memory.Make(n)
}

// fill reads until the chunk is full. Unlike io.ReadFull, it returns io.EOF at the end of the body and io.ErrUnexpectedEOF only if the
// body itself ended unexpectedly.
func fill(r io.Reader, chunk []byte) (n int, err error) {
	for n < len(chunk) && err == nil {
		var more int
		more, err = r.Read(chunk[n:])
		n += more
	}
	return n, err
}

// A source is where a body is read from.
type source struct {
	w http.ResponseWriter
	r *http.Request
	Options
}

// open returns the decompressed and limited body. If Content-Length is already too large, it does not read the body.
func (s *source) open() (io.ReadCloser, *openai.Error) {
	if s.r.ContentLength > s.Limit {
		return nil, s.tooLarge(s.Limit)
	}
	raw := http.MaxBytesReader(s.w, s.r.Body, s.Limit)
	coding := strings.ToLower(s.r.Header.Get("Content-Encoding"))
	plain, err := decompress(raw, coding, s.Limit)
	switch {
	case errors.Is(err, errUnknownCoding):
		return nil, unsupportedMedia("The Content-Encoding " + coding + " is not supported; send the body without one, or as gzip or zstd.")
	case err != nil:
		return nil, invalid("The body is not " + coding + ", as its Content-Encoding says: " + err.Error() + ".")
	}
	if plain == raw {
		return raw, nil
	}
	return http.MaxBytesReader(s.w, plain, s.Limit), nil
}

var errUnknownCoding = errors.New("unknown Content-Encoding")

// decompress returns a reader of the decompressed body. It does not limit the decompressed size.
func decompress(raw io.Reader, coding string, limit int64) (io.ReadCloser, error) {
	switch coding {
	case "", "identity":
		if r, ok := raw.(io.ReadCloser); ok {
			return r, nil
		}
		return io.NopCloser(raw), nil
	case "gzip", "x-gzip":
		return gzip.NewReader(raw)
	case "zstd": // sent by Codex
		unpacked, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)+1<<20), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, err
		}
		return unpacked.IOReadCloser(), nil
	}
	return nil, errUnknownCoding
}

// readError returns the error for the client after reading the body has failed.
func (s *source) readError(err error) *openai.Error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return s.tooLarge(tooLarge.Limit)
	case errors.Is(err, zstd.ErrDecoderSizeExceeded): // the header of a zstd frame announces more than the limit
		return s.tooLarge(s.Limit)
	}
	return invalid("The request body could not be read to its end: " + err.Error() + ".")
}

// tooLarge returns the error for a body that is too large. It also closes the connection. Otherwise, net/http would read the rest of the
// body before it sends the error, so that it can reuse the connection.
func (s *source) tooLarge(limit int64) *openai.Error {
	e := &openai.Error{Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: "request_too_large"}
	if s.r.ProtoMajor == 1 {
		e.Header = http.Header{"Connection": {"close"}}
	}
	setting := "max_body"
	if limit < s.Limit { // set by a handler before this one
		setting = "the max_size of request_body"
	}
	e.Message = fmt.Sprintf("The request body is larger than %d bytes, the limit of this gateway. Send less, or raise %s.", limit, setting)
	return e
}

func invalid(message string) *openai.Error {
	return &openai.Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Code: "invalid_request", Message: message}
}

func unsupportedMedia(message string) *openai.Error {
	return &openai.Error{Status: http.StatusUnsupportedMediaType, Type: "invalid_request_error", Code: "unsupported_media_type", Message: message}
}
