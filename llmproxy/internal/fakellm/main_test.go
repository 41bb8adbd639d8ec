package fakellm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	chatBody   = `{"model":"tiny","messages":[{"role":"user","content":"Hi"}]}`
	streamBody = `{"model":"tiny","stream":true,"messages":[{"role":"user","content":"Hi"}]}`
)

// post sends a request and returns the answer with its body unread.
func post(t *testing.T, s *Server, path, body string) *http.Response {
	t.Helper()
	resp, err := try(t, s, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func try(t *testing.T, s *Server, path, body string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client(t).Do(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

// status returns the status of an answer, or 0 if there was an error. It may be called from any goroutine.
func status(t *testing.T, s *Server, method, path, body string) int {
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	resp, err := client(t).Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// get sends a GET request and returns status and body.
func get(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, all(t, resp)
}

// all reads a body, which must end without an error.
func all(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%v after %q", err, b)
	}
	return string(b)
}

// outline abbreviates a stream: r for an event with a role only, (text) for a token, f for the finish, u for usage, e for an
// error, d for [DONE], c for a comment, ~ for half an event; then how the body ended.
func outline(resp *http.Response) string {
	b, err := io.ReadAll(resp.Body)
	var out strings.Builder
	for event := range strings.SplitSeq(strings.TrimSuffix(string(b), "\n\n"), "\n\n") {
		out.WriteString(sign(event))
	}
	switch {
	case err == nil:
		out.WriteString(" eof")
	case errors.Is(err, io.ErrUnexpectedEOF):
		out.WriteString(" broken")
	case errors.Is(err, syscall.ECONNRESET):
		out.WriteString(" reset")
	default:
		fmt.Fprintf(&out, " %v", err)
	}
	return out.String()
}

func sign(event string) string {
	has := func(s string) bool { return strings.Contains(event, s) }
	switch {
	case event == "":
		return ""
	case strings.HasPrefix(event, ":"):
		return "c"
	case has("[DONE]"):
		return "d"
	case has(`"error":{`), has(`"error": {`):
		return "e"
	case has(`"finish_reason":"`):
		return "f"
	case has(`"choices":[]`):
		return "u"
	case has(`"content":""`), has(`"content":null`):
		return "r"
	}
	_, rest, _ := strings.Cut(event, `"content":"`)
	text, _, whole := strings.Cut(rest, `"`)
	if !whole {
		return "~" // half an event
	}
	return "(" + text + ")"
}

// firstEvent reads one event.
func firstEvent(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var event strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, event.String())
		}
		event.WriteString(line)
		if line == "\n" {
			return event.String()
		}
	}
}
