package exchange

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Translator is a Client that translates answers from OpenAI's format.
type Translator interface {
	// Pass says whether the next answer is already in the format of the client, so that it is passed on as it is.
	Pass(passing bool)
}

// A TranslatedClient is a client of another API than OpenAI's. It gets an answer in OpenAI's format and sends it on in the client's: a
// stream event by event, a whole answer in Finish. Lines of an API whose streams are not events come and pass as the data of events.
type TranslatedClient struct {
	Client
	exchange *Exchange
	about    dialect.About
	stream   dialect.Stream // of the answer, if it is one
	streams  bool
	passing  bool
	whole    bytes.Buffer // an answer that comes in several parts
	done     bool         // a whole answer has been sent
	events   []byte       // reused
	sent     int64
}

// Translated returns the exchange's client for a request that named a model, and whose tools are known under names.
func (x *Exchange) Translated(model string, names *dialect.ToolNames) *TranslatedClient {
	return &TranslatedClient{Client: &x.Writer, exchange: x, about: dialect.About{Model: model, Names: names, Started: x.Record.Started}}
}

// Commit implements relay.Client.
func (c *TranslatedClient) Commit(ctx context.Context, stream bool) (begun bool, err error) {
	if c.streams = stream; stream && c.exchange.Own.Stream != nil {
		c.about.PromptTokens = int64(c.exchange.Record.Signals().PromptTokens)
		c.stream = c.exchange.Own.Stream(&c.about)
	}
	return c.Client.Commit(ctx, stream)
}

// Pass implements Translator.
func (c *TranslatedClient) Pass(passing bool) { c.passing = passing }

// WriteHeader implements http.ResponseWriter. The header of a whole answer is sent with it, because its length is not known yet.
func (c *TranslatedClient) WriteHeader(status int) {
	if c.streams || c.passing {
		c.Client.WriteHeader(status)
	}
}

// ErrorEvent implements relay.Client. The event is for Write. Its data is in the client's format.
func (c *TranslatedClient) ErrorEvent(e *openai.Error, state openai.ResponseState) []byte {
	event := c.Client.ErrorEvent(e, state)
	if c.exchange.API.Lines() {
		return sse.AppendEvent(nil, "error", bytes.TrimSuffix(event, []byte("\n")))
	}
	return event
}

// Write implements http.ResponseWriter.
func (c *TranslatedClient) Write(p []byte) (int, error) {
	switch {
	case !c.streams && !c.passing:
		if c.whole.Len() == 0 && isWhole(c.Header(), p) && c.sendWhole(p) {
			return len(p), nil
		}
		return c.whole.Write(p)
	case c.passing && !(c.streams && c.exchange.API.Lines()):
		n, err := c.Client.Write(p)
		c.sent += int64(n)
		return n, err
	}
	c.events = c.events[:0]
	for rest := p; len(rest) > 0; {
		var e sse.Event
		e, rest = sse.Cut(rest)
		c.events = c.appendEvent(c.events, &e)
	}
	if len(c.events) == 0 {
		return len(p), nil
	}
	n, err := c.Client.Write(c.events)
	c.sent += int64(n)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// appendEvent appends what an event becomes.
func (c *TranslatedClient) appendEvent(b []byte, e *sse.Event) []byte {
	switch {
	case string(e.Name) == "error":
		return c.appendOwn(b, e)
	case e.OnlyComments && len(bytes.TrimSpace(e.Raw)) > 0: // not just the second half of a CRLF
		return append(b, c.exchange.Writer.dialect.Ping()...)
	case !e.HasData:
		return b
	case c.passing && string(e.Data) == "[DONE]": // the relay's, which ends a stream in OpenAI's format
		return b
	case c.passing:
		return c.appendOwn(b, e)
	case bytes.HasPrefix(e.Data, errorPrefix): // of an answer that was recorded for clients of several APIs
		failed, _ := openai.ParseError(e.Data)
		return append(b, c.Client.ErrorEvent(&failed, openai.ResponseState{})...)
	}
	return c.stream.Append(b, e.Data)
}

var errorPrefix = []byte(`{"error":{`)

// appendOwn appends an event whose data is in the client's format.
func (c *TranslatedClient) appendOwn(b []byte, e *sse.Event) []byte {
	if c.exchange.API.Lines() {
		return append(append(b, e.Data...), '\n')
	}
	return append(b, e.Raw...)
}

// Flush implements relay.Client.
func (c *TranslatedClient) Flush() error {
	if !c.streams && !c.passing {
		return nil
	}
	return c.Client.Flush()
}

// Finish sends a whole answer that came in several parts, after it has been delivered.
func (c *TranslatedClient) Finish() *openai.Error {
	if !c.streams && !c.passing && !c.done && !c.sendWhole(c.whole.Bytes()) {
		return UpstreamError("The upstream's answer is not what this endpoint answers with.")
	}
	c.exchange.Record.Bytes = c.sent
	return nil
}

// isWhole reports whether p is the whole body of the answer whose header is h.
func isWhole(h http.Header, p []byte) bool {
	n, err := strconv.Atoi(h.Get("Content-Length"))
	return err == nil && n == len(p)
}

// wholes pools the memory for translated answers, except for large ones.
var wholes = sync.Pool{New: func() any { return new([]byte) }}

const maxPooled = 256 << 10

// sendWhole translates a whole answer and sends it. It reports whether the answer could be translated.
func (c *TranslatedClient) sendWhole(answer []byte) bool {
	pooled := wholes.Get().(*[]byte)
	defer wholes.Put(pooled)
	whole, ok := c.exchange.Own.Whole((*pooled)[:0], answer, &c.about)
	if !ok {
		return false
	}
	if cap(whole) <= maxPooled {
		*pooled = whole
	}
	delete(c.Header(), "Content-Length")                           // the upstream's
	m, _ := relay.ReplayWhole(c.Client, "application/json", whole) // the client may have left; the record shows the intended answer
	c.done, c.sent = true, m.Bytes
	return true
}
