package upstream

import (
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// inWords is how Azure and OpenAI ("try again in 1.2s", "retry after 6 seconds") and Gemini ("retryDelay": "13s") tell it
// where the header is missing.
var inWords = regexp.MustCompile(`(?i)(?:(?:re)?try (?:again in|after) |"retryDelay":\s*")(\d+(?:\.\d+)?)\s?(ms|s)`)

// retryAfter reads how long a server asks to be left alone: OpenAI's and Azure's milliseconds, seconds with or without a
// fraction, a date, or words. Zero where it says nothing that can be read.
func retryAfter(header http.Header, body []byte) time.Duration {
	if ms, err := strconv.ParseFloat(header.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return bounded(ms * float64(time.Millisecond))
	}
	value := header.Get("Retry-After")
	if s, err := strconv.ParseFloat(value, 64); err == nil && s > 0 {
		return bounded(s * float64(time.Second))
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	m := inWords.FindSubmatch(body)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64) // the pattern is one of a number
	if string(m[2]) == "ms" {
		return bounded(n * float64(time.Millisecond))
	}
	return bounded(n * float64(time.Second))
}

// bounded keeps a server's number from overflowing.
func bounded(d float64) time.Duration {
	return time.Duration(min(d, float64(365*24*time.Hour)))
}
