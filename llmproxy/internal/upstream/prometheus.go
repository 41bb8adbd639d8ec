package upstream

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// eachMetric calls f for each sample on a page in Prometheus' text format. Labels are what stands between the braces.
func eachMetric(page []byte, f func(name, labels string, value float64)) {
	for line := range bytes.Lines(page) {
		name, rest, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		labels := ""
		if at := strings.IndexByte(name, '{'); at >= 0 {
			whole := string(line)
			open, end := strings.IndexByte(whole, '{'), strings.LastIndexByte(whole, '}') // a label's value may have spaces and braces
			if end < open {
				continue
			}
			name, labels, rest = name[:at], whole[open+1:end], whole[end+1:]
		}
		value, _, _ := strings.Cut(strings.TrimSpace(rest), " ") // a timestamp may follow
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			f(name, labels, n)
		}
	}
}

// sumMetrics adds up metrics over all their labels. It returns false if the page has none of them.
func sumMetrics(page []byte, metrics []string) (sum float64, ok bool) {
	eachMetric(page, func(name, _ string, value float64) {
		if slices.Contains(metrics, name) {
			sum, ok = sum+value, true
		}
	})
	return sum, ok
}

// labelValue returns the value of a label, or an empty string if it is absent.
func labelValue(labels, name string) string {
	for labels != "" {
		key, rest, ok := strings.Cut(labels, "=")
		if !ok {
			return ""
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return ""
		}
		if strings.Trim(key, ", ") == name {
			value, _ := strconv.Unquote(quoted) // is quoted
			return value
		}
		labels = rest[len(quoted):]
	}
	return ""
}

// countOf returns a value of a metric as a number of things. What is not one is zero.
func countOf(value float64) int {
	if value > 0 && value < 1<<31 {
		return int(value)
	}
	return 0
}
