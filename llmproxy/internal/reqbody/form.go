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

// maxInMemory is how much memory in bytes a form may take. A larger one is stored in a temporary file.
const maxInMemory = 1 << 20

// A Form is a multipart form. It is stored completely, because its model may come after its file. To change the model, the bytes are
// spliced, not re-encoded.
type Form struct {
	spool  *spool
	fields *openai.Form
}

// PlainText reports whether the form asks for a transcription in a format without room for its usage.
func (f *Form) PlainText() bool { return f.fields.PlainText }

// A spool is a body in memory or in a file.
type spool struct {
	io.ReaderAt
	size   int64
	memory *buffer
	file   *os.File // nil if the body is in memory
}

func (b *Body) readForm(s *source, boundary string) *openai.Error {
	stored, err := s.spoolForm()
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

// spoolForm reads and stores the body, decompressed.
func (s *source) spoolForm() (*spool, *openai.Error) {
	raw, coding, failed := s.open()
	if failed != nil {
		return nil, failed
	}
	defer raw.Close()
	stored, err := s.spool(raw)
	if err != nil || coding == "" {
		return stored, s.spoolError(err, coding)
	}
	defer stored.close()
	head := make([]byte, min(stored.size, maxPackedHeader))
	if _, err := stored.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, s.spoolError(&spoolError{err}, coding)
	}
	var plain *spool
	err = packed{head, io.NewSectionReader(stored, 0, stored.size), coding}.unpack(s.claim(), s.Limit, func(body io.Reader) (err error) {
		plain, err = s.spool(body)
		return err
	})
	return plain, s.spoolError(err, coding)
}

// A spoolError is a failure of the temporary file.
type spoolError struct{ err error }

// Error implements error.
func (e *spoolError) Error() string { return "storing the form: " + e.err.Error() }

// spoolError returns the error for the client after reading or storing a form has failed, or nil if it has not.
func (s *source) spoolError(err error, coding string) *openai.Error {
	var ours *spoolError
	if errors.As(err, &ours) {
		return &openai.Error{Status: http.StatusBadGateway, Type: "server_error", Code: "upstream_error",
			Message: "The gateway cannot store the file that was sent: it cannot write to its temporary directory."}
	}
	return s.unpackError(err, coding)
}

// spool reads and stores a body. A transport may read on after the request has ended, so the memory is not pooled.
func (s *source) spool(body io.Reader) (*spool, error) {
	head := &buffer{claim: s.claim(), limit: maxInMemory - 1, keep: true}
	if err := head.readToEnd(io.LimitReader(body, maxInMemory-1)); err != nil {
		head.release()
		return nil, err
	}
	if len(head.bytes) < maxInMemory-1 {
		return &spool{ReaderAt: bytes.NewReader(head.bytes), size: int64(len(head.bytes)), memory: head}, nil
	}
	defer head.release()
	file, err := os.CreateTemp("", "llm_proxy-form-*")
	if err != nil {
		return nil, &spoolError{err}
	}
	stored := &spool{ReaderAt: file, file: file}
	if stored.size, err = stored.fill(head.bytes, body); err != nil {
		stored.close()
		return nil, err
	}
	return stored, nil
}

// fill writes the body to the file.
func (s *spool) fill(head []byte, rest io.Reader) (size int64, err error) {
	n, err := s.file.Write(head)
	if err != nil {
		return 0, &spoolError{err}
	}
	more, err := io.Copy(s.file, rest)
	return int64(n) + more, err
}

func (s *spool) close() {
	if s.memory != nil {
		s.memory.release()
	}
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name()) //nolint:errcheck // nothing can be done about it here
	}
}

func (f *Form) close() { f.spool.close() }

// Choices returns how many choices the answer has.
func (f *Form) Choices() int { return max(1, f.fields.N) }

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
