package openai

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// FuzzForm holds the form's reader against mime/multipart: what it accepts a Go server must read the same way, and what
// mime/multipart writes it must read.
func FuzzForm(f *testing.F) {
	for _, form := range []string{
		field("model", "whisper-1") + "--b--\r\n", filePart + field("model", "a") + field("stream", "true") + "--b--\r\n",
		"x\r\n" + field("Model", "a") + "--b--", field("model", "a\r\n--bb") + "--b \r\n\r\n\r\n--b--\r\nx",
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
