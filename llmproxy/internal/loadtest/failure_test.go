package loadtest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// Each way to fail has its class, its status and a message that says what the server said.
func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name          string
		kind          string
		dialect       Dialect
		answer        fakellm.Answer
		class         Class
		status        int
		reason, words string
	}{
		{"rate limit", "openai", OpenAI, fakellm.RateLimited(), Refused, 429, "rate_limit_exceeded", "Rate limit"},
		{"wrong key", "openai", OpenAI, fakellm.Unauthorized(), Refused, 401, "invalid_api_key", "API key"},
		{"Ollama's error", "ollama", Ollama, fakellm.Busy(), Refused, 503, "", "server busy"},
		{"Anthropic's error", "anthropic", Anthropic, fakellm.Status(529), Refused, 529, "overloaded_error", "scripted status"},
		{"not JSON", "openai", OpenAI, fakellm.Raw(502, http.Header{"Content-Type": {"text/html"}}, []byte("<h1>Bad\x1b[31m Gateway</h1>")), Refused, 502, "", "<h1>Bad?[31m Gateway</h1>"},
		{"cut", "openai", OpenAI, fakellm.Text("a", "b", "c").CutAfter(2), Broken, 0, "", "before its finish reason"},
		{"reset", "openai", OpenAI, fakellm.Text("a", "b", "c").ResetAfter(2), Broken, 0, "", "reset"},
		{"dropped", "anthropic", Anthropic, fakellm.Text("a", "b", "c").DropAfter(2), Broken, 0, "", "EOF"},
		{"error in a stream", "openai", OpenAI, fakellm.Text("a", "b").ErrorEventAfter(1), Broken, 0, "", "error"},
		{"error in Anthropic's stream", "anthropic", Anthropic, fakellm.Text("a", "b").ErrorEventAfter(1), Broken, 0, "", "Overloaded"},
		{"garbage", "openai", OpenAI, fakellm.Garbage(), Malformed, 0, "", "not a JSON object"},
		{"Ollama's garbage", "ollama", Ollama, fakellm.Garbage(), Malformed, 0, "", "not a JSON object"},
		{"empty", "openai", OpenAI, fakellm.Text(""), Malformed, 0, "", "no content"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fake, target := find(t, test.kind, test.dialect)
			fake.Always(test.answer)
			r := measured(t, options(target, 3))
			if r.Failed != 3 || len(r.Failures) != 1 || r.Failures[0].Count != 3 {
				t.Fatalf("got %d failures, %d answers: %+v", r.Failed, r.Succeeded, r.Failures)
			}
			f := r.Failures[0].Example
			if f.Class != test.class || f.Status != test.status || f.Reason != test.reason || !strings.Contains(f.Message, test.words) {
				t.Errorf("got %+v", f)
			}
			if r.FirstToken.Count() > 0 || r.OutputTokens > 0 {
				t.Error("answers that failed are measured")
			}
		})
	}
}

// A server that is not there is unreachable, and the message says so without the address twice.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	fake, target := find(t, "openai", OpenAI)
	fake.Down()
	r := measured(t, options(target, 2))
	if r.Failed != 2 || r.Failures[0].Example.Class != Unreachable || strings.Contains(r.Failures[0].Example.Message, "Post ") {
		t.Errorf("got %+v", r.Failures[0])
	}
	target.Model = ""
	if _, err := target.Find(t.Context()); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v", err)
	}
}

// A redirect, such as that of Caddy to HTTPS, is not followed, and the message says where it leads.
func TestRedirect(t *testing.T) {
	t.Parallel()
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL+"/v1/models", http.StatusPermanentRedirect))
	defer server.Close()
	words := "redirects to " + other.URL + "; give that address"
	for _, dialect := range Dialects() {
		target := Target{URL: server.URL, Dialect: dialect, Key: "sk-secret"}
		if _, err := target.Find(t.Context()); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: got %v", dialect, err)
		}
		target.Model = "m"
		if r := measured(t, options(target, 1)); r.Failed != 1 || !strings.Contains(r.Failures[0].Example.Message, words) {
			t.Errorf("%s: got %+v", dialect, r.Failures)
		}
	}
	if reached {
		t.Error("the other server was reached")
	}
}

// A key that a server repeats is not in messages.
func TestKeyIsNotShown(t *testing.T) {
	t.Parallel()
	for _, dialect := range Dialects() {
		for _, body := range []string{`{"error":{"message":"bad key sk-secret","code":"sk-secret"}}`, `{"error":"sk-secret"}`, `sk-secret`} {
			got := sendTo(t.Context(), dialect, true, canned{401, "application/json", []byte(body)})
			if got.failure == nil || strings.Contains(got.failure.Error(), "sk-secret") || !strings.Contains(got.failure.Message, "[key]") {
				t.Errorf("%s, %s: got %v", dialect, body, got.failure)
			}
		}
	}
}

// A server that makes up a code for each error does not fill the memory.
func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	r := newRecorder(t0, true)
	for i := range 10_000 {
		r.fail(&Failure{Class: Refused, Status: 100 + i})
	}
	if n := len(r.failures); n > maxFailures+1 {
		t.Errorf("%d kinds of failures", n)
	}
	if other := r.failures[[2]string{"other", ""}]; other == nil || other.Count != 10_000-maxFailures {
		t.Errorf("got %+v", other)
	}
}

// An answer that does not end is ended.
func TestAnswerIsBounded(t *testing.T) {
	t.Parallel()
	for _, dialect := range Dialects() {
		got := sendTo(t.Context(), dialect, true, endless{})
		if got.failure == nil || got.failure.Class != Malformed {
			t.Errorf("%s: got %+v", dialect, got.failure)
		}
	}
}

// endless answers with a line that has no end.
type endless struct{}

func (endless) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: endless{}, Request: req}, nil
}

func (endless) Close() error { return nil }

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}
