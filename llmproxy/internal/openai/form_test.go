package openai

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/formdata"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// crlf writes a form down with the line ends that it must have.
func crlf(lines ...string) string { return strings.Join(lines, "\r\n") }

// formField is a part that holds a value.
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
		{"model alone", formField("model", "whisper-1") + "--b--", model},
		{"line end at the end", formField("model", "whisper-1") + "--b--\r\n", model},
		{"model behind the file", filePart + formField("model", "whisper-1") + "--b--\r\n", model},
		{"model before the file", formField("model", "whisper-1") + filePart + "--b--\r\n", model},
		{"stream", formField("model", "whisper-1") + formField("stream", "true") + "--b--\r\n", Form{Model: "whisper-1", HasModel: true, Stream: true}},
		{"python's True", formField("stream", "True") + "--b--\r\n", Form{Stream: true}},
		{"no stream", formField("stream", "false") + "--b--\r\n", Form{}},
		{"no model", filePart + "--b--\r\n", Form{}},
		{"no part", "--b--\r\n", Form{}},
		{"preamble and epilogue", "This is MIME.\r\n" + formField("model", "whisper-1") + "--b--\r\nbye\r\n", model},
		{"empty preamble", "\r\n" + formField("model", "whisper-1") + "--b--", model},
		{"padding", strings.Replace(formField("model", "whisper-1"), "--b", "--b \t ", 1) + "--b-- \t\r\n", model},
		{"header in other letters", crlf("--b", `content-disposition:form-data;name=model`, "", "whisper-1", "--b--"), model},
		{"header with more lines", crlf("--b", "Content-Type: text/plain; charset=utf-8", "X-A: b", `Content-Disposition: form-data; name="model"`, "Content-Transfer-Encoding: 8bit", "", "whisper-1", "--b--"), model},
		{"empty part before a boundary", crlf("--b", `Content-Disposition: form-data; name="x"`, "", "--b", `Content-Disposition: form-data; name="model"`, "", "whisper-1", "--b--"), model},
		{"part without a header", crlf("--b", "", "text", "") + formField("model", "whisper-1") + "--b--", model},
		{"boundary inside a line", formField("prompt", "a --b and --b--") + formField("model", "whisper-1") + "--b--", model},
		{"quote in a filename", strings.Replace(filePart, "a.wav", `a\"; name=\"model`, 1) + formField("model", "whisper-1") + "--b--", model},
		{"filename in another encoding", strings.Replace(filePart, `filename="a.wav"`, `filename*=utf-8''%e2%82%ac.wav`, 1) + formField("model", "whisper-1") + "--b--", model},
		{"names that look like it", formField("models", "x") + formField("model[]", "y") + formField("model", "whisper-1") + "--b--", model},
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
				t.Errorf("the model's span holds %q, the size is %d", at, got.Size)
			}
		})
	}
}

func TestParseFormRejects(t *testing.T) {
	t.Parallel()
	end := "--b--\r\n"
	part := func(header string) string { return crlf("--b", header, "", "x", end) }
	for _, tt := range []struct{ name, form, param, message string }{
		{"model twice", formField("model", "a") + formField("model", "b") + end, "model", "more than one part"},
		{"model around the file", formField("model", "a") + filePart + formField("model", "b") + end, "model", "more than one part"},
		{"stream twice", formField("stream", "true") + formField("stream", "true") + end, "stream", "more than one part"},
		{"model in capitals", formField("Model", "a") + end, "model", "ambiguous"},
		{"model with a space", formField(" model", "a") + end, "model", "ambiguous"},
		{"model as a file", part(`Content-Disposition: form-data; name="model"; filename="x"`), "model", "ambiguous"},
		{"model as a file without a name", part(`Content-Disposition: form-data; name="model"; filename=""`), "model", "ambiguous"},
		{"stream as a file", part(`Content-Disposition: form-data; filename*=utf-8''x; name="stream"`), "stream", "ambiguous"},
		{"model in base64", part("Content-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"model\""), "model", "ambiguous"},
		{"model in quoted-printable", part("Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: quoted-printable"), "model", "ambiguous"},
		{"model's name encoded", part(`Content-Disposition: form-data; name*=utf-8''model`), "", "encoded"},
		{"model's name in pieces", part(`Content-Disposition: form-data; name*0="mo"; name*1="del"`), "", "encoded"},
		{"model's name escaped", part(`Content-Disposition: form-data; name="mod\el"`), "", "Content-Disposition"},
		{"two names", part(`Content-Disposition: form-data; name="x"; name="model"`), "", "Content-Disposition"},
		{"two dispositions", part("Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\""), "", "more than one"},
		{"another disposition", part(`Content-Disposition: attachment; name="model"`), "", "Content-Disposition"},
		{"open quote", part(`Content-Disposition: form-data; name="model`), "", "Content-Disposition"},
		{"text behind a quote", part(`Content-Disposition: form-data; name="x"y; name="model"`), "", "Content-Disposition"},
		{"no equals sign", part(`Content-Disposition: form-data; name`), "", "Content-Disposition"},
		{"folded header", part("Content-Disposition: form-data;\r\n name=\"model\""), "", "invalid line"},
		{"space before the colon", part(`Content-Disposition : form-data; name="model"`), "", "invalid line"},
		{"no colon", part(`Content-Disposition`), "", "invalid line"},
		{"lone line end in a header", part("X: y\nContent-Disposition: form-data; name=\"model\""), "", "invalid line"},
		{"boundary in a header", part("--b: x"), "", "boundary in the header"},
		{"header without an end", "--b\r\nX: " + strings.Repeat("y", 20<<10), "", "16 KiB"},
		{"model empty", formField("model", "") + end, "model", "empty"},
		{"model without a value", crlf("--b", `Content-Disposition: form-data; name="model"`, "", end), "model", "empty"},
		{"model too long", formField("model", strings.Repeat("m", 257)) + end, "model", "257 bytes"},
		{"model with a line end", formField("model", "a\r\nb") + end, "model", "control character"},
		{"model not UTF-8", formField("model", "\xff") + end, "model", "UTF-8"},
		{"stream neither", formField("stream", "maybe") + end, "stream", "true or false"},
		{"nothing", "", "", "closing boundary is missing"},
		{"JSON", `{"model":"a"}`, "", "closing boundary is missing"},
		{"no end", formField("model", "a"), "", "closing boundary is missing"},
		{"cut in the last boundary", formField("model", "a") + "--b-", "", "not followed by CR LF"},
		{"cut in a value", "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisp", "", "closing boundary is missing"},
		{"text behind a boundary", formField("x", "y") + "--bb\r\n" + end, "", "not followed by CR LF"},
		{"text behind the last boundary", formField("x", "y") + "--b--x\r\n", "", "not followed by CR LF"},
		{"lone line end behind a boundary", strings.ReplaceAll(formField("model", "a")+end, "\r\n", "\n"), "", "not followed by CR LF"},
		{"lone line end before a boundary", formField("x", "y\n--b") + end, "", "not CR LF"},
		{"lone carriage return before a boundary", formField("x", "y\r--b") + end, "", "not CR LF"},
		{"boundary behind the end", formField("model", "a") + end + formField("model", "b") + end, "", "again after the end"},
		{"too many parts", strings.Repeat(formField("x", ""), 1001) + end, "", "more than 1000 parts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			form, err := ParseForm(strings.NewReader(tt.form), int64(len(tt.form)), "b")
			if err == nil {
				t.Fatalf("ParseForm accepted it: %+v", *form)
			}
			if err.Status != http.StatusBadRequest || err.Code != "invalid_request" || err.Param != tt.param || !strings.Contains(err.Message, tt.message) {
				t.Errorf("ParseForm = %+v, want a 400 for %q with %q", *err, tt.param, tt.message)
			}
		})
	}
}

