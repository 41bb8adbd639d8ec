package fakellm

import (
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestLoadCapture(t *testing.T) {
	t.Parallel()
	const text = "# a: note\n# server: s\n\n>>> request\nPOST /v1/x?y=z HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}\n\n<<< response\n" +
		"HTTP/1.1 404 Not Found\nServer: s\nX-Empty: \n\n{\"a\":\n\n1}\n"
	fsys := fstest.MapFS{
		"good.txt":   {Data: []byte(text)},
		"note.txt":   {Data: []byte("# only a note\n")},
		"status.txt": {Data: []byte(strings.Replace(text, "404", "none", 1))},
		"line.txt":   {Data: []byte(strings.Replace(text, "POST /v1/x?y=z HTTP/1.1", "POST", 1))},
	}
	got, err := LoadCapture(fsys, "good.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := &Capture{
		Name: "good.txt",
		Request: CapturedRequest{
			Method: "POST", Path: "/v1/x?y=z", Header: http.Header{"Host": {"h"}, "Content-Length": {"2"}}, Body: []byte("{}"),
		},
		Status: 404, Header: http.Header{"Server": {"s"}, "X-Empty": {""}}, Body: []byte("{\"a\":\n\n1}\n"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range []string{"note.txt", "status.txt", "line.txt", "missing.txt"} {
		if c, err := LoadCapture(fsys, name); err == nil {
			t.Errorf("%s: got %+v", name, c)
		}
	}
}
