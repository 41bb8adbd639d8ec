package openai

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

func TestParseUsage(t *testing.T) {
	t.Parallel()
	relayed := tokens.Usage{Input: 1200, Output: 300, Cached: 1024, Reasoning: 200}
	const counted = `"prompt_tokens":1200,"completion_tokens":300,"total_tokens":1500,"prompt_tokens_details":{"cached_tokens":1024},"completion_tokens_details":{"reasoning_tokens":200}`
	anthropic := tokens.Usage{Input: 5112, Output: 3, Cached: 5000, CacheWrite: 100}
	for _, tt := range []struct {
		name, raw string
		want      tokens.Usage
	}{
		{"embeddings", `{"prompt_tokens":8,"total_tokens":8}`, tokens.Usage{Input: 8}},
		{"responses", `{"input_tokens":12,"output_tokens":7,"input_tokens_details":{"cached_tokens":11},"output_tokens_details":{"reasoning_tokens":2},"total_tokens":19}`,
			tokens.Usage{Input: 12, Output: 7, Cached: 11, Reasoning: 2}},
		{"details null", `{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":null}`, tokens.Usage{Input: 1, Output: 2}},
		{"images", `{"input_tokens":50,"output_tokens":4160,"total_tokens":4210,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}`, tokens.Usage{Input: 50, Output: 4160, ImageInput: 40}},
		{"empty", `{}`, tokens.Usage{}},
		{"null", `null`, tokens.Usage{}},
		{"truncated", `{"prompt_tokens":8,`, tokens.Usage{}},
		{"not an object", `"12 tokens"`, tokens.Usage{}},

		// Both generations of names.
		{"zeros after the counts", `{` + counted + `,"input_tokens":0,"output_tokens":0,"input_tokens_details":null}`, relayed},
		{"zeros before the counts", `{"input_tokens":0,"output_tokens":0,"input_tokens_details":{"cached_tokens":0},` + counted + `}`, relayed},
		{"null after the counts", `{` + counted + `,"input_tokens":null,"output_tokens":null,"output_tokens_details":{"reasoning_tokens":null}}`, relayed},
		{"details of zeros after the counts", `{` + counted + `,"input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}}`, relayed},
		{"empty strings after the counts", `{` + counted + `,"input_tokens":"","output_tokens":""}`, relayed},
		{"negative after the counts", `{` + counted + `,"input_tokens":-1,"output_tokens":-1}`, relayed},
		{"the same counts twice", `{` + counted + `,"input_tokens":1200,"output_tokens":300}`, relayed},
		{"one generation each", `{"prompt_tokens":0,"input_tokens":7,"completion_tokens":5,"output_tokens":0}`, tokens.Usage{Input: 7, Output: 5}},
		{"all zero", `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0,"input_tokens":0}`, tokens.Usage{}},
		{"input zero", `{"prompt_tokens":0,"completion_tokens":10,"total_tokens":10}`, tokens.Usage{Output: 10}},
		{"only a total", `{"total_tokens":15}`, tokens.Usage{Input: 15}},
		{"the total has the output", `{"prompt_tokens":10,"completion_tokens":0,"total_tokens":15}`, tokens.Usage{Input: 10, Output: 5}},

		// Other spellings of numbers.
		{"fractions of zero", `{"prompt_tokens":37.0,"completion_tokens":12.0,"total_tokens":49.0}`, tokens.Usage{Input: 37, Output: 12}},
		{"exponents", `{"prompt_tokens":3.7e1,"completion_tokens":1.2E+1}`, tokens.Usage{Input: 37, Output: 12}},
		{"strings", `{"prompt_tokens":"37","completion_tokens":"12"}`, tokens.Usage{Input: 37, Output: 12}},
		{"fractions in strings", `{"prompt_tokens":"37.0","completion_tokens":"1.2e1"}`, tokens.Usage{Input: 37, Output: 12}},
		{"real fractions", `{"prompt_tokens":35648.42,"completion_tokens":11.5}`, tokens.Usage{Input: 35648, Output: 12}},
		{"a fraction in the details", `{"prompt_tokens":37,"completion_tokens":12,"prompt_tokens_details":{"cached_tokens":30.0}}`, tokens.Usage{Input: 37, Output: 12, Cached: 30}},
		{"no numbers", `{"prompt_tokens":"many","completion_tokens":true,"total_tokens":[]}`, tokens.Usage{}},
		{"hexadecimal and words of floats", `{"prompt_tokens":"0x25","completion_tokens":"Infinity"}`, tokens.Usage{}},
		{"too large", `{"prompt_tokens":99999999999999999999,"completion_tokens":1e400}`, tokens.Usage{}},
		{"one of them cannot be read", `{"prompt_tokens":"n/a","completion_tokens":5}`, tokens.Usage{Output: 5}},

		// Counts in other places.
		{"Moonshot's cached tokens", `{"prompt_tokens":100000,"completion_tokens":10,"total_tokens":100010,"cached_tokens":99000}`, tokens.Usage{Input: 100000, Output: 10, Cached: 99000}},
		{"DeepSeek's cached tokens", `{"prompt_tokens":100000,"prompt_cache_hit_tokens":99000,"prompt_cache_miss_tokens":1000,"completion_tokens":10}`, tokens.Usage{Input: 100000, Output: 10, Cached: 99000}},
		{"DeepSeek's without their sum", `{"prompt_cache_hit_tokens":99000,"prompt_cache_miss_tokens":1000,"completion_tokens":10}`, tokens.Usage{Input: 100000, Output: 10, Cached: 99000}},
		{"Anthropic's", `{"input_tokens":12,"cache_creation_input_tokens":100,"cache_read_input_tokens":5000,"output_tokens":3}`, anthropic},
		{"Anthropic's, all of the prompt cached", `{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":5000,"output_tokens":3}`, tokens.Usage{Input: 5000, Output: 3, Cached: 5000}},
		{"Anthropic's, less cached than not", `{"input_tokens":500,"cache_read_input_tokens":100,"output_tokens":3}`, tokens.Usage{Input: 600, Output: 3, Cached: 100}},
		{"Anthropic's, relayed with OpenAI's names", `{"prompt_tokens":5112,"completion_tokens":3,"total_tokens":5115,"cache_creation_input_tokens":100,"cache_read_input_tokens":5000}`, anthropic},
		{"Anthropic's, relayed with both", `{"prompt_tokens":5112,"completion_tokens":3,"input_tokens":12,"output_tokens":3,"cache_creation_input_tokens":100,"cache_read_input_tokens":5000,"prompt_tokens_details":{"cached_tokens":5000}}`, anthropic},
		{"Anthropic's, included by the total", `{"input_tokens":5112,"output_tokens":3,"total_tokens":5115,"cache_creation_input_tokens":100,"cache_read_input_tokens":5000}`, anthropic},
		{"Anthropic's, kept for an hour", `{"input_tokens":12,"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"output_tokens":3}`,
			tokens.Usage{Input: 42, Output: 3, CacheWrite: 30, CacheWriteHour: 20}},
		{"OpenAI's cache writes", `{"prompt_tokens":10000,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":9000},"completion_tokens":1}`, tokens.Usage{Input: 10000, Output: 1, CacheWrite: 9000}},
		{"audio", `{"prompt_tokens":1200,"completion_tokens":600,"prompt_tokens_details":{"audio_tokens":1000},"completion_tokens_details":{"audio_tokens":100}}`,
			tokens.Usage{Input: 1200, Output: 600, AudioInput: 1000, AudioOutput: 100}},
		{"transcription", `{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":10,"audio_tokens":4},"output_tokens":45,"total_tokens":59}`, tokens.Usage{Input: 14, Output: 45, AudioInput: 4}},
		{"images made by a chat model", `{"prompt_tokens":9,"completion_tokens":1300,"completion_tokens_details":{"image_tokens":1290}}`, tokens.Usage{Input: 9, Output: 1300, ImageOutput: 1290}},
		{"reasoning that is not output", `{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}`, tokens.Usage{Input: 32, Output: 103, Reasoning: 94}},
		{"reasoning that is output", `{"prompt_tokens":32,"completion_tokens":103,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}`, tokens.Usage{Input: 32, Output: 103, Reasoning: 94}},
		{"reasoning at the top", `{"prompt_tokens":32,"completion_tokens":103,"reasoning_tokens":94}`, tokens.Usage{Input: 32, Output: 103, Reasoning: 94}},
		{"Anthropic's thinking", `{"input_tokens":32,"output_tokens":103,"output_tokens_details":{"thinking_tokens":94}}`, tokens.Usage{Input: 32, Output: 103, Reasoning: 94}},
		{"Gemini's", `{"promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":7,"cachedContentTokenCount":8,"totalTokenCount":22}`, tokens.Usage{Input: 10, Output: 12, Cached: 8, Reasoning: 7}},
		{"seconds", `{"type":"duration","seconds":3600}`, tokens.Usage{AudioMillis: 3_600_000}},
		{"seconds with a fraction", `{"type":"duration","seconds":"2.5"}`, tokens.Usage{AudioMillis: 2500}},
		{"Mistral's seconds", `{"prompt_tokens":4,"completion_tokens":635,"total_tokens":639,"prompt_audio_seconds":203}`, tokens.Usage{Input: 4, Output: 635, AudioMillis: 203_000}},
		{"searches", `{"input_tokens":4,"output_tokens":6,"server_tool_use":{"web_search_requests":2}}`, tokens.Usage{Input: 4, Output: 6, Searches: 2}},
		{"a search unit", `{"search_units":1}`, tokens.Usage{Searches: 1}},
		{"parts larger than the whole", `{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":99,"audio_tokens":98}}`, tokens.Usage{Input: 10, Output: 5, Cached: 10, AudioInput: 10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := ParseUsage([]byte(tt.raw))
			if diff := cmp.Diff(tt.want, got); diff != "" || ok != (tt.want != tokens.Usage{}) {
				t.Errorf("ParseUsage returned %v (-want +got):\n%s", ok, diff)
			}
		})
	}
}

