// Package reqbody reads request bodies. It limits their size, decompresses them, and stores them in pooled memory or, if they are
// forms with large files, in a temporary file. It does not change them: it only looks for what the gateway must know about them.
//
// It never writes to a client and does not know about upstreams. The errors that it returns are for the client. It stands beside
// router, above openai.
package reqbody

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A Body is the body of a request. The zero value is ready for Read. It must be closed.
type Body struct {
	// Model is the model that the request names, Stream whether it asks for a stream.
	Model  string
	Stream bool
	isJSON bool
	keep   bool // for a log
	// Size is the size of the decompressed body in bytes, ReadTime how long it took to arrive.
	Size     int64
	ReadTime time.Duration
	// Form is the multipart form; nil if the body is JSON.
	Form *Form

	request  openai.Request
	original *openai.Request // before the translation; nil without one
	buffer   buffer          // holds the request, unless Peek does
	upload   upload
	members  *members // of the request, pooled
}

// members are storage for the members of a request, enough for what SDKs send.
type members [8]jsonspan.Member

var memberPool = sync.Pool{New: func() any { return new(members) }}

// A translation is what a Body has in addition if its request was translated.
type translation struct {
	original openai.Request
	members  members // of the translated request
}

// JSON returns the request's JSON, or nil if the body is a form.
func (b *Body) JSON() *openai.Request {
	if !b.isJSON {
		return nil
	}
	return &b.request
}

// Original returns the request as the client sent it, if it was translated, else nil.
func (b *Body) Original() *openai.Request { return b.original }

// Memory returns the pooled memory that holds the JSON, or nil if it is not pooled.
func (b *Body) Memory() *Memory {
	if b.buffer.memory.bytes == nil {
		return nil
	}
	return &b.buffer.memory
}

// Options are how a body is read.
type Options struct {
	// Limit is the maximum size of the decompressed body in bytes.
	Limit int64
	// Keep keeps the signals of the body's JSON available after Close, for an access log.
	Keep bool
	// Memory is the account in which the body's memory is reserved until Close; nil for no maximum.
	Memory *memory.Account
	// Uploads ends the body if it stalls; nil to wait forever.
	Uploads *Uploads
	// Translate translates a request for another API to OpenAI's; nil for requests for OpenAI's. The request has been checked.
	Translate func(*openai.Request) ([]byte, *openai.Error)
}

// Read reads the body of a request to an endpoint. If it has to stop before the end of the body, its error closes the connection.
func (b *Body) Read(from Client, r *http.Request, e *openai.Endpoint, o Options) *openai.Error {
	boundary, err := formBoundary(r, e)
	if err != nil {
		return err
	}
	began := time.Now()
	b.upload.body, b.upload.from = r.Body, from
	s := source{r: r, client: from, upload: &b.upload, Options: o}
	o.Uploads.watch(&b.upload, began)
	defer o.Uploads.end(&b.upload)
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
	if err := b.request.Parse(body); err != nil {
		return nil, err
	}
	return b, b.accept(e, nil)
}

// Close releases the body's memory and deletes its file. Model and the like remain available, and so do the signals of the JSON if they were
// read, or with Options.Keep.
func (b *Body) Close() {
	if b.Form != nil {
		b.Form.close()
	}
	if b.buffer.reserved == 0 {
		return
	}
	if b.keep && b.isJSON && !b.keepSignals() {
		b.buffer.abandon() // the access log may still read it
		return
	}
	b.release()
}

// Release releases the memory of JSON before Close, after which only its signals may be asked for. It does nothing if it would have to read
// those of a large body.
func (b *Body) Release() {
	if b.isJSON && b.original == nil && b.buffer.reserved > 0 && b.keepSignals() {
		b.release()
	}
}

func (b *Body) release() {
	b.request.ReleaseBody()
	if b.original != nil {
		b.original.ReleaseBody()
	}
	b.buffer.release()
	if b.members != nil {
		clear(b.members[:]) // they refer to the body
		memberPool.Put(b.members)
		b.members = nil
	}
}

// smallKept is the size in bytes of a body up to which reading its signals costs less than new memory for the next body.
const smallKept = 16 << 10

// keepSignals reads what may still be asked of the request when its body is gone. It reports false if that would be work that is probably in
// vain.
func (b *Body) keepSignals() bool {
	if _, read := b.request.SignalsRead(); !read && b.Size > smallKept {
		return false
	}
	if signals := b.request.Signals(); b.keep {
		signals.Content()
	}
	return true
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
		return b.accept(e, s.Translate)
	}
	b.members = memberPool.Get().(*members)
	b.request.Members = b.members[:0]
	body, err := b.readAll(s)
	b.Size, b.ReadTime = int64(len(body)), time.Since(began)
	if err != nil {
		return err
	}
	if err := b.request.Parse(body); err != nil {
		return err
	}
	if s.Translate != nil { // to a text that is about as long
		if err := b.buffer.reserve(b.Size); err != nil {
			return s.readError(err)
		}
	}
	return b.accept(e, s.Translate)
}

