package fakellm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// replayOnly are captures that the fakes cannot reproduce: tool calls, reasoning, Anthropic's API, and servers that were started differently.
var replayOnly = []string{
	"llamacpp/chat-tools.txt", "llamacpp/chat-tools-stream.txt", "llamacpp/chat-reasoning-stream.txt", "llamacpp/embeddings-disabled.txt",
	"llamacpp/chat-reasoning.txt", "llamacpp/chat-tool-result.txt",
	"vllm/chat-tools.txt", "vllm/chat-tools-stream.txt", "vllm/responses.txt", "vllm/responses-stream.txt",
	"vllm/err-image.txt", "vllm/err-embeddings.txt", "vllm/err-content-type.txt", "vllm/err-empty-messages.txt",
	"ollama/v1-chat-reasoning.txt",
	"ollama/v1-chat-tools.txt", "ollama/v1-chat-tools-stream.txt", "ollama/v1-chat-reasoning-stream.txt", "ollama/err-v1-image.txt",
}

// captureScripts are the answers for captures that the request alone does not determine.
var captureScripts = map[string]Answer{
	"llamacpp/err-context.txt":        TooLong(),
	"llamacpp/err-context-stream.txt": TooLong(),
	"ollama/context-long.txt":         TooLong(),
	"vllm/err-context.txt":            TooLong(),
	"vllm/err-context-stream.txt":     TooLong(),
	// vLLM sends tokens together that arrive together.
	"vllm/chat-stream.txt":        Text("Hello", " from", " the tiny", " test", " model", "."),
	"vllm/chat-stream-usage.txt":  Text("Hello", " from", " the tiny", " test", " model", "."),
	"vllm/completions-stream.txt": Text(" one", " two"), // the third has the finish
}

// captureParts are captures whose fields the fakes have only in part.
var captureParts = []string{"llamacpp/props.txt", "llamacpp/metrics.txt", "llamacpp/head-health.txt"}

// A fake answers a captured request with the same structure as the real server.
func TestCaptures(t *testing.T) {
	t.Parallel()
	for _, name := range captureNames(t) {
		if slices.Contains(replayOnly, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := LoadCapture(t, name)
			kind, _, _ := strings.Cut(name, "/")
			s := Start(t, kind, Models("tiny", "tiny-embed", "slow"), Slots(2))
			if a, ok := captureScripts[name]; ok {
				s.Always(a)
			}
			got := capture(t, s, c)
			if want, have := describe(t, c), describe(t, got); slices.Contains(captureParts, name) {
				within(t, want, have, "")
			} else if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("differs from the real server (-real +fake):\n%s\nfake answered: %s", diff, got.Body)
			}
		})
	}
}

