package report

import (
	"fmt"
	"math"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/loadtest"
)

// A comparison is a figure of two servers.
type comparison struct {
	Name, One, Two string
	// Difference is that of the second server from the first, or empty if one of them has no figure.
	Difference string
	// Better is 1 if the second server is clearly better, -1 if it is clearly worse.
	Better int
}

// compare returns the most important figures of two servers.
func compare(one, two *loadtest.Result) (list []comparison) {
	rate := func(name string, of func(*loadtest.Result) float64) {
		list = append(list, newComparison(name, of(one), of(two), func(n float64) string { return digits(n) + "/s" }, 1))
	}
	rate("Requests", (*loadtest.Result).RequestsPerSecond)
	rate("Output tokens", (*loadtest.Result).OutputTokensPerSecond)
	for _, l := range latencies {
		a, b := l.of(one), l.of(two)
		if a.Count() == 0 && b.Count() == 0 {
			continue
		}
		for _, p := range []float64{50, 95} {
			list = append(list, newComparison(fmt.Sprintf("%s, p%g", l.name, p), a.Percentile(p).Seconds(), b.Percentile(p).Seconds(),
				func(s float64) string { return duration(time.Duration(s * float64(time.Second))) }, -1))
		}
	}
	return append(list, comparison{
		Name: "Failed requests", One: fmt.Sprintf("%.3g%%", 100*one.ErrorRate()), Two: fmt.Sprintf("%.3g%%", 100*two.ErrorRate()),
		Difference: signed(100*(two.ErrorRate()-one.ErrorRate())) + " points",
	})
}

// clearly is the difference from which one server counts as better: smaller ones are noise.
const clearly = .05

// newComparison compares two figures. Sign is 1 if more is better, -1 if less is.
func newComparison(name string, one, two float64, format func(float64) string, sign int) comparison {
	c := comparison{Name: name, One: "–", Two: "–"}
	if one > 0 {
		c.One = format(one)
	}
	if two > 0 {
		c.Two = format(two)
	}
	if one > 0 && two > 0 {
		change := two/one - 1
		c.Difference = signed(100*change) + "%"
		switch {
		case change > clearly:
			c.Better = sign
		case change < -clearly:
			c.Better = -sign
		}
	}
	return c
}

// signed formats a difference with its sign, if it is not zero.
func signed(n float64) string {
	if math.Abs(n) < .05 {
		return "0"
	}
	return fmt.Sprintf("%+.1f", n)
}
