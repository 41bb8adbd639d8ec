// Package reqbody reads the bodies of requests: bounded before they are read, decoded, kept in pooled memory or, forms with
// files, in a temporary file. What is read stays the bytes that came; only what the gateway must know of them is looked at.
//
// It never writes to a client and knows nothing of upstreams; the errors it returns are for the client. It stands beside
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

// A Body is what was read of a request. The zero value is ready to Read into. It must be closed.
type Body struct {
	// Model and Stream are what the request asks for.
	Model  string
	Stream bool
	// Size is the number of bytes that were read, decoded, and Took how long they took to come.
	Size int64
	Took time.Duration
	// Form is the multipart form; nil for JSON.
	Form *Form

	request openai.Request
	isJSON  bool
	memory  Memory
	pooled  bool
	members [8]jsonspan.Member // room for the head's, as many as an SDK sends
}

// JSON returns the request's JSON; nil for a form.
func (b *Body) JSON() *openai.Request {
	if !b.isJSON {
		return nil
	}
	return &b.request
}

// Memory returns what the JSON lies in; nil where that is not used again.
func (b *Body) Memory() *Memory {
	if !b.pooled {
		return nil
	}
	return &b.memory
}

// A Reader says how bodies are read.
type Reader struct {
	// Limit bounds a body, decoded, in bytes.
	Limit int64
	// Keep says that the body may be looked at after the request is over, as an access log does: its memory is not pooled.
	Keep bool
}

// Read reads the body of a request to an endpoint. W is told to close the connection where the body is too large.
func (b *Body) Read(w http.ResponseWriter, r *http.Request, e *openai.Endpoint, how Reader) *openai.Error {
	boundary, err := formBoundary(r, e)
	if err != nil {
		return err
	}
	s := source{w: w, r: r, Reader: how}
	began := time.Now()
	if boundary != "" {
		err = b.readForm(&s, boundary)
	} else {
		err = b.readJSON(&s, e, began)
	}
	if b.Took == 0 {
		b.Took = time.Since(began)
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

// FromJSON makes a body of JSON that is in memory.
func FromJSON(body []byte, e *openai.Endpoint) (*Body, *openai.Error) {
	b := new(Body)
	if err := b.parse(body, e); err != nil {
		return nil, err
	}
	return b, nil
}

// Close lets go of the body's memory and of its file. What was found in it stays.
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

// formBoundary decides by the Content-Type whether a request is a form, whose boundary it returns, or JSON.
func formBoundary(r *http.Request, e *openai.Endpoint) (string, *openai.Error) {
	contentType := r.Header.Get("Content-Type")
	if contentType == "application/json" { // nearly always: there is nothing to parse
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

// mayBeJSON accepts, besides JSON, what says nothing or what curl -d says by itself: the body decides.
func mayBeJSON(media string) bool {
	switch media {
	case "", "application/json", "text/plain", "text/json", "application/x-www-form-urlencoded":
		return true
	}
	return strings.HasSuffix(media, "+json")
}

func (b *Body) readJSON(s *source, e *openai.Endpoint, began time.Time) *openai.Error {
	if ahead, ok := s.r.Body.(*peeked); ok && ahead.request != nil && int64(len(ahead.request.Body)) <= s.Limit {
		b.request, b.Size = *ahead.request, int64(len(ahead.request.Body))
		b.found(e)
		return nil
	}
	b.request.Members = b.members[:0]
	body, err := b.readAll(s)
	b.Size, b.Took = int64(len(body)), time.Since(began)
	if err != nil {
		return err
	}
	return b.parse(body, e)
}

func (b *Body) parse(body []byte, e *openai.Endpoint) *openai.Error {
	if err := b.request.Parse(body); err != nil {
		return err
	}
	b.found(e)
	return nil
}

func (b *Body) found(e *openai.Endpoint) {
	if e.Prompts {
		b.request.CountPrompts()
	}
	b.isJSON, b.Model, b.Stream = true, b.request.Model, b.request.Stream
}

// readChunk is how much of a body of unknown length is read at a time.
const readChunk = 256 << 10

// readAll reads the whole body into memory: once where its length is known, joined from chunks where it is not, so that there
// are never more than two copies of it.
func (b *Body) readAll(s *source) ([]byte, *openai.Error) {
	if n := s.r.ContentLength; n >= 0 && n <= s.Limit && s.r.Header["Content-Encoding"] == nil {
		whole := b.room(int(n), s.Keep)
		_, err := io.ReadFull(s.r.Body, whole)
		s.r.Body.Close()
		if err != nil {
			return nil, s.failed(err)
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
			return nil, s.failed(err)
		}
	}
}

// room returns memory for the body, from the pool unless the body is kept.
func (b *Body) room(n int, keep bool) []byte {
	if keep {
		return make([]byte, n)
	}
	b.pooled = true
	return b.memory.Make(n)
}

// fill reads until the chunk is full. Unlike io.ReadFull it tells a body that ended from one that was cut.
func fill(r io.Reader, chunk []byte) (n int, err error) {
	for n < len(chunk) && err == nil {
		var more int
		more, err = r.Read(chunk[n:])
		n += more
	}
	return n, err
}

// A source is where a body comes from.
type source struct {
	w http.ResponseWriter
	r *http.Request
	Reader
}

// open returns the body, decoded and bounded. A body that announces itself as too large is refused unread.
func (s *source) open() (io.ReadCloser, *openai.Error) {
	if s.r.ContentLength > s.Limit {
		return nil, s.tooLarge(s.Limit)
	}
	raw := http.MaxBytesReader(s.w, s.r.Body, s.Limit)
	coding := strings.ToLower(s.r.Header.Get("Content-Encoding"))
	plain, err := decoder(raw, coding, s.Limit)
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

// decoder undoes a Content-Encoding. It does not bound what comes out.
func decoder(raw io.Reader, coding string, limit int64) (io.ReadCloser, error) {
	switch coding {
	case "", "identity":
		if r, ok := raw.(io.ReadCloser); ok {
			return r, nil
		}
		return io.NopCloser(raw), nil
	case "gzip", "x-gzip":
		return gzip.NewReader(raw)
	case "zstd": // Codex sends it
		unpacked, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)+1<<20), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, err
		}
		return unpacked.IOReadCloser(), nil
	}
	return nil, errUnknownCoding
}

// failed turns an error of reading the body into what the client is told.
func (s *source) failed(err error) *openai.Error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return s.tooLarge(tooLarge.Limit)
	case errors.Is(err, zstd.ErrDecoderSizeExceeded): // its frame announces more than the limit
		return s.tooLarge(s.Limit)
	}
	return invalid("The request body could not be read to its end: " + err.Error() + ".")
}

// tooLarge also ends the connection: net/http would read on, for the next request's sake, before it sends the refusal.
func (s *source) tooLarge(limit int64) *openai.Error {
	e := &openai.Error{Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: "request_too_large"}
	if s.r.ProtoMajor == 1 {
		e.Header = http.Header{"Connection": {"close"}}
	}
	setting := "max_body"
	if limit < s.Limit { // a handler before this one bounds it
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
