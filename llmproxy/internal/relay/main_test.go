package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A client is a Client that sees what reaches a client, and may leave.
type client struct {
	header  http.Header
	status  int
	body    bytes.Buffer
	writes  int
	flushed int // bytes that were flushed
	flushes int
	room    int   // bytes after which it leaves; 0: never
	gone    error // of a flush
}

var errLeft = errors.New("connection reset by peer")

func newClient() *client { return &client{header: http.Header{}} }

func (c *client) Header() http.Header    { return c.header }
func (c *client) WriteHeader(status int) { c.status = status }

func (c *client) Write(p []byte) (int, error) {
	c.writes++
	if c.room > 0 && c.body.Len()+len(p) > c.room {
		n, _ := c.body.Write(p[:c.room-c.body.Len()])
		return n, errLeft
	}
	return c.body.Write(p)
}

func (c *client) Flush() error {
	c.flushed = c.body.Len()
	c.flushes++
	return c.gone
}

func (c *client) Commit(context.Context, bool) (bool, error) { return false, nil }

func (c *client) ErrorEvent(*openai.Error, openai.ResponseState) []byte { return nil }

// A body is an answer's body that knows whether it was closed.
type body struct {
	io.Reader
	closed int
}

func (b *body) Close() error {
	b.closed++
	return nil
}

func respond(contentType string, src io.Reader) (*http.Response, *body) {
	b := &body{Reader: src}
	return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Header: http.Header{
		"Content-Type": {contentType}, "Set-Cookie": {"a=b"}, "Server": {"uvicorn"}, "X-Ratelimit-Limit-Requests": {"5"}, "Openai-Version": {"2020-10-01"},
	}, Body: b}, b
}

func endpoint(t testing.TB, path string) *openai.Endpoint {
	t.Helper()
	e, ok := openai.LookupEndpoint(path)
	if !ok {
		t.Fatalf("no endpoint %s", path)
	}
	return e
}

// A result is what became of an answer.
type result struct {
	Held     string // why it was not worth committing to
	Sent     string // how sending failed
	Body     string
	Usage    tokens.Usage
	HasUsage bool
	Events   int
}

// pass holds an answer and sends it to the client. Whatever happens the upstream must be let go of.
func pass(t testing.TB, contentType string, src io.Reader, expect Expect, to *client) result {
	t.Helper()
	res, b := respond(contentType, src)
	answer, err := Hold(res, expect)
	if err != nil {
		if b.closed == 0 {
			t.Error("the answer that was not held is still open")
		}
		if to.status != 0 || to.writes > 0 {
			t.Error("something reached the client of an answer that was not held")
		}
		return result{Held: kindOf(err)}
	}
	err = answer.Send(to, false)
	if to.flushed != to.body.Len() && isStream(answer) && err == nil {
		t.Errorf("%d bytes of %d were flushed", to.flushed, to.body.Len())
	}
	m := answer.Meter()
	if m.Bytes != int64(to.body.Len()) {
		t.Errorf("the meter says %d bytes, the client got %d", m.Bytes, to.body.Len())
	}
	answer.Close()
	if b.closed == 0 {
		t.Error("the answer is still open after Close")
	}
	return result{Sent: kindOf(err), Body: to.body.String(), Usage: m.Usage, HasUsage: m.HasUsage, Events: m.Events}
}

func isStream(a Answer) bool {
	_, ok := a.(*streamAnswer)
	return ok
}

// kindOf names an error as callers tell them apart.
func kindOf(err error) string {
	var event *EventError
	var left *ClientError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &event):
		return "event " + string(event.Value)
	case errors.As(err, &left):
		return "client left"
	case errors.Is(err, ErrIncomplete):
		return "cut"
	case errors.Is(err, ErrMalformed):
		return "malformed"
	case errors.Is(err, ErrNotJSON):
		return "no JSON"
	}
	return err.Error()
}

// A progressFunc is called for each read.
type progressFunc func()

func (f progressFunc) Read(int) { f() }

func (progressFunc) Ending(time.Duration) {}
func (f progressFunc) Opened()            {}
