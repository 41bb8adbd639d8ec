package openai

import (
	"testing"
	"time"
)

func TestTimings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, answer string
		want         Timings
	}{
		{"llama.cpp", `{"choices":[],"timings":{"cache_n":29,"prompt_n":1,"prompt_ms":0.822,"predicted_n":7,"predicted_ms":2.5}}`, Timings{822 * time.Microsecond, 2500 * time.Microsecond}},
		{"Ollama's own API", `{"done":true,"prompt_eval_count":5,"prompt_eval_duration":57475000,"eval_count":3,"eval_duration":2765000}`, Timings{57475 * time.Microsecond, 2765 * time.Microsecond}},
		{"none", `{"choices":[]}`, Timings{}},
		{"null", `{"timings":null}`, Timings{}},
		{"not an object", `{"timings":7}`, Timings{}},
		{"not numbers", `{"timings":{"prompt_ms":"soon","predicted_ms":null}}`, Timings{}},
		{"out of range", `{"timings":{"prompt_ms":-1,"predicted_ms":1e300}}`, Timings{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var a Answer
			if err := a.Parse([]byte(test.answer)); err != nil {
				t.Fatal(err)
			}
			if a.Timings != test.want {
				t.Errorf("got %+v, want %+v", a.Timings, test.want)
			}
		})
	}
	if e := Chunks.Next(nil, []byte(`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"prompt_ms":3}}`)); ParseTimings(e.Timings).Prefill != 3*time.Millisecond {
		t.Errorf("the timings of a chunk are %q", e.Timings)
	}
}
