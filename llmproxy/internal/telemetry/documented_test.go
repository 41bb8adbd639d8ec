package telemetry

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var fqName = regexp.MustCompile(`fqName: "([a-z_]+)"`)

// docs/metrics.md has every metric, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		everyCollector.Describe(descs)
		close(descs)
	}()
	known := map[string]bool{}
	for desc := range descs {
		name := fqName.FindStringSubmatch(desc.String())[1]
		known[name] = true
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("%s is not in docs/metrics.md", name)
		}
	}
	for _, name := range regexp.MustCompile("`(llm_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		if !known[name[1]] && name[1] != "llm_proxy" {
			t.Errorf("docs/metrics.md has %s, which is not a metric", name[1])
		}
	}
}
