package gateway

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

// maxInMemory is how much of a form is kept in memory; the rest goes to a temporary file.
const maxInMemory = 1 << 20

// A form is a multipart request: kept whole, because its model may stand after its file, and spliced, not re-encoded.
type form struct {
	spool  *spool
	fields *wire.Form
}

// A spool holds a body in memory or in a file.
type spool struct {
	io.ReaderAt
	size int64
	file *os.File // nil while memory is enough
}

// spool reads a body to its end.
func (c *call) spool(body io.Reader) (*spool, *wire.Error) {
	head := make([]byte, maxInMemory)
	n, err := fill(body, head)
	if errors.Is(err, io.EOF) {
		return &spool{ReaderAt: bytes.NewReader(head[:n]), size: int64(n)}, nil
	}
	if err != nil {
		return nil, c.failedBody(err)
	}
	file, err := os.CreateTemp("", "llm_proxy-form-*")
	if err != nil {
		return nil, upstreamError("The gateway has no room for the file that was sent: it cannot write to its temporary directory.")
	}
	s := &spool{ReaderAt: file, file: file}
	s.size, err = io.Copy(file, io.MultiReader(bytes.NewReader(head), body))
	if err != nil {
		s.close()
		return nil, c.failedBody(err)
	}
	return s, nil
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name()) //nolint:errcheck // nothing can be done about it here
	}
}

func (f *form) close() { f.spool.close() }

// withModel is the form with another model's name in it.
func (f *form) withModel(model string) upstream.Payload {
	return formPayload{f.spool, f.fields.ModelSpan.Start, f.fields.ModelSpan.End, model}
}

type formPayload struct {
	spool      *spool
	start, end int64
	model      string
}

// Len implements upstream.Payload.
func (p formPayload) Len() int64 { return p.spool.size - (p.end - p.start) + int64(len(p.model)) }

// Open implements upstream.Payload.
func (p formPayload) Open() io.ReadCloser {
	return io.NopCloser(io.MultiReader(
		io.NewSectionReader(p.spool, 0, p.start),
		strings.NewReader(p.model),
		io.NewSectionReader(p.spool, p.end, p.spool.size-p.end),
	))
}