// Replay answers with a capture's bytes.
func TestReplay(t *testing.T) {
	t.Parallel()
	for _, name := range captureNames(t) {
		c := LoadCapture(t, name)
		if !strings.HasPrefix(c.Path, "/v1/") || c.Method != http.MethodPost {
			continue
		}
		kind, _, _ := strings.Cut(name, "/")
		if kinds[kind].endpoints[c.Path] == nil || name == "ollama/other-host.txt" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, kind)
			s.Next(Replay(c))
			got := capture(t, s, c)
			if got.Status != c.Status || !bytes.Equal(got.Body, c.Body) {
				t.Errorf("got %d\n%s\nwant %d\n%s", got.Status, got.Body, c.Status, c.Body)
			}
			if diff := cmp.Diff(describe(t, c), describe(t, got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func captureNames(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(captures, "testdata/captures/*/*.txt")
	if err != nil || len(names) < 60 {
		t.Fatalf("%d captures, %v", len(names), err)
	}
	for i, name := range names {
		names[i] = strings.TrimPrefix(name, "testdata/captures/")
	}
	return names
}

// capture sends the request of a capture and returns the answer as a capture.
func capture(t *testing.T, s *Server, c *Capture) *Capture {
	t.Helper()
	body := c.RequestBody
	if bytes.Contains(body, []byte("... [body cut here: ")) {
		body = fmt.Appendf(nil, `{"model":"tiny","stream":%t,"messages":[{}]}`, strings.Contains(c.Name, "stream"))
	}
	req, err := http.NewRequestWithContext(t.Context(), c.Method, s.URL()+c.Path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = c.RequestHeader.Clone()
	req.Header.Del("Content-Length")
	req.Host = c.RequestHeader.Get("Host")
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := &Capture{Status: resp.StatusCode, Header: resp.Header}
	if resp.Close {
		got.Header.Set("Connection", "close")
	}
	if got.Body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return got
}

// client returns a client that shares no connection with other tests.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// describe returns the structure of an answer, without IDs, counts and texts: status, header names, content type, shape of the body.
func describe(t *testing.T, c *Capture) map[string]any {
	t.Helper()
	headers := map[string]any{}
	for name := range c.Header {
		switch name {
		case "Date", "Content-Length", "Transfer-Encoding", "Keep-Alive": // set by net/http for each connection
		case "Connection":
			if c.Header.Get(name) == "close" {
				headers[name] = "close"
			}
		default:
			headers[name] = "present"
		}
	}
	ctype := c.Header.Get("Content-Type")
	d := map[string]any{"status": c.Status, "headers": headers, "type": ctype}
	switch {
	case strings.Contains(ctype, "event-stream"):
		d["body"] = eventShapes(t, c.Body)
	case strings.Contains(ctype, "ndjson"):
		var shapes []any
		for line := range bytes.Lines(c.Body) {
			shapes = append(shapes, jsonShape(t, line))
		}
		d["body"] = shapes
	case strings.Contains(ctype, "json") && len(c.Body) > 0:
		d["body"] = jsonShape(t, c.Body)
	case strings.HasPrefix(ctype, "text/plain; version"):
		d["body"] = metricNames(c.Body)
	default:
		d["body"] = string(c.Body)
	}
	return d
}

func eventShapes(t *testing.T, body []byte) []any {
	t.Helper()
	var shapes []any
	for event := range strings.SplitSeq(strings.TrimSuffix(string(body), "\n\n"), "\n\n") {
		name, content, found := strings.Cut(event, "data: ")
		switch {
		case !found:
			shapes = append(shapes, event)
		case content == "[DONE]":
			shapes = append(shapes, content)
		default:
			shapes = append(shapes, map[string]any{"event": name, "data": jsonShape(t, []byte(content))})
		}
	}
	return shapes
}

func jsonShape(t *testing.T, body []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return shapeOf(v)
}

// shapeOf keeps keys and types; an array becomes the set of its elements' shapes.
func shapeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for key, value := range v {
			m[key] = shapeOf(value)
		}
		return m
	case []any:
		var set []any
		for _, e := range v {
			shape := shapeOf(e)
			if !slices.ContainsFunc(set, func(s any) bool { return cmp.Equal(s, shape) }) {
				set = append(set, shape)
			}
		}
		return set
	case nil:
		return "null"
	}
	return fmt.Sprintf("%T", v)
}

func metricNames(body []byte) map[string]any {
	names := map[string]any{}
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, "#") {
			name, _, _ := strings.Cut(line, " ")
			names[name] = "number"
		}
	}
	return names
}

// within fails the test for everything in have that is missing or different in want.
func within(t *testing.T, want, have any, where string) {
	t.Helper()
	h, ok := have.(map[string]any)
	w, ok2 := want.(map[string]any)
	if !ok || !ok2 {
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s (-real +fake):\n%s", where, diff)
		}
		return
	}
	for key, value := range h {
		if w[key] == nil {
			t.Errorf("the real server has no %s.%s", where, key)
			continue
		}
		within(t, w[key], value, where+"."+key)
	}
}

func TestParseCapture(t *testing.T) {
	t.Parallel()
	const text = "# a: note\n# server: s\n\n>>> request\nPOST /v1/x?y=z HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}\n\n<<< response\n" +
		"HTTP/1.1 404 Not Found\nServer: s\nX-Empty: \n\n{\"a\":\n\n1}\n"
	got, err := parseCapture("good.txt", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := &Capture{
		Name: "good.txt", Method: "POST", Path: "/v1/x?y=z",
		RequestHeader: http.Header{"Host": {"h"}, "Content-Length": {"2"}}, RequestBody: []byte("{}"),
		Status: 404, Header: http.Header{"Server": {"s"}, "X-Empty": {""}}, Body: []byte("{\"a\":\n\n1}\n"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, text := range map[string]string{
		"no exchange": "# only a note\n",
		"status":      strings.Replace(text, "404", "none", 1),
		"first line":  strings.Replace(text, "POST /v1/x?y=z HTTP/1.1", "POST", 1),
	} {
		if c, err := parseCapture(name, []byte(text)); err == nil {
			t.Errorf("%s: got %+v", name, c)
		}
	}
}
