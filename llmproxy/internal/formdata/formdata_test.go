package formdata

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	t.Parallel()
	form := strings.Join([]string{
		"--b", `Content-Disposition: form-data; name="file"; filename="a.wav"`, "Content-Type: audio/wav", "", "RIFF", "--",
		"--b", `Content-Disposition: form-data; name="model"`, "", "whisper-1", "--b--", "",
	}, "\r\n")
	type part struct {
		Name    string
		Plain   bool
		Content string
	}
	var got []part
	err := Read(strings.NewReader(form), int64(len(form)), "b", func(p Part, content func(int) ([]byte, error)) error {
		text, err := content(6)
		got = append(got, part{p.Name, p.Plain, string(text)})
		if whole := form[p.Value.Start:p.Value.End]; !strings.HasPrefix(whole, string(text)) {
			t.Errorf("the part %q is %q", p.Name, whole)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]part{{"file", false, "RIFF\r\n"}, {"model", true, "whispe"}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	stop := errors.New("stop")
	visit := func(Part, func(int) ([]byte, error)) error { return stop }
	for name, test := range map[string]struct {
		form, boundary string
		want           error
	}{
		"an invalid boundary": {"--b--", "b\n", ErrBoundary},
		"the visitor's":       {"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--", "b", stop},
		"cut off":             {"--b\r\n\r\nx", "b", &SyntaxError{8, "the closing boundary is missing; the form may have been truncated"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Read(strings.NewReader(test.form), int64(len(test.form)), test.boundary, visit)
			var syntax *SyntaxError
			if errors.As(test.want, &syntax) {
				if err == nil || err.Error() != test.want.Error() {
					t.Errorf("%v, want %v", err, test.want)
				}
			} else if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}