// TestUsagePlaces reads usage wherever a whole answer and a chunk may have it.
func TestUsagePlaces(t *testing.T) {
	t.Parallel()
	used := tokens.Usage{Input: 7, Output: 3}
	const usage = `{"prompt_tokens":7,"completion_tokens":3}`
	for _, tt := range []struct {
		name, answer string
		want         tokens.Usage
		whole        bool // never in a chunk
	}{
		{"at the end", `{"choices":[],"usage":` + usage + `}`, used, false},
		{"at the beginning", `{"usage":` + usage + `,"choices":[]}`, used, false},
		{"twice, the last null", `{"usage":` + usage + `,"usage":null}`, used, false},
		{"twice, the last a placeholder", `{"usage":` + usage + `,"usage":{"prompt_tokens":0,"completion_tokens":0}}`, used, false},
		{"twice, the first a placeholder", `{"usage":{"prompt_tokens":0},"usage":` + usage + `}`, used, false},
		{"Groq's", `{"choices":[],"x_groq":{"id":"req","usage":` + usage + `}}`, used, false},
		{"Groq's beside a placeholder", `{"x_groq":{"usage":` + usage + `},"usage":{"prompt_tokens":0}}`, used, false},
		{"Groq's without usage", `{"x_groq":{"id":"req"}}`, tokens.Usage{}, false},
		{"Cohere's", `{"results":[],"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1}}}`, tokens.Usage{Searches: 1}, true},
		{"Gemini's", `{"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":3}}`, used, true},
		{"in a text", `{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}]}`, tokens.Usage{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var a Answer
			if err := a.Parse([]byte(tt.answer)); err != nil || a.Usage != tt.want || a.HasUsage != (tt.want != tokens.Usage{}) {
				t.Errorf("the answer's usage is %+v, %v, %v", a.Usage, a.HasUsage, err)
			}
			if tt.whole { // never in chunks
				return
			}
			e := Chunks.Next(nil, []byte(tt.answer))
			if got, _ := ParseUsage(e.Usage); got != tt.want {
				t.Errorf("the chunk's usage is %+v", got)
			}
		})
	}
	e := Chunks.Next(nil, []byte(`{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":`+usage+`}]}`))
	if got, _ := ParseUsage(e.Usage); got != used {
		t.Errorf("the usage in a choice is %+v", got)
	}
}

