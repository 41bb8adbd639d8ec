package dialect

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type jsonObject = map[string]any

// A generator makes conversations. The same seed always makes the same one.
type generator struct {
	*rand.Rand
	calls int
}

func newGenerator(seed uint64) *generator { return &generator{Rand: rand.New(rand.NewPCG(seed, 7))} }

func (g *generator) often() bool { return g.IntN(3) > 0 }

// text returns text that needs escapes, or is empty if that is allowed.
func (g *generator) text() string {
	return fmt.Sprint([]string{"Hi", "a \"b\"\n", "é\u2028", "\\", "🙂", "<tag>"}[g.IntN(6)], g.IntN(1000))
}

// some adds some of the members.
func (g *generator) some(to, members jsonObject) {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if g.often() {
			to[name] = members[name]
		}
	}
}

// openAI returns a request for chat completions. Lost says what Ollama's format cannot express of it; see docs/dialects.md.
func (g *generator) openAI() (request jsonObject, lose func(jsonObject)) {
	request = jsonObject{"model": "m", "stream": g.often()}
	if request["stream"] == true {
		request["stream_options"] = jsonObject{"include_usage": true}
	}
	g.some(request, jsonObject{
		"temperature": 0.5, "top_p": 0.25, "seed": 7, "stop": []string{"a", "b"}, "presence_penalty": 0.5, "frequency_penalty": 1.5, "max_tokens": 9,
		"top_k": 4, "min_p": 0.5, "keep_alive": "5m", "truncate": false, "logprobs": true, "top_logprobs": 2, "options": jsonObject{"num_ctx": 4096},
		"user": "u", "logit_bias": jsonObject{"1": 2}, "parallel_tool_calls": false, "store": true, "metadata": jsonObject{"a": "b"},
		"response_format":  []any{jsonObject{"type": "json_object"}, jsonObject{"type": "json_schema", "json_schema": jsonObject{"name": "answer", "schema": jsonObject{"type": "object"}}}}[g.IntN(2)],
		"reasoning_effort": []string{"low", "medium", "high", "none"}[g.IntN(4)],
	})
	var messages []any
	if g.often() {
		messages = append(messages, jsonObject{"role": "system", "content": g.text()})
	}
	for range 1 + g.IntN(4) {
		messages = append(messages, g.turn()...)
	}
	request["messages"] = messages
	if g.calls > 0 {
		request["tools"] = []any{jsonObject{"type": "function", "function": jsonObject{"name": "f", "description": g.text(), "parameters": jsonObject{"type": "object"}}}}
	}
	return request, func(translated jsonObject) {
		for _, name := range []string{"user", "logit_bias", "parallel_tool_calls", "store", "metadata"} {
			delete(translated, name)
		}
	}
}

// turn returns the messages of a turn: the user's, and the assistant's, with tool calls and their results.
func (g *generator) turn() (messages []any) {
	content := any(g.text())
	if g.IntN(3) == 0 {
		content = []any{jsonObject{"type": "text", "text": g.text()}, jsonObject{"type": "image_url", "image_url": jsonObject{"url": "data:image/png;base64," + png}}}
	}
	messages = append(messages, jsonObject{"role": "user", "content": content})
	answer := jsonObject{"role": "assistant", "content": g.text()}
	if g.IntN(3) == 0 {
		answer["reasoning_content"] = g.text()
	}
	messages = append(messages, answer)
	if g.IntN(2) == 0 {
		return messages
	}
	var calls []any
	for range 1 + g.IntN(3) {
		id := fmt.Sprint("call_id_", g.calls)
		g.calls++
		arguments, _ := json.Marshal(jsonObject{"a": g.text(), "n": g.IntN(10)})
		calls = append(calls, jsonObject{"id": id, "type": "function", "function": jsonObject{"name": fmt.Sprint("f", g.IntN(2)), "arguments": string(arguments)}})
		messages = append(messages, jsonObject{"role": "tool", "tool_call_id": id, "content": g.text()})
	}
	answer["tool_calls"] = calls
	if g.IntN(2) == 0 {
		answer["content"] = nil
	}
	return messages
}

