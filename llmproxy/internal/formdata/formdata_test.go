package formdata

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// The form reader is fuzzed together with what package openai does with it: see FuzzForm there, which compares it with
// mime/multipart.

// crlf joins lines with the line breaks of a form.
func crlf(lines ...string) string { return strings.Join(lines, "\r\n") }

// field returns a part with a value.
func field(name, value string) string {
	return crlf("--b", `Content-Disposition: form-data; name="`+name+`"`, "", value, "")
}

const (
	filePart = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n--\r\n\x00\r\n"
	end      = "--b--\r\n"
)

// A part is a Part with its content.
type part struct {
	Name    string
	Plain   bool
	Content string
}

// readAll reads all parts of a form with the boundary b.
func readAll(form string) (parts []part, err error) {
	err = Read(strings.NewReader(form), int64(len(form)), "b", func(p Part, content func(int) ([]byte, error)) error {
		text, err := content(len(form))
		parts = append(parts, part{p.Name, p.Plain, string(text)})
		return err
	})
	return parts, err
}

func TestRead(t *testing.T) {
	t.Parallel()
	file, model := part{"file", false, "RIFF\r\n--\r\n\x00"}, part{"model", true, "whisper-1"}
	for _, tt := range []struct {
		name, form string
		want       []part
	}{
		{"no part", "--b--\r\n", nil},
		{"value", field("model", "whisper-1") + "--b--", []part{model}},
		{"line break at the end", field("model", "whisper-1") + end, []part{model}},
		{"file and value", filePart + field("model", "whisper-1") + end, []part{file, model}},
		{"preamble and epilogue", "This is MIME.\r\n" + field("model", "whisper-1") + "--b--\r\nbye\r\n", []part{model}},
		{"empty preamble", "\r\n" + field("model", "whisper-1") + "--b--", []part{model}},
		{"padding", strings.Replace(field("model", "whisper-1"), "--b", "--b \t ", 1) + "--b-- \t\r\n", []part{model}},
		{"lower-case header", crlf("--b", `content-disposition:form-data;name=model`, "", "whisper-1", "--b--"), []part{model}},
		{"header of several lines", crlf("--b", "Content-Type: text/plain; charset=utf-8", "X-A: b", `Content-Disposition: form-data; name="model"`, "Content-Transfer-Encoding: 8bit", "", "whisper-1", "--b--"), []part{model}},
		{"empty part", crlf("--b", `Content-Disposition: form-data; name="x"`, "", "--b", `Content-Disposition: form-data; name="model"`, "", "whisper-1", "--b--"), []part{{"x", true, ""}, model}},
		{"part without a header", crlf("--b", "", "text", "") + field("model", "whisper-1") + "--b--", []part{{"", true, "text"}, model}},
		{"boundary inside a line", field("prompt", "a --b and --b--") + field("model", "whisper-1") + "--b--", []part{{"prompt", true, "a --b and --b--"}, model}},
		{"quote in a filename", strings.Replace(filePart, "a.wav", `a\"; name=\"model`, 1) + field("model", "whisper-1") + "--b--", []part{file, model}},
		{"filename in another encoding", strings.Replace(filePart, `filename="a.wav"`, `filename*=utf-8''%e2%82%ac.wav`, 1) + field("model", "whisper-1") + "--b--", []part{file, model}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := readAll(tt.form)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("Read = %v, parts (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestReadRejects(t *testing.T) {
	t.Parallel()
	header := func(lines string) string { return crlf("--b", lines, "", "x", end) }
	for _, tt := range []struct{ name, form, message string }{
		{"encoded name", header(`Content-Disposition: form-data; name*=utf-8''model`), "encoded"},
		{"name in pieces", header(`Content-Disposition: form-data; name*0="mo"; name*1="del"`), "encoded"},
		{"escape in a name", header(`Content-Disposition: form-data; name="mod\el"`), "Content-Disposition"},
		{"two names", header(`Content-Disposition: form-data; name="x"; name="model"`), "Content-Disposition"},
		{"two dispositions", header("Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\""), "more than one"},
		{"another disposition", header(`Content-Disposition: attachment; name="model"`), "Content-Disposition"},
		{"open quote", header(`Content-Disposition: form-data; name="model`), "Content-Disposition"},
		{"text after a quote", header(`Content-Disposition: form-data; name="x"y; name="model"`), "Content-Disposition"},
		{"no equals sign", header(`Content-Disposition: form-data; name`), "Content-Disposition"},
		{"folded header", header("Content-Disposition: form-data;\r\n name=\"model\""), "invalid line"},
		{"space before the colon", header(`Content-Disposition : form-data; name="model"`), "invalid line"},
		{"no colon", header(`Content-Disposition`), "invalid line"},
		{"lone LF in a header", header("X: y\nContent-Disposition: form-data; name=\"model\""), "invalid line"},
		{"boundary in a header", header("--b: x"), "boundary in the header"},
		{"endless header", "--b\r\nX: " + strings.Repeat("y", 20<<10), "16 KiB"},
		{"empty", "", "closing boundary is missing"},
		{"JSON", `{"model":"a"}`, "closing boundary is missing"},
		{"no end", field("model", "a"), "closing boundary is missing"},
		{"truncated in the last boundary", field("model", "a") + "--b-", "not followed by CR LF"},
		{"truncated in a value", "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisp", "closing boundary is missing"},
		{"text after a boundary", field("x", "y") + "--bb\r\n" + end, "not followed by CR LF"},
		{"text after the last boundary", field("x", "y") + "--b--x\r\n", "not followed by CR LF"},
		{"lone LF after a boundary", strings.ReplaceAll(field("model", "a")+end, "\r\n", "\n"), "not followed by CR LF"},
		{"lone LF before a boundary", field("x", "y\n--b") + end, "not CR LF"},
		{"lone CR before a boundary", field("x", "y\r--b") + end, "not CR LF"},
		{"boundary after the end", field("model", "a") + end + field("model", "b") + end, "again after the end"},
		{"too many parts", strings.Repeat(field("x", ""), maxParts+1) + end, "more than 1000 parts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			parts, err := readAll(tt.form)
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || !strings.Contains(syntax.Msg, tt.message) || syntax.Offset < 0 || syntax.Offset > int64(len(tt.form)) {
				t.Errorf("Read = %v with parts %v, want a *SyntaxError with %q", err, parts, tt.message)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	for _, boundary := range []string{"", "b ", "a\r\nb", "a\"b", "ü", strings.Repeat("b", 71)} {
		if err := Read(strings.NewReader("--b--"), 5, boundary, nil); err != ErrBoundary {
			t.Errorf("Read = %v with the boundary %q, want ErrBoundary", err, boundary)
		}
	}
	stop := errors.New("stop")
	form := field("a", "x") + end
	visit := func(Part, func(int) ([]byte, error)) error { return stop }
	if err := Read(strings.NewReader(form), int64(len(form)), "b", visit); err != stop {
		t.Errorf("Read = %v, want the error of visit", err)
	}
	if err := Read(brokenReader{}, 100, "b", visit); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("Read = %v, want the error of the reader", err)
	}
	truncated := "--b\r\n\r\nx"
	if _, err := readAll(truncated); err == nil || err.Error() != "the closing boundary is missing; the form may have been truncated (byte 8)" {
		t.Errorf("Read = %v for %q", err, truncated)
	}
}

type brokenReader struct{}

func (brokenReader) ReadAt([]byte, int64) (int, error) { return 0, iotest.ErrTimeout }

// A form that is several times the window must be read with one window, wherever its boundaries are.
func TestReadWindow(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 3*windowSize)
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
		if _, err := file.Write(noise[:2*windowSize+offset-b.Len()]); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.WriteField("model", "whisper-1"), w.Close()); err != nil {
			t.Fatal(err)
		}
		r := &measuredReader{r: bytes.NewReader(b.Bytes())}
		model := ""
		if err := Read(r, int64(b.Len()), w.Boundary(), func(p Part, content func(int) ([]byte, error)) error {
			text, err := content(100)
			model = string(text)
			return err
		}); err != nil || model != "whisper-1" {
			t.Fatalf("offset %d: Read = %v, the last part is %q", offset, err, model)
		}
		if r.largest > windowSize || r.total > int64(b.Len())+4*windowSize {
			t.Fatalf("offset %d: read %d bytes of %d, at most %d at once", offset, r.total, b.Len(), r.largest)
		}
	}
}

// A measuredReader records how much is read.
type measuredReader struct {
	r       io.ReaderAt
	largest int
	total   int64
}

func (m *measuredReader) ReadAt(p []byte, at int64) (int, error) {
	m.largest = max(m.largest, len(p))
	m.total += int64(len(p))
	return m.r.ReadAt(p, at)
}
