package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	goopenai "github.com/sashabaranov/go-openai"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/anthropic"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ollama"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// maxAnswer is the most that is read of an answer, so that a server that sends without end cannot fill the memory.
const maxAnswer = 64 << 20

var errTooLarge = fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20)

// newClient returns the client of a target's dialect.
func newClient(t Target, stream bool, outputTokens int, transport http.RoundTripper) client {
	bounded := newHTTPClient(boundedTransport{transport})
	if t.Dialect == OpenAI {
		config := goopenai.DefaultConfig(t.Key)
		config.BaseURL, config.HTTPClient = t.URL, cacheable{bounded}
		return &openaiClient{goopenai.NewClientWithConfig(config), t.Model, stream, outputTokens}
	}
	return &plainClient{bounded, t, stream, outputTokens}
}

// newHTTPClient returns a client that follows no redirect: another server could get the key, and every request would be sent twice.
func newHTTPClient(transport http.RoundTripper) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		return fmt.Errorf("the server redirects to %s://%s; give that address", next.URL.Scheme, next.URL.Host)
	}}
}

// cacheable sends requests without the "Cache-Control: no-cache" that go-openai adds to those for streams. Other SDKs do not send it, and this
// gateway would not use its response cache.
type cacheable struct{ *http.Client }

// Do implements goopenai.HTTPDoer.
func (c cacheable) Do(req *http.Request) (*http.Response, error) {
	req.Header.Del("Cache-Control")
	return c.Client.Do(req)
}

// openaiClient is go-openai's, so that the requests are those of an SDK. Streams are read raw, because its types do not know all the
// fields that count as content.
type openaiClient struct {
	api          *goopenai.Client
	model        string
	stream       bool
	outputTokens int
}

func (c *openaiClient) open(ctx context.Context, p Prompt) (answer, error) {
	request := goopenai.ChatCompletionRequest{Model: c.model}
	if isReasoningModel(c.model) { // for which go-openai refuses MaxTokens
		request.MaxCompletionTokens = c.outputTokens
	} else {
		//lint:ignore SA1019 older versions of Ollama and others know no other limit
		request.MaxTokens = c.outputTokens
	}
	for _, m := range p.Messages {
		request.Messages = append(request.Messages, goopenai.ChatCompletionMessage{Role: m.Role, Content: m.Content})
	}
	if !c.stream {
		whole, err := c.api.CreateChatCompletion(ctx, request)
		if err != nil {
			return nil, err
		}
		usage, err := json.Marshal(whole.Usage)
		if err != nil {
			return nil, err
		}
		text := ""
		for _, choice := range whole.Choices {
			text += choice.Message.Content + choice.Message.ReasoningContent
			for _, call := range choice.Message.ToolCalls {
				text += call.Function.Arguments
			}
		}
		return newWhole(whole.Header(), len(text), usage, len(whole.Choices) > 0), nil
	}
	request.StreamOptions = &goopenai.StreamOptions{IncludeUsage: true}
	stream, err := c.api.CreateChatCompletionStream(ctx, request)
	if err != nil {
		return nil, err
	}
	return &openaiStream{stream}, nil
}

// isReasoningModel reports whether a model of OpenAI's takes max_completion_tokens only.
func isReasoningModel(model string) bool {
	for _, prefix := range []string{"o1", "o3", "o4", "gpt-5", "gpt-6"} {
		if strings.HasPrefix(model, prefix) {
			return true
		}
	}
	return false
}

type openaiStream struct{ *goopenai.ChatCompletionStream }

func (s *openaiStream) header() http.Header { return s.Header() }
func (s *openaiStream) close()              { _ = s.Close() }

func (s *openaiStream) next() (openai.Event, error) {
	data, err := s.RecvRaw()
	if err != nil {
		return openai.Event{}, err
	}
	return readEvent(openai.Chunks, nil, data), nil
}

// readEvent reads an event. Its Content is whether it has any: in the gateway, the event that ends an answer counts as content as well.
func readEvent(r openai.EventReader, name, data []byte) openai.Event {
	e := r.First(name, data)
	if e.Finish {
		e.Content = r.Next(name, data).Text.Bytes > 0
	}
	return e
}

