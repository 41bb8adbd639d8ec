package reqbody

import (
	"bytes"
	"io"
	"mime"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A peekedBody is a body that Peek has read. It starts again from the beginning, and also holds what Peek has found.
type peekedBody struct {
	io.Reader
	io.Closer
	request *openai.Request // nil if the body is not a JSON object or is too large
}

// Peek reads the JSON of a request before the gateway does, for request matchers, and restores the body. It returns nil if there is no
// JSON. It reads at most limit bytes.
func Peek(r *http.Request, limit int64) *openai.Request {
	if p, ok := r.Body.(*peekedBody); ok {
		return p.request
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method != http.MethodPost || r.Body == nil || err != nil && r.Header.Get("Content-Type") != "" || !mayBeJSON(media) || r.ContentLength > limit {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	p := &peekedBody{Reader: bytes.NewReader(raw), Closer: r.Body}
	if err != nil || int64(len(raw)) > limit {
		p.Reader = io.MultiReader(p.Reader, errorReader{r.Body, err})
		r.Body = p
		return nil
	}
	r.Body = p
	body, ok := decompressAll(raw, r.Header.Get("Content-Encoding"), limit)
	request := new(openai.Request)
	if ok && request.Parse(body) == nil {
		p.request = request
	}
	return p.request
}

// An errorReader returns an error that reading has already met, or reads on if there was none.
type errorReader struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (r errorReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	return r.Reader.Read(p)
}

// decompressAll returns the decompressed body. It reports false if that fails or exceeds the limit.
func decompressAll(raw []byte, coding string, limit int64) ([]byte, bool) {
	plain, err := decompress(bytes.NewReader(raw), coding, limit)
	if err != nil {
		return nil, false
	}
	defer plain.Close()
	if coding == "" {
		return raw, true
	}
	body, err := io.ReadAll(io.LimitReader(plain, limit+1))
	return body, err == nil && int64(len(body)) <= limit
}
