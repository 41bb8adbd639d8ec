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

// What the test models say; see testmodel/mktiny.py.
const (
	hello   = "Hello from the tiny test model."
	numbers = " one two three four five six seven eight nine ten"
)

// said is a text as the model made it: newer llama.cpp leaves out the space that it begins with, Ollama does not.
func said(text string) string {
	if strings.HasPrefix(text, "one") {
		return " " + text
	}
	return text
}

// An apiError is an error as OpenAI's SDKs read it.
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

// A completion is a chat answer or one chunk of it.
type completion struct {
	Choices []struct {
		Message      message `json:"message"`
		Delta        message `json:"delta"`
		FinishReason string  `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage    `json:"usage"`
	Error *apiError `json:"error"`
}

// A reply is a whole answer.
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

// open sends a request and returns once the answer's head is there. The test's end is the client's end.
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

// call sends a request and reads the answer to its end.
func call(t *testing.T, method, url, body string, header ...string) reply {
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
	return call(t, http.MethodPost, base+"/v1/chat/completions", body)
}

// A stream is an open answer of events.
type stream struct {
	*http.Response
	lines *bufio.Scanner
	story story
}

// A story is what a stream has told so far.
type story struct {
	text    string
	pieces  int // events with content
	finish  string
	usage   *usage
	tools   []toolCall // put together from their pieces
	done    bool       // [DONE] was there
	failure *apiError
	err     error // of the connection; nil is a clean end
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
		t.Fatalf("no stream but %s, %s: %s", answer.Status, kind, read)
	}
	return &stream{Response: answer, lines: lines(answer.Body)}
}

func lines(r io.Reader) *bufio.Scanner {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	return scanner
}

// next takes one event in; false is the end.
func (s *stream) next(t *testing.T) bool {
	t.Helper()
	for s.lines.Scan() {
		data, isData := strings.CutPrefix(s.lines.Text(), "data: ")
		switch {
		case !isData:
			continue
		case data == "[DONE]":
			s.story.done = true
		default:
			var c completion
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Fatalf("%v in the event %q", err, data)
			}
			s.story.add(c)
		}
		return true
	}
	s.story.err = s.lines.Err()
	return false
}

func (s *story) add(c completion) {
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

// content reads on until there are this many pieces of content.
func (s *stream) content(t *testing.T, pieces int) {
	t.Helper()
	for s.story.pieces < pieces {
		if !s.next(t) {
			t.Fatalf("the stream ended early: %+v", s.story)
		}
	}
}

// rest reads to the end.
func (s *stream) rest(t *testing.T) story {
	t.Helper()
	for s.next(t) {
	}
	return s.story
}

// wholly fails unless the story is complete: a finish, [DONE], a clean end and no error.
func (s story) wholly(t *testing.T, text, finish string) {
	t.Helper()
	if said(s.text) != text || s.finish != finish || !s.done || s.failure != nil || s.err != nil {
		t.Errorf("the stream told %+v, want %q, finish %q, [DONE]", s, text, finish)
	}
}

// cut fails unless the story ended in an error event with this code, and in nothing after it.
func (s story) cut(t *testing.T, code string) {
	t.Helper()
	if s.failure == nil || s.failure.Code != code {
		t.Errorf("the stream told %+v with the error %+v, want the code %q", s, s.failure, code)
	}
	if s.done || s.finish != "" || s.err != nil {
		t.Errorf("after its error the stream must not look like a normal end, nor break off: %+v", s)
	}
}

// headers fails unless the answer says these of the way it took.
func headers(t *testing.T, header http.Header, target, attempts, route string) {
	t.Helper()
	got := [3]string{header.Get("X-LLM-Target"), header.Get("X-LLM-Attempts"), header.Get("X-LLM-Route")}
	if want := [3]string{target, attempts, route}; got != want {
		t.Errorf("X-LLM-Target, -Attempts and -Route are %q, want %q", got, want)
	}
	if header.Get("X-Request-Id") == "" {
		t.Error("no X-Request-Id")
	}
}
