package gateway

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

// openBody gives the request's body, decoded and bounded. What announces itself as too large is refused unread.
func (c *call) openBody() (io.ReadCloser, *wire.Error) {
	limit := c.g.MaxBody
	if c.r.ContentLength > limit {
		return nil, c.tooLarge(limit)
	}
	raw := http.MaxBytesReader(c.w, c.r.Body, limit)
	coding := strings.ToLower(c.r.Header.Get("Content-Encoding"))
	plain, err := decoder(raw, coding, limit)
	switch {
	case errors.Is(err, errUnknownCoding):
		return nil, unsupportedMedia("The Content-Encoding " + coding + " is not known here; send the body as it is, or gzip or zstd.")
	case err != nil:
		return nil, badRequest("The body is not " + coding + ", as its Content-Encoding says: " + err.Error() + ".")
	}
	if plain == raw {
		return raw, nil
	}
	return http.MaxBytesReader(c.w, plain, limit), nil
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

// readChunk is how much of a body of unknown length is read at a time.
const readChunk = 256 << 10

// readBody reads the whole body into memory: once where its length is known, joined from chunks where it is not, so that
// there are never more than two copies of it.
func (c *call) readBody() ([]byte, *wire.Error) {
	if n := c.r.ContentLength; n >= 0 && n <= c.g.MaxBody && c.r.Header["Content-Encoding"] == nil {
		whole := c.room(int(n))
		_, err := io.ReadFull(c.r.Body, whole)
		c.r.Body.Close()
		if err != nil {
			return nil, c.failedBody(err)
		}
		return whole, nil
	}
	body, failure := c.openBody()
	if failure != nil {
		return nil, failure
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
			return nil, c.failedBody(err)
		}
	}
}

// room gives memory for the body. Where there is an access log, {llm.content} and its like may be asked for when the request
// is long over; else they are not, and the memory serves another request.
func (c *call) room(n int) []byte {
	if c.rec.Logged {
		return make([]byte, n)
	}
	c.up.Memory = &c.memory
	return c.memory.Make(n)
}

// letGo gives the body's memory back. What was read of the body before stays in the record.
func (c *call) letGo() {
	if c.up.Memory == nil {
		return
	}
	c.head.Forget()
	c.memory.Release()
}

// fill reads until the chunk is full. Unlike io.ReadFull it keeps apart a body that ended from one that was cut.
func fill(r io.Reader, chunk []byte) (n int, err error) {
	for n < len(chunk) && err == nil {
		var more int
		more, err = r.Read(chunk[n:])
		n += more
	}
	return n, err
}