// accept translates a request that was parsed, if that is necessary, and records what it says.
func (b *Body) accept(e *openai.Endpoint, translate func(*openai.Request) ([]byte, *openai.Error)) *openai.Error {
	if translate != nil {
		t := &translation{original: b.request}
		body, err := translate(&t.original)
		if err != nil {
			return err
		}
		b.original, b.request = &t.original, openai.Request{}
		b.request.Members = t.members[:0]
		if err := b.request.ParseTranslated(body); err != nil {
			return err
		}
	}
	if e.Prompts {
		b.request.CountPrompts()
	}
	b.isJSON, b.Model, b.Stream = true, b.request.Model, b.request.Stream
	return nil
}

// readAll reads the whole body into memory.
func (b *Body) readAll(s *source) ([]byte, *openai.Error) {
	raw, coding, err := s.open()
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	b.buffer.claim, b.buffer.limit, b.keep = s.claim(), s.Limit, s.Keep
	if coding == "" {
		err := s.readInto(&b.buffer, raw)
		return b.buffer.bytes, s.readError(err)
	}
	packed := &buffer{claim: s.claim(), limit: s.Limit}
	defer packed.release()
	if err := s.readInto(packed, raw); err != nil {
		return nil, s.readError(err)
	}
	unpackErr := unpackJSON(packed.bytes, coding, &b.buffer)
	return b.buffer.bytes, s.unpackError(unpackErr, coding)
}

// A source is where a body is read from.
type source struct {
	r      *http.Request
	client Client
	upload *upload
	Options
}

// claim returns a claim to memory for the body.
func (s *source) claim() claim { return claim{account: s.Memory, ctx: s.r.Context()} }

// readInto reads the body as it arrives.
func (s *source) readInto(b *buffer, raw io.Reader) error {
	if s.r.ContentLength >= 0 {
		return b.read(raw, s.r.ContentLength)
	}
	return b.readToEnd(raw)
}

// open returns the body as it arrives, and its Content-Encoding, or "" for none. It fails at once if the body cannot be read, and the body
// fails beyond the limit.
func (s *source) open() (raw io.ReadCloser, coding string, err *openai.Error) {
	coding = contentCoding(s.r)
	switch {
	case s.r.ContentLength > s.Limit:
		return nil, "", s.tooLarge(s.Limit)
	case !s.Memory.CouldHold(s.r.ContentLength):
		return nil, "", s.noMemory(true)
	case !knownCoding(coding):
		return nil, "", unsupportedMedia("The Content-Encoding " + coding + " is not supported; send the body without one, or as gzip or zstd.")
	case s.r.ContentLength >= 0: // net/http makes it end there
		return s.upload, coding, nil
	}
	return http.MaxBytesReader(s.client.Unwrap(), s.upload, s.Limit), coding, nil
}

// readError returns the error for the client after reading the body has failed, or nil if it has not.
func (s *source) readError(err error) *openai.Error {
	if err == nil {
		return nil
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return s.tooLarge(tooLarge.Limit)
	}
	if full, ok := errors.AsType[*fullError](err); ok {
		return s.noMemory(full.always)
	}
	if s.upload.stalled.Load() {
		return s.closing(&openai.Error{Status: http.StatusRequestTimeout, Type: "invalid_request_error", Code: "request_timeout",
			Message: fmt.Sprintf("The request body stopped arriving: less than %d bytes in %v. Send the request again.", minProgress, stallTimeout)})
	}
	return invalid("The request body could not be read to its end: " + err.Error() + ".")
}

// noMemory returns the error for a body that the memory for requests does not hold now, or can never hold.
func (s *source) noMemory(always bool) *openai.Error {
	if always {
		return s.closing(&openai.Error{Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: "request_too_large",
			Message: "The request body is larger than the memory that this gateway has for all requests. Send less, or raise max_memory."})
	}
	return s.closing(&openai.Error{Status: http.StatusServiceUnavailable, Type: "server_error", Code: "gateway_overloaded", Header: http.Header{"Retry-After": {"1"}},
		Message: "The memory that this gateway has for requests is used up by other requests. Try again in a moment."})
}

// closing makes an error close the connection. Otherwise, net/http would read the rest of the body before it sends the error, so that it
// can reuse the connection.
func (s *source) closing(e *openai.Error) *openai.Error {
	if s.r.ProtoMajor != 1 {
		return e
	}
	if e.Header == nil {
		e.Header = http.Header{}
	}
	e.Header["Connection"] = []string{"close"}
	return e
}

// tooLarge returns the error for a body that is too large.
func (s *source) tooLarge(limit int64) *openai.Error {
	setting := "max_body"
	if limit < s.Limit { // set by a handler before this one
		setting = "the max_size of request_body"
	}
	return s.closing(&openai.Error{Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: "request_too_large",
		Message: fmt.Sprintf("The request body is larger than %d bytes, the limit of this gateway. Send less, or raise %s.", limit, setting)})
}

func invalid(message string) *openai.Error {
	return &openai.Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Code: "invalid_request", Message: message}
}

func unsupportedMedia(message string) *openai.Error {
	return &openai.Error{Status: http.StatusUnsupportedMediaType, Type: "invalid_request_error", Code: "unsupported_media_type", Message: message}
}
