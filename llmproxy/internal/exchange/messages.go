package exchange

import (
	"bytes"
	"context"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Translator is a Client that translates answers from OpenAI's format.
type Translator interface {
	// Pass says whether the next answer is already in the format of the client, so that it is passed on as it is.
	Pass(passing bool)
}

// A MessagesClient is a client of Anthropic's Messages API. It gets an answer in OpenAI's format and sends it on in Anthropic's: a
// stream event by event, a whole answer in Finish.
type MessagesClient struct {
	Client
	exchange *Exchange
	stream   dialect.MessageStream
	streams  bool
	passing  bool
	whole    bytes.Buffer
	events   []byte // reused
	sent     int64
}

// Messages returns the exchange's client for a request whose tools are known under names. InputTokens is an estimate of the prompt.
func (x *Exchange) Messages(names *dialect.ToolNames, inputTokens int64) *MessagesClient {
	return &MessagesClient{
		Client: &x.Writer, exchange: x,
		stream: dialect.MessageStream{Model: x.Record.Model, Names: names, InputTokens: inputTokens},
	}
}

// Commit implements relay.Client.
func (c *MessagesClient) Commit(ctx context.Context, stream bool) (begun bool, err error) {
	c.streams = stream
	return c.Client.Commit(ctx, stream)
}

// Pass implements Translator.
func (c *MessagesClient) Pass(passing bool) { c.passing = passing }

// WriteHeader implements http.ResponseWriter. The header of a whole answer is sent in Finish, because its length is not known yet.
func (c *MessagesClient) WriteHeader(status int) {
	if c.streams || c.passing {
		c.Client.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (c *MessagesClient) Write(p []byte) (int, error) {
	switch {
	case c.passing:
		n, err := c.Client.Write(p)
		c.sent += int64(n)
		return n, err
	case !c.streams:
		return c.whole.Write(p)
	}
	c.events = c.events[:0]
	for rest := p; len(rest) > 0; {
		var e sse.Event
		e, rest = sse.Cut(rest)
		switch {
		case string(e.Name) == "error": // the gateway's own, already in Anthropic's format
			c.events = append(c.events, e.Raw...)
		case e.HasData:
			c.events = c.stream.Append(c.events, e.Data)
		case e.OnlyComments:
			c.events = append(c.events, pingEvent...)
		}
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

// Flush implements relay.Client.
func (c *MessagesClient) Flush() error {
	if !c.streams && !c.passing {
		return nil
	}
	return c.Client.Flush()
}

// Finish sends a whole answer, after it has been delivered.
func (c *MessagesClient) Finish() *openai.Error {
	if !c.streams && !c.passing {
		message, ok := dialect.MessageFromChat(c.whole.Bytes(), c.stream.Model, c.stream.Names)
		if !ok {
			return UpstreamError("The upstream's answer has no message.")
		}
		c.Header()["Content-Type"] = jsonType
		c.sent = c.exchange.Writer.writeJSON(http.StatusOK, message)
	}
	c.exchange.Record.Bytes = c.sent
	return nil
}
