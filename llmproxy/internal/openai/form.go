package openai

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/formdata"
)

// A Form is what the gateway must know of a multipart form. ModelSpan is where the model's name is, so that it can be replaced
// without touching the rest.
type Form struct {
	Model     string
	HasModel  bool
	ModelSpan formdata.Span
	Stream    bool
	N         int // choices that the form asks for; 0 if it does not say so plainly
	// PlainText reports whether a transcription is wanted in a format without room for its usage: text, srt or vtt.
	PlainText bool
	Size      int64 // of the whole form
}

// A formReader reads the parts that the gateway must know.
type formReader struct {
	Form
	hasStream bool
}

// ParseForm reads a form once, without keeping it in memory. It rejects parts that some servers would take for the model and others
// would not. The error can be sent to the client.
func ParseForm(r io.ReaderAt, size int64, boundary string) (*Form, *Error) {
	f := &formReader{Form: Form{Size: size}}
	var failed *Error
	err := formdata.Read(r, size, boundary, func(p formdata.Part, content func(int) ([]byte, error)) error {
		failed = f.read(p, content)
		if failed != nil {
			return failed
		}
		return nil
	})
	var syntax *formdata.SyntaxError
	switch {
	case err == nil:
		return &f.Form, nil
	case failed != nil:
		return nil, failed
	case errors.Is(err, formdata.ErrBoundary):
		return nil, invalid("", "The \"boundary\" in Content-Type is not valid: "+err.Error()+".")
	case errors.As(err, &syntax):
		return nil, invalid("", "The body is not a multipart form: "+err.Error()+".")
	}
	return nil, unreadable()
}

// read reads a part if it is the model or the stream flag.
func (f *formReader) read(p formdata.Part, content func(int) ([]byte, error)) *Error {
	name := strings.ToLower(strings.TrimSpace(p.Name))
	if p.Name == "n" && p.Plain && p.Value.End-p.Value.Start < maxNumber {
		return f.readN(content)
	}
	if name == "response_format" && p.Value.End-p.Value.Start <= maxModelName {
		value, err := content(maxModelName)
		if err != nil {
			return unreadable()
		}
		f.PlainText = f.PlainText || isPlainText(string(value))
	}
	if name != "model" && name != "stream" {
		return nil
	}
	if p.Name != name || !p.Plain {
		return invalid(name, fmt.Sprintf("The form's part %q is ambiguous; name it %q and send it as plain text without a filename or encoding.", p.Name, name))
	}
	if name == "model" && f.HasModel || name == "stream" && f.hasStream {
		return invalid(name, fmt.Sprintf("The form has more than one part %q, and servers disagree on which one counts. Send it once.", name))
	}
	if n := p.Value.End - p.Value.Start; n > maxModelName {
		return invalid(name, fmt.Sprintf("The form's part %q is %d bytes long; the limit is %d.", name, n, maxModelName))
	}
	value, err := content(maxModelName)
	if err != nil {
		return unreadable()
	}
	if name == "stream" {
		stream, err := strconv.ParseBool(string(value))
		if err != nil {
			return invalid("stream", fmt.Sprintf("The form's part \"stream\" must be true or false, not %.40q.", value))
		}
		f.Stream, f.hasStream = stream, true
		return nil
	}
	if err := checkModel(value); err != nil {
		return err
	}
	f.Model, f.HasModel, f.ModelSpan = string(value), true, p.Value
	return nil
}

// maxNumber is longer than a number of choices, in bytes.
const maxNumber = 16

// readN reads the number of choices. The upstream reports what is wrong with it.
func (f *formReader) readN(content func(int) ([]byte, error)) *Error {
	value, err := content(maxNumber)
	if err != nil {
		return unreadable()
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(value))); err == nil {
		f.N = max(f.N, n)
	}
	return nil
}

// isPlainText reports whether a format of transcriptions is not JSON.
func isPlainText(format string) bool {
	switch strings.ToLower(strings.TrimSpace(format)) {
	case "text", "srt", "vtt":
		return true
	}
	return false
}

// unreadable does not include the cause, which contains the path of a temporary file.
func unreadable() *Error {
	return &Error{Status: http.StatusInternalServerError, Type: "server_error", Message: "The gateway could not read back the form that it had stored. Try again."}
}
