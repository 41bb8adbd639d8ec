package llmproxy

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// With Caddy's tracing handler each attempt is a span, without content, and the upstream goes on with the trace.
func TestAttemptsAreTraced(t *testing.T) {
	var mu sync.Mutex
	var spans []byte
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		spans = append(spans, body...)
	}))
	defer collector.Close()
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	bad, good := fakellm.Start(t, "vllm"), fakellm.Start(t, "openai")
	bad.Always(fakellm.InternalError())
	good.Always(fakellm.Text("said by nobody").Usage(100, 50, 10))
	caddyfile, url := site(t, "\troute {\n\t\ttracing\n\t\tllm_proxy {\n\t\t\tupstream bad vllm "+bad.URL()+"\n\t\t\tupstream good openai "+good.URL()+
		"\n\t\t\tmodel m {\n\t\t\t\tto bad/first\n\t\t\t\tfallback good/second\n\t\t\t}\n\t\t}\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	say(t, url, "m", true, 0)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	host, _, _ := strings.Cut(bad.Addr(), ":")
	for _, want := range []string{"chat first", "chat second", "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.usage.input_tokens",
		"gen_ai.usage.output_tokens", "server.address", host, "error.type", "failed", "vllm"} {
		if !bytes.Contains(spans, []byte(want)) {
			t.Errorf("%q is in no span", want)
		}
	}
	for _, secret := range []string{"secret", "said by nobody"} {
		if bytes.Contains(spans, []byte(secret)) {
			t.Errorf("%q is in a span", secret)
		}
	}
	first, second := bad.Requests()[0].Header.Get("Traceparent"), good.Requests()[0].Header.Get("Traceparent")
	if len(first) != 55 || len(second) != 55 || first[:35] != second[:35] || first == second {
		t.Errorf("the upstreams got the traces %q and %q: want one trace and two spans", first, second)
	}
}