// ollama returns a request for /api/chat.
func (g *generator) ollama() jsonObject {
	request := jsonObject{"model": "m", "stream": g.often()}
	g.some(request, jsonObject{
		"keep_alive": -1, "truncate": true, "shift": false, "logprobs": true, "top_logprobs": 2,
		"think":  []any{true, false, "low", "max"}[g.IntN(4)],
		"format": []any{"json", jsonObject{"type": "object"}}[g.IntN(2)],
	})
	options := jsonObject{}
	g.some(options, jsonObject{"num_ctx": 4096, "num_predict": -1, "temperature": 0.5, "top_k": 4, "repeat_penalty": 1.5, "stop": []string{"a"}, "num_gpu": 0, "from_the_future": jsonObject{"a": nil}})
	if len(options) > 0 {
		request["options"] = options
	}
	var messages []any
	for range 1 + g.IntN(4) {
		user := jsonObject{"role": "user", "content": g.text()}
		if g.IntN(3) == 0 {
			user["images"] = []string{png}
		}
		answer := jsonObject{"role": "assistant", "content": g.text()}
		if g.IntN(3) == 0 {
			answer["thinking"] = g.text()
		}
		messages = append(messages, user, answer)
		if g.IntN(2) == 0 {
			continue
		}
		var calls []any
		for i := range 1 + g.IntN(3) {
			id, name := fmt.Sprint("call_", g.calls), fmt.Sprint("f", i)
			g.calls++
			calls = append(calls, jsonObject{"id": id, "function": jsonObject{"index": i, "name": name, "arguments": jsonObject{"a": g.text()}}})
			messages = append(messages, jsonObject{"role": "tool", "tool_name": name, "tool_call_id": id, "content": g.text()})
		}
		answer["tool_calls"] = calls
	}
	request["messages"] = messages
	return request
}

func decoded(t *testing.T, body []byte) (o jsonObject) {
	t.Helper()
	if err := json.Unmarshal(body, &o); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return o
}

// A hundred conversations in OpenAI's format lose on the way to Ollama's and back only what docs/dialects.md lists.
func TestChatToOllamaAndBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		request, lose := newGenerator(seed).openAI()
		body, _ := json.Marshal(request)
		there, err := OllamaRequestFromChat(scan(t, string(body)))
		if err != nil {
			t.Fatal(err)
		}
		back, err := ChatFromOllama(scan(t, string(there)), AllOptions)
		if err != nil {
			t.Fatalf("%v: %s", err, there)
		}
		want, got := decoded(t, body), decoded(t, back)
		lose(want)
		if effort, ok := want["reasoning_effort"]; ok { // it keeps Ollama's name; the upstream knows both
			delete(want, "reasoning_effort")
			if want["think"] = effort; effort == "none" {
				want["think"] = false
			}
		}
		for _, message := range got["messages"].([]any) {
			if message := message.(jsonObject); message["role"] == "tool" {
				delete(message, "name")
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d, through %s: -want +got:\n%s", seed, there, diff)
		}
	}
}

// A hundred conversations in Ollama's format lose nothing on the way to OpenAI's and back.
func TestOllamaToChatAndBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		body, _ := json.Marshal(newGenerator(seed).ollama())
		there, err := ChatFromOllama(scan(t, string(body)), AllOptions)
		if err != nil {
			t.Fatal(err)
		}
		back, err := OllamaRequestFromChat(scan(t, string(there)))
		if err != nil {
			t.Fatalf("%v: %s", err, there)
		}
		if diff := cmp.Diff(decoded(t, body), decoded(t, back)); diff != "" {
			t.Fatalf("seed %d, through %s: -want +got:\n%s", seed, there, diff)
		}
	}
}
