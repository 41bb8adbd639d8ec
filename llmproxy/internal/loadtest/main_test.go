package loadtest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options returns the options of a short run against a server.
func options(target Target, requests int) Options {
	return Options{
		Target: target, Prompts: MakeUp(20, 1), OutputTokens: 16, Stream: true, Concurrency: 2, Requests: requests, Timeout: time.Minute,
	}
}

// find starts a server of a kind and returns it as a target.
func find(t *testing.T, kind string, dialect Dialect, answers ...fakellm.Answer) (*fakellm.Server, Target) {
	t.Helper()
	fake := fakellm.Start(t, kind)
	fake.Next(answers...)
	target, err := Target{URL: fake.URL(), Dialect: dialect, Key: "sk-secret"}.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return fake, target
}

// measured runs a load test.
func measured(t *testing.T, o Options) *Result {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A canned transport answers every request with the same bytes.
type canned struct {
	status int
	kind   string
	body   []byte
}

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: c.status, Status: http.StatusText(c.status), Header: http.Header{"Content-Type": {c.kind}}, Body: io.NopCloser(bytes.NewReader(c.body)), Request: req,
	}, nil
}

// sendTo sends one request to a transport.
func sendTo(ctx context.Context, dialect Dialect, stream bool, transport http.RoundTripper) outcome {
	target := Target{URL: "http://server.test", Dialect: dialect, Model: "m", Key: "sk-secret"}
	s := &sender{client: newClient(target, stream, 16, transport), timeout: time.Minute, key: target.Key}
	return s.send(ctx, Prompt{[]Message{{"user", "Hi"}}}, time.Now(), nil)
}

// lines joins the lines of a stream.
func lines(texts ...string) []byte { return []byte(strings.Join(texts, "\n") + "\n") }