func TestParseFormBoundary(t *testing.T) {
	t.Parallel()
	for _, boundary := range []string{"", "b ", "a\r\nb", "a\"b", "ü", strings.Repeat("b", 71)} {
		if form, err := ParseForm(strings.NewReader("--b--"), 5, boundary); err == nil {
			t.Errorf("ParseForm took the boundary %q: %+v", boundary, *form)
		}
	}
}

// A form that is many times the window must be read with one window, wherever in it the boundaries come to stand.
func TestParseFormWindow(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 3*formdata.WindowSize)
	for i := range noise {
		noise[i] = "-\r\nab"[random.IntN(5)]
	}
	for offset := -80; offset < 20; offset++ {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		file, err := w.CreateFormFile("file", "a.wav")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(noise[:2*formdata.WindowSize+offset-b.Len()]); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.WriteField("model", "whisper-1"), w.Close()); err != nil {
			t.Fatal(err)
		}
		r := &watchedReader{r: bytes.NewReader(b.Bytes())}
		form, problem := ParseForm(r, int64(b.Len()), w.Boundary())
		if problem != nil || form.Model != "whisper-1" {
			t.Fatalf("at offset %d: %+v, %v", offset, form, problem)
		}
		if r.largest > formdata.WindowSize || r.total > int64(b.Len())+4*formdata.WindowSize {
			t.Fatalf("at offset %d: %d bytes were read, at most %d at once, of %d", offset, r.total, r.largest, b.Len())
		}
	}
}

type watchedReader struct {
	r       io.ReaderAt
	largest int
	total   int64
}

func (w *watchedReader) ReadAt(p []byte, at int64) (int, error) {
	w.largest = max(w.largest, len(p))
	w.total += int64(len(p))
	return w.r.ReadAt(p, at)
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

// FuzzForm holds the form's reader against mime/multipart: what it accepts a Go server must read the same way, and what
// mime/multipart writes it must read.
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
			t.Fatalf("mime/multipart does not read it: %v", err)
		}
		value, err := io.ReadAll(part)
		if err != nil {
			t.Fatalf("mime/multipart does not read it: %v", err)
		}
		switch part.FormName() {
		case "model":
			if want.HasModel || part.FileName() != "" {
				t.Fatal("mime/multipart sees another model")
			}
			want.Model, want.HasModel = string(value), true
		case "stream":
			if want.Stream, err = strconv.ParseBool(string(value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Fatalf("mime/multipart reads it otherwise (-want +got):\n%s", diff)
	}
	if at := string(form[got.ModelSpan.Start:got.ModelSpan.End]); at != got.Model {
		t.Fatalf("the model's span holds %q, not %q", at, got.Model)
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
			t.Fatalf("ParseForm took the model %q", name)
		}
		return
	}
	if problem != nil || got.Model != name || !got.Stream {
		t.Fatalf("ParseForm = %+v, %v, want model %q", got, problem, name)
	}
}
