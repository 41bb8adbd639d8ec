package reqbody

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A peekedBody is a body that Peek has read. It starts again from the beginning, and also holds what Peek has found.
type peekedBody struct {
	io.Reader
	io.Closer
	request *openai.Request // nil if the body is not a JSON object or is too large
}

// Peek reads the JSON of a request before the gateway does, for request matchers, and restores the body. It returns nil if there is no
// JSON. It reads at most limit bytes, and reserves their memory in the account until the request ends.
func Peek(r *http.Request, limit int64, account *memory.Account) *openai.Request {
	if p, ok := r.Body.(*peekedBody); ok {
		return p.request
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method != http.MethodPost || r.Body == nil || err != nil && r.Header.Get("Content-Type") != "" || !mayBeJSON(media) || r.ContentLength > limit {
		return nil
	}
	raw := &buffer{claim: claim{account: account}, limit: limit, keep: true}
	err = raw.readToEnd(io.LimitReader(r.Body, limit+1))
	context.AfterFunc(r.Context(), raw.release)
	p := &peekedBody{Reader: bytes.NewReader(raw.bytes), Closer: r.Body}
	if err != nil || int64(len(raw.bytes)) > limit {
		p.Reader = io.MultiReader(p.Reader, errorReader{r.Body, err})
		r.Body = p
		return nil
	}
	r.Body = p
	request := new(openai.Request)
	if body, ok := unpackPeeked(r, raw); ok && request.Parse(body) == nil {
		p.request = request
	}
	return p.request
}

// unpackPeeked returns the decompressed body. It reports false if that fails or exceeds the limit.
func unpackPeeked(r *http.Request, raw *buffer) ([]byte, bool) {
	coding := contentCoding(r)
	if coding == "" || !knownCoding(coding) {
		return raw.bytes, coding == ""
	}
	plain := &buffer{claim: raw.another(), limit: raw.limit, keep: true}
	err := unpackJSON(raw.bytes, coding, plain)
	context.AfterFunc(r.Context(), plain.release)
	return plain.bytes, err == nil
}

// An errorReader returns an error that reading has already met, or reads on if there was none. It also reads on if only the memory was
// used up: the gateway finds that out by itself.
type errorReader struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (r errorReader) Read(p []byte) (int, error) {
	if _, full := errors.AsType[*fullError](r.err); r.err != nil && !full {
		return 0, r.err
	}
	return r.Reader.Read(p)
}
