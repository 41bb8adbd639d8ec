package openai

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// crlf joins lines with the line breaks of a form.
func crlf(lines ...string) string { return strings.Join(lines, "\r\n") }

// formField returns a part with a value.
func formField(name, value string) string {
	return crlf("--b", `Content-Disposition: form-data; name="`+name+`"`, "", value, "")
}

const filePart = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n--\r\n\x00\r\n"

func TestParseForm(t *testing.T) {
	t.Parallel()
	model := Form{Model: "whisper-1", HasModel: true}
	for _, tt := range []struct {
		name, form string
		want       Form
	}{
		{"model only", formField("model", "whisper-1") + "--b--", model},
		{"model after the file", filePart + formField("model", "whisper-1") + "--b--\r\n", model},
		{"model before the file", formField("model", "whisper-1") + filePart + "--b--\r\n", model},
		{"stream", formField("model", "whisper-1") + formField("stream", "true") + "--b--\r\n", Form{Model: "whisper-1", HasModel: true, Stream: true}},
		{"python's True", formField("stream", "True") + "--b--\r\n", Form{Stream: true}},
		{"stream false", formField("stream", "false") + "--b--\r\n", Form{}},
		{"three images", formField("n", " 3\r") + "--b--\r\n", Form{N: 3}},
		{"images without a number", formField("n", "many") + "--b--\r\n", Form{}},
		{"two numbers", formField("n", "2") + formField("n", "1") + "--b--\r\n", Form{N: 2}},
		{"a number too long to be one", formField("n", strings.Repeat("1", 20)) + "--b--\r\n", Form{}},
		{"another spelling", formField("N", "2") + "--b--\r\n", Form{}},
		{"no model", filePart + "--b--\r\n", Form{}},
		{"similar names", formField("models", "x") + formField("model[]", "y") + formField("model", "whisper-1") + "--b--", model},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseForm(strings.NewReader(tt.form), int64(len(tt.form)), "b")
			if err != nil {
				t.Fatalf("ParseForm = %v", err)
			}
			if diff := cmp.Diff(tt.want, *got, cmpopts.IgnoreFields(Form{}, "ModelSpan", "Size")); diff != "" {
				t.Errorf("ParseForm (-want +got):\n%s", diff)
			}
			if at := tt.form[got.ModelSpan.Start:got.ModelSpan.End]; at != tt.want.Model || got.Size != int64(len(tt.form)) {
				t.Errorf("the model's span has %q, the size is %d", at, got.Size)
			}
		})
	}
}

func TestParseFormRejects(t *testing.T) {
	t.Parallel()
	end := "--b--\r\n"
	part := func(header string) string { return crlf("--b", header, "", "x", end) }
	for _, tt := range []struct{ name, form, param, message string }{
		{"model repeated", formField("model", "a") + formField("model", "b") + end, "model", "more than one part"},
		{"model before and after the file", formField("model", "a") + filePart + formField("model", "b") + end, "model", "more than one part"},
		{"stream repeated", formField("stream", "true") + formField("stream", "true") + end, "stream", "more than one part"},
		{"model in capitals", formField("Model", "a") + end, "model", "ambiguous"},
		{"model with a space", formField(" model", "a") + end, "model", "ambiguous"},
		{"model as a file", part(`Content-Disposition: form-data; name="model"; filename="x"`), "model", "ambiguous"},
		{"model as a file with an empty name", part(`Content-Disposition: form-data; name="model"; filename=""`), "model", "ambiguous"},
		{"stream as a file", part(`Content-Disposition: form-data; filename*=utf-8''x; name="stream"`), "stream", "ambiguous"},
		{"model in base64", part("Content-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"model\""), "model", "ambiguous"},
		{"model in quoted-printable", part("Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: quoted-printable"), "model", "ambiguous"},
		{"model empty", formField("model", "") + end, "model", "empty"},
		{"model without a value", crlf("--b", `Content-Disposition: form-data; name="model"`, "", end), "model", "empty"},
		{"model too long", formField("model", strings.Repeat("m", 257)) + end, "model", "257 bytes"},
		{"model with a line break", formField("model", "a\r\nb") + end, "model", "control character"},
		{"model not UTF-8", formField("model", "\xff") + end, "model", "UTF-8"},
		{"stream neither true nor false", formField("stream", "maybe") + end, "stream", "true or false"},
		{"truncated", formField("model", "a"), "", "closing boundary is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			form, err := ParseForm(strings.NewReader(tt.form), int64(len(tt.form)), "b")
			if err == nil {
				t.Fatalf("ParseForm accepted the form: %+v", *form)
			}
			if err.Status != http.StatusBadRequest || err.Code != "invalid_request" || err.Param != tt.param || !strings.Contains(err.Message, tt.message) {
				t.Errorf("ParseForm = %+v, want a 400 for %q with %q", *err, tt.param, tt.message)
			}
		})
	}
}

