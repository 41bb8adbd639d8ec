package openai

import (
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// Timings are how long a server says that the parts of an answer took. They are zero if it does not say so.
type Timings struct {
	Prefill time.Duration // reading the part of the prompt that was not in its cache
	Decode  time.Duration // writing the answer
}

// maxTiming is the longest duration that is believed.
const maxTiming = 24 * time.Hour

// ParseTimings parses the object "timings", which llama.cpp adds to its answers, and so does the translation from Ollama's format.
func ParseTimings(object []byte) (t Timings) {
	_ = jsonspan.EachMember(object, func(key, value []byte) bool { // a value that is not an object has no members
		switch string(key) {
		case "prompt_ms":
			t.Prefill = parseTiming(value, time.Millisecond)
		case "predicted_ms":
			t.Decode = parseTiming(value, time.Millisecond)
		}
		return true
	})
	return t
}

// parseTiming parses a duration in a unit. It returns zero if the value is not a duration.
func parseTiming(value []byte, unit time.Duration) time.Duration {
	n, err := strconv.ParseFloat(string(value), 64)
	if d := n * float64(unit); err == nil && d > 0 && d < float64(maxTiming) {
		return time.Duration(d)
	}
	return 0
}
