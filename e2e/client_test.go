package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The answers of the test models; see testmodel/mktiny.py.
const (
	hello   = "Hello from the tiny test model."
	numbers = " one two three four five six seven eight nine ten"
)

// normalized restores the leading space of a text, which newer versions of llama.cpp drop and Ollama does not.
func normalized(text string) string {
	if strings.HasPrefix(text, "one") {
		return " " + text
	}
	return text
}

// An apiError is an error in OpenAI's format.
type apiError struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    string `json:"code"`
}

type message struct {
	Content   string     `json:"content"`
	ToolCalls []toolCall `json:"tool_calls"`
}

type toolCall struct {
	ID       string `json:"id"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

// A completion is a chat answer or a chunk of one.
type completion struct {
	Choices []struct {
		Message      message `json:"message"`
		Delta        message `json:"delta"`
		FinishReason string  `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage    `json:"usage"`
	Error *apiError `json:"error"`
}

// A reply is a complete answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("%v in the answer %d %q", err, r.status, r.body)
	}
}

func (r reply) completion(t *testing.T) completion {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	var c completion
	r.into(t, &c)
	if len(c.Choices) == 0 {
		t.Fatalf("no choices in %s", r.body)
	}
	return c
}

func (r reply) failure(t *testing.T) apiError {
	t.Helper()
	var c completion
	r.into(t, &c)
	if c.Error == nil {
		t.Fatalf("no error in the answer %d %s", r.status, r.body)
	}
	return *c.Error
}

// open sends a request and returns when the headers of the answer have arrived. The end of the test cancels the request.
func open(t *testing.T, method, url, body string, header ...string) *http.Response {
	t.Helper()
	return openContext(t, t.Context(), method, url, body, header...)
}

func openContext(t *testing.T, ctx context.Context, method, url, body string, header ...string) *http.Response {
	t.Helper()
	answer, err := send(ctx, method, url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

func send(ctx context.Context, method, url, body string, header ...string) (*http.Response, error) {
	return sendBy(ctx, http.DefaultClient, method, url, body, header...)
}

func sendBy(ctx context.Context, client *http.Client, method, url, body string, header ...string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	return client.Do(request)
}

// do sends a request and reads the whole answer.
func do(t *testing.T, method, url, body string, header ...string) reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	answer := openContext(t, ctx, method, url, body, header...)
	read, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("reading the answer %s: %v", answer.Status, err)
	}
	return reply{answer.StatusCode, answer.Header, read}
}

func chat(t *testing.T, base, body string) reply {
	t.Helper()
	return do(t, http.MethodPost, base+"/v1/chat/completions", body)
}

// A stream is an event stream that is being read.
type stream struct {
	*http.Response
	lines      *bufio.Scanner
	transcript transcript
}

// A transcript is what a stream has sent so far.
type transcript struct {
	text    string
	pieces  int // events with content
	finish  string
	usage   *usage
	tools   []toolCall // assembled from their pieces
	done    bool       // [DONE] was received
	failure *apiError
	err     error // of the connection; nil: a clean end
}

func chatStream(t *testing.T, ctx context.Context, base, body string) *stream {
	t.Helper()
	return chatStreamBy(t, ctx, http.DefaultClient, base, body)
}

func chatStreamBy(t *testing.T, ctx context.Context, client *http.Client, base, body string) *stream {
	t.Helper()
	answer, err := sendBy(ctx, client, http.MethodPost, base+"/v1/chat/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	if kind := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/event-stream") {
		read, _ := io.ReadAll(answer.Body)
		t.Fatalf("want a stream, got %s, %s: %s", answer.Status, kind, read)
	}
	return &stream{Response: answer, lines: lines(answer.Body)}
}

func lines(r io.Reader) *bufio.Scanner {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	return scanner
}

// next reads one event and reports whether there was one.
func (s *stream) next(t *testing.T) bool {
	t.Helper()
	for s.lines.Scan() {
		data, isData := strings.CutPrefix(s.lines.Text(), "data: ")
		switch {
		case !isData:
			continue
		case data == "[DONE]":
			s.transcript.done = true
		default:
			var c completion
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Fatalf("%v in the event %q", err, data)
			}
			s.transcript.add(c)
		}
		return true
	}
	s.transcript.err = s.lines.Err()
	return false
}

func (s *transcript) add(c completion) {
	if c.Usage != nil {
		s.usage = c.Usage
	}
	if c.Error != nil {
		s.failure = c.Error
	}
	for _, choice := range c.Choices {
		s.text += choice.Delta.Content
		if choice.Delta.Content != "" {
			s.pieces++
		}
		if choice.FinishReason != "" {
			s.finish = choice.FinishReason
		}
		for _, piece := range choice.Delta.ToolCalls {
			if piece.ID != "" {
				s.tools = append(s.tools, toolCall{ID: piece.ID})
			}
			last := &s.tools[len(s.tools)-1]
			last.Function.Name += piece.Function.Name
			last.Function.Arguments += piece.Function.Arguments
		}
	}
}

// readContent reads until this many events with content were received.
func (s *stream) readContent(t *testing.T, pieces int) {
	t.Helper()
	for s.transcript.pieces < pieces {
		if !s.next(t) {
			t.Fatalf("the stream ended early: %+v", s.transcript)
		}
	}
}

// readAll reads to the end.
func (s *stream) readAll(t *testing.T) transcript {
	t.Helper()
	for s.next(t) {
	}
	return s.transcript
}

// wantComplete fails unless the stream is complete: this text and finish_reason, [DONE], a clean end and no error.
func (s transcript) wantComplete(t *testing.T, text, finish string) {
	t.Helper()
	if normalized(s.text) != text || s.finish != finish || !s.done || s.failure != nil || s.err != nil {
		t.Errorf("got %+v, want %q, finish_reason %q, [DONE]", s, text, finish)
	}
}

// wantCutOff fails unless the stream ended with an error event with this code, and nothing after it.
func (s transcript) wantCutOff(t *testing.T, code string) {
	t.Helper()
	if s.failure == nil || s.failure.Code != code {
		t.Errorf("got %+v with the error %+v, want the code %q", s, s.failure, code)
	}
	if s.done || s.finish != "" || s.err != nil {
		t.Errorf("after an error event, the stream must end cleanly but must not look complete: %+v", s)
	}
}

// wantHeaders fails unless the X-LLM headers have these values.
func wantHeaders(t *testing.T, header http.Header, target, attempts, route string) {
	t.Helper()
	got := [3]string{header.Get("X-LLM-Target"), header.Get("X-LLM-Attempts"), header.Get("X-LLM-Route")}
	if want := [3]string{target, attempts, route}; got != want {
		t.Errorf("X-LLM-Target, -Attempts and -Route are %q, want %q", got, want)
	}
	if header.Get("X-Request-Id") == "" {
		t.Error("no X-Request-Id")
	}
}
