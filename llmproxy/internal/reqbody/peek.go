package reqbody

import (
	"bytes"
	"io"
	"mime"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A peeked body was read ahead of the gateway. It is read again from its beginning by whoever comes next, and brings along
// what was found in it.
type peeked struct {
	io.Reader
	io.Closer
	request *openai.Request // nil if the body is not a JSON object, or is too large
}

// Peek reads a request's JSON for a rule that is asked before the gateway is, and leaves the body to be read again; nil for
// a request that has none. At most limit bytes are held.
func Peek(r *http.Request, limit int64) *openai.Request {
	if ahead, ok := r.Body.(*peeked); ok {
		return ahead.request
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method != http.MethodPost || r.Body == nil || err != nil && r.Header.Get("Content-Type") != "" || !mayBeJSON(media) || r.ContentLength > limit {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	ahead := &peeked{Reader: bytes.NewReader(raw), Closer: r.Body}
	if err != nil || int64(len(raw)) > limit {
		ahead.Reader = io.MultiReader(ahead.Reader, failing{r.Body, err})
		r.Body = ahead
		return nil
	}
	r.Body = ahead
	body, decoded := decode(raw, r.Header.Get("Content-Encoding"), limit)
	request := new(openai.Request)
	if decoded && request.Parse(body) == nil {
		ahead.request = request
	}
	return ahead.request
}

// failing ends with the error that reading has already met, if any.
type failing struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (f failing) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Reader.Read(p)
}

// decode undoes a Content-Encoding; false where that cannot be done within the limit.
func decode(raw []byte, coding string, limit int64) ([]byte, bool) {
	plain, err := decoder(bytes.NewReader(raw), coding, limit)
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
