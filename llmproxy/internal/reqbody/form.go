package reqbody

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// maxInMemory is the size up to which a form is kept in memory. A larger one is stored in a temporary file.
const maxInMemory = 1 << 20

// A Form is a multipart form. It is stored completely, because its model may come after its file. To change the model, the bytes are
// spliced, not re-encoded.
type Form struct {
	spool  *spool
	fields *openai.Form
}

// A spool is a body in memory or in a file.
type spool struct {
	io.ReaderAt
	size int64
	file *os.File // nil if the body is in memory
}

func (b *Body) readForm(s *source, boundary string) *openai.Error {
	body, err := s.open()
	if err != nil {
		return err
	}
	defer body.Close()
	stored, err := s.spool(body)
	if err != nil {
		return err
	}
	b.Form, b.Size = &Form{spool: stored}, stored.size
	fields, err := openai.ParseForm(stored, stored.size, boundary)
	if err != nil {
		return err
	}
	b.Form.fields = fields
	b.Model, b.Stream = fields.Model, fields.Stream
	return nil
}

// spool reads and stores a body.
func (s *source) spool(body io.Reader) (*spool, *openai.Error) {
	head := make([]byte, maxInMemory)
	n, err := fill(body, head)
	if errors.Is(err, io.EOF) {
		return &spool{ReaderAt: bytes.NewReader(head[:n]), size: int64(n)}, nil
	}
	if err != nil {
		return nil, s.readError(err)
	}
	file, err := os.CreateTemp("", "llm_proxy-form-*")
	if err != nil {
		return nil, &openai.Error{Status: http.StatusBadGateway, Type: "server_error", Code: "upstream_error",
			Message: "The gateway cannot store the file that was sent: it cannot write to its temporary directory."}
	}
	stored := &spool{ReaderAt: file, file: file}
	stored.size, err = io.Copy(file, io.MultiReader(bytes.NewReader(head), body))
	if err != nil {
		stored.close()
		return nil, s.readError(err)
	}
	return stored, nil
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name()) //nolint:errcheck // nothing can be done about it here
	}
}

func (f *Form) close() { f.spool.close() }

// WithModel returns the form with another model.
func (f *Form) WithModel(model string) FormPayload {
	return FormPayload{f.spool, f.fields.ModelSpan.Start, f.fields.ModelSpan.End, model}
}

// A FormPayload is a form to send to an upstream. It can be sent more than once.
type FormPayload struct {
	spool      *spool
	start, end int64
	model      string
}

// Len returns the size in bytes.
func (p FormPayload) Len() int64 { return p.spool.size - (p.end - p.start) + int64(len(p.model)) }

// Open returns a new reader.
func (p FormPayload) Open() io.ReadCloser {
	return io.NopCloser(io.MultiReader(
		io.NewSectionReader(p.spool, 0, p.start),
		strings.NewReader(p.model),
		io.NewSectionReader(p.spool, p.end, p.spool.size-p.end),
	))
}