func TestServiceTier(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`"priority"`: "priority", `"fast"`: "priority", `"flex"`: "flex", `"batch"`: "batch",
		`"default"`: "", `"standard"`: "", `"auto"`: "", `"scale"`: "", `null`: "", `3`: "", `"Priority"`: "",
	} {
		if got := ParseServiceTier([]byte(raw)); got != want {
			t.Errorf("%s is %q, want %q", raw, got, want)
		}
		answer := []byte(`{"service_tier":` + raw + `,"choices":[{"finish_reason":"stop"}]}`)
		var a Answer
		if err := a.Parse(answer); err != nil || a.ServiceTier != want {
			t.Errorf("an answer with %s has %q, %v", raw, a.ServiceTier, err)
		}
		if got := ParseServiceTier(Chunks.Next(nil, answer).Tier); got != want {
			t.Errorf("a chunk with %s has %q", raw, got)
		}
	}
}

// FuzzParseUsage checks that parts are never larger than the whole, and that nothing is negative.
func FuzzParseUsage(f *testing.F) {
	f.Add([]byte(`{"prompt_tokens":5112,"completion_tokens":3,"total_tokens":5115,"cache_creation_input_tokens":100,"cache_read_input_tokens":5000}`))
	f.Add([]byte(`{"input_tokens":"12","cache_creation":{"ephemeral_1h_input_tokens":2e1},"output_tokens_details":{"reasoning_tokens":94}}`))
	f.Add([]byte(`{"promptTokenCount":10,"thoughtsTokenCount":7,"prompt_cache_hit_tokens":1e12,"prompt_cache_miss_tokens":1e12}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		u, ok := ParseUsage(raw)
		if ok != (u != tokens.Usage{}) {
			t.Errorf("%v for %+v", ok, u)
		}
		for i, n := range u.Counts() {
			if *n < 0 {
				t.Errorf("count %d is %d", i, *n)
			}
		}
		if u.Cached > u.Input || u.CacheWrite > u.Input || u.AudioInput > u.Input || u.ImageInput > u.Input || u.CacheWriteHour > u.CacheWrite ||
			u.Reasoning > u.Output || u.AudioOutput > u.Output || u.ImageOutput > u.Output {
			t.Errorf("a part is larger than the whole: %+v", u)
		}
	})
}