// plainClient sends requests of Anthropic's or Ollama's API.
type plainClient struct {
	http         *http.Client
	target       Target
	stream       bool
	outputTokens int
}

// defaultAnthropicTokens is what is sent without a limit, because the API requires one.
const defaultAnthropicTokens = 1024

func (c *plainClient) open(ctx context.Context, p Prompt) (answer, error) {
	request := map[string]any{"model": c.target.Model, "messages": p.Messages, "stream": c.stream}
	path := "/api/chat"
	switch {
	case c.target.Dialect == Anthropic:
		path = "/v1/messages"
		request["max_tokens"] = defaultAnthropicTokens
		if c.outputTokens > 0 {
			request["max_tokens"] = c.outputTokens
		}
		if system, rest := p.split(); system != "" {
			request["system"], request["messages"] = system, rest
		}
	case c.outputTokens > 0:
		request["options"] = map[string]any{"num_predict": c.outputTokens}
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.target.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	c.target.authorize(req.Header)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK || !c.stream {
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusOK {
			return nil, &statusError{res.StatusCode, body}
		}
		return c.readWhole(res.Header, body)
	}
	return c.newStream(res), nil
}

// readWhole reads an answer that is not a stream.
func (c *plainClient) readWhole(h http.Header, body []byte) (answer, error) {
	var message struct {
		Content []struct{ Text, Thinking string } // Anthropic's
		Usage   json.RawMessage
		Message struct{ Content, Thinking string } // Ollama's
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	text := message.Message.Content + message.Message.Thinking
	for _, block := range message.Content {
		text += block.Text + block.Thinking
	}
	usage := []byte(message.Usage)
	if c.target.Dialect == Ollama {
		usage = body
	}
	return newWhole(h, len(text), usage, true), nil
}

func (c *plainClient) newStream(res *http.Response) *eventStream {
	s := &eventStream{res: res, reader: anthropic.Events{}}
	body := io.Reader(res.Body)
	if c.target.Dialect == Ollama {
		body, s.reader = ollama.NewReader(res.Body, ollama.Frame), ollama.Events{}
	}
	s.events = sse.NewReader(body, sse.MaxEvent)
	return s
}

// eventStream reads a stream of Anthropic's or Ollama's API.
type eventStream struct {
	res    *http.Response
	events *sse.Reader
	reader openai.EventReader
	batch  []byte
}

func (s *eventStream) header() http.Header { return s.res.Header }

func (s *eventStream) close() {
	s.events.Close()
	_ = s.res.Body.Close()
}

func (s *eventStream) next() (openai.Event, error) {
	for {
		for len(s.batch) > 0 {
			var e sse.Event
			if e, s.batch = sse.Cut(s.batch); e.HasData {
				return readEvent(s.reader, e.Name, e.Data), nil
			}
		}
		batch, err := s.events.Next()
		if err != nil {
			return openai.Event{}, err
		}
		s.batch = batch
	}
}

// whole is an answer that is not a stream, as one event. Only such an event has the size of its text.
type whole struct {
	h     http.Header
	event openai.Event
	read  bool
}

func newWhole(h http.Header, size int, usage []byte, complete bool) *whole {
	return &whole{h: h, event: openai.Event{Content: size > 0, Finish: complete, Usage: usage, Text: jsonspan.TextCount{Bytes: size}}}
}

func (w *whole) header() http.Header { return w.h }
func (w *whole) close()              {}

func (w *whole) next() (openai.Event, error) {
	if w.read {
		return openai.Event{}, io.EOF
	}
	w.read = true
	return w.event, nil
}

// boundedTransport ends answers that are too large.
type boundedTransport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.next.RoundTrip(req)
	if err == nil {
		res.Body = &boundedBody{ReadCloser: res.Body, left: maxAnswer}
	}
	return res, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// isJSONError reports whether an answer was not JSON, or not of the shape that go-openai expects.
func isJSONError(err error) bool {
	var (
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
	)
	return errors.As(err, &syntax) || errors.As(err, &kind) || errors.Is(err, goopenai.ErrTooManyEmptyStreamMessages)
}
