package dashboard

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// The report of llm-bench is a page on its own: the console says nothing, above all nothing about its policy, axe finds no fault, and it
// fits a phone.
func TestBenchReport(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "report.html")
	bench := exec.CommandContext(t.Context(), caddyPath(), "llm-bench", w.gpu.URL, "--compare", w.gpu.URL, "--requests", "20", "--slo", "ttft_p95=1m", "--html", file)
	if output, err := bench.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	p := w.open(t, unauthorized)
	p.do(chromedp.Navigate("file://" + file))
	if charts := eval[int](p, `document.querySelectorAll("svg .bars rect, svg path").length`); charts < 12 {
		t.Errorf("the charts have %d shapes", charts)
	}
	for _, theme := range []string{"light", "dark"} {
		p.theme(theme)
		for _, width := range []int64{1280, 390} {
			p.do(chromedp.EmulateViewport(width, 844))
			what := fmt.Sprintf("%s at %d pixels", theme, width)
			p.accessible(what)
			if wide := eval[int](p, `document.documentElement.scrollWidth`); wide > int(width) {
				t.Errorf("%s: it is %d wide", what, wide)
			}
		}
	}
}