func TestParseFormBoundary(t *testing.T) {
	t.Parallel()
	form, err := ParseForm(strings.NewReader("--b--"), 5, "b ")
	if err == nil || err.Status != http.StatusBadRequest || !strings.Contains(err.Message, `"boundary" in Content-Type`) {
		t.Errorf("ParseForm = %+v, %+v, want a 400 for the boundary", form, err)
	}
}

func TestParseFormUnreadable(t *testing.T) {
	t.Parallel()
	_, err := ParseForm(brokenReader{}, 100, "b")
	if err == nil || err.Status != http.StatusInternalServerError || strings.Contains(err.Message, iotest.ErrTimeout.Error()) {
		t.Errorf("ParseForm = %+v, want a 500 without the cause", err)
	}
}

type brokenReader struct{}

func (brokenReader) ReadAt([]byte, int64) (int, error) { return 0, iotest.ErrTimeout }

// FuzzForm compares ParseForm with mime/multipart: a Go server must read every accepted form the same way, and ParseForm must read
// what mime/multipart writes.
func FuzzForm(f *testing.F) {
	for _, form := range []string{
		formField("model", "whisper-1") + "--b--\r\n", filePart + formField("model", "a") + formField("stream", "true") + "--b--\r\n",
		"x\r\n" + formField("Model", "a") + "--b--", formField("model", "a\r\n--bb") + "--b \r\n\r\n\r\n--b--\r\nx",
		"--b\r\nContent-Disposition: form-data; name=\"model\"; filename*=utf-8''x\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n--b--",
		"--b\nContent-Disposition: form-data; name=model\n\na\n--b--", "--b\r\nContent-Disposition: form-data; x=1; name=\"model\"; x=2\r\n\r\na\r\n--b--",
	} {
		f.Add([]byte(form), "whisper-1", []byte("RIFF"))
	}
	f.Fuzz(func(t *testing.T, form []byte, name string, file []byte) {
		got, err := ParseForm(bytes.NewReader(form), int64(len(form)), "b")
		if err == nil {
			checkForm(t, form, got)
		} else if err.Status != 400 {
			t.Fatalf("ParseForm = %+v", *err)
		}
		checkWritten(t, name, file)
	})
}

// checkForm reads an accepted form with mime/multipart.
func checkForm(t *testing.T, form []byte, got *Form) {
	t.Helper()
	want := Form{ModelSpan: got.ModelSpan, Size: int64(len(form))}
	parts := multipart.NewReader(bytes.NewReader(form), "b")
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("mime/multipart rejects the form: %v", err)
		}
		value, err := io.ReadAll(part)
		if err != nil {
			t.Fatalf("mime/multipart rejects the form: %v", err)
		}
		switch part.FormName() {
		case "model":
			if want.HasModel || part.FileName() != "" {
				t.Fatal("mime/multipart finds another model")
			}
			want.Model, want.HasModel = string(value), true
		case "stream":
			if want.Stream, err = strconv.ParseBool(string(value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Fatalf("ParseForm differs from mime/multipart (-want +got):\n%s", diff)
	}
	if at := string(form[got.ModelSpan.Start:got.ModelSpan.End]); at != got.Model {
		t.Fatalf("the model's span has %q, want %q", at, got.Model)
	}
}

// checkWritten reads a form that mime/multipart wrote.
func checkWritten(t *testing.T, name string, content []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	file, err := w.CreateFormFile("file", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.WriteField("model", name), w.WriteField("stream", "1"), w.Close()); err != nil {
		t.Fatal(err)
	}
	got, problem := ParseForm(bytes.NewReader(b.Bytes()), int64(b.Len()), w.Boundary())
	if bad := checkModel([]byte(name)); bad != nil || !utf8.ValidString(name) {
		if problem == nil {
			t.Fatalf("ParseForm accepted the model %q", name)
		}
		return
	}
	if problem != nil || got.Model != name || !got.Stream {
		t.Fatalf("ParseForm = %+v, %v, want model %q", got, problem, name)
	}
}
