package telemetry

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

var fqName = regexp.MustCompile(`fqName: "([a-z_]+)"`)

// docs/metrics.md lists every metric, and nothing that is not a metric.
func TestMetricsAreDocumented(t *testing.T) {
	page := readDocs(t, "metrics.md")
	descs := make(chan *prometheus.Desc)
	go func() {
		everyCollector.Describe(descs)
		close(descs)
	}()
	known := map[string]bool{}
	for desc := range descs {
		name := fqName.FindStringSubmatch(desc.String())[1]
		known[name] = true
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("%s is not in docs/metrics.md", name)
		}
	}
	for _, name := range regexp.MustCompile("`(llm_[a-z_]+)`").FindAllStringSubmatch(page, -1) {
		if !known[name[1]] && name[1] != "llm_proxy" {
			t.Errorf("docs/metrics.md has %s, which is not a metric", name[1])
		}
	}
}

// The documentation lists every placeholder, and nothing that is not a placeholder.
func TestPlaceholdersAreDocumented(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for name := range recordPlaceholders {
		known[name] = true
	}
	for name := range requestPlaceholders {
		known[name] = true
	}
	text := readDocs(t, "*.md")
	for name := range known {
		if !strings.Contains(text, "`{llm."+name+"}`") {
			t.Errorf("{llm.%s} is not documented", name)
		}
	}
	for _, name := range regexp.MustCompile(`\{llm\.([a-z_.]+)\}`).FindAllStringSubmatch(text, -1) {
		if !known[name[1]] {
			t.Errorf("{llm.%s} is documented, but is not a placeholder", name[1])
		}
	}
}

// readDocs returns the pages of the documentation whose names match a pattern.
func readDocs(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob("../../../docs/" + pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no page %s: %v", pattern, err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// docs/logs.md lists every field of the access log's object.
func TestLogFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	rec := &exchange.Record{ID: "id", Duration: time.Minute, Err: &openai.Error{Code: "code"}}
	rec.Caller = exchange.Caller{Key: "key", Tags: []string{"tag"}, Priority: admission.High}
	rec.RequestInfo = exchange.RequestInfo{Model: "model", Stream: true, Prompt: "prompt"}
	rec.Routing = exchange.Routing{Shadow: "shadow", SessionRoute: true, LocalOnly: true}
	rec.Answer = exchange.Answer{Warning: "warning", HasUsage: true, HasCost: true, Usage: tokens.Usage{Output: 2}, Attempts: make([]exchange.Attempt, 1)}
	rec.Cache = "hit"
	fields := zapcore.NewMapObjectEncoder()
	if err := (logObject{rec}).MarshalLogObject(fields); err != nil {
		t.Fatal(err)
	}
	page := readDocs(t, "logs.md")
	for name := range fields.Fields {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/logs.md does not have the field %s", name)
		}
	}
	if len(fields.Fields) < 32 {
		t.Errorf("only %d fields are logged: %v", len(fields.Fields), fields.Fields)
	}
}
