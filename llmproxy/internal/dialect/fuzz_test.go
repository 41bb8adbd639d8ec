package dialect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// addGoldens adds what goes into the goldens of some kind.
func addGoldens(f *testing.F, kind string) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "golden", kind, "*.in.*"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no goldens of %s, %v", kind, err)
	}
	for _, file := range files {
		in, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(in)
	}
}

// Requests of any JSON become JSON of the same model, or an error that names a place.
func FuzzChatFromMessages(f *testing.F) {
	addGoldens(f, "messages-request")
	f.Add([]byte(`{"max_tokens":9,"system":[{"type":"text","text":"A"}],"tools":[{"name":"f"}],"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var o jsonspan.Object
		if o.Scan(body) != nil {
			return
		}
		for _, options := range []ChatOptions{AllOptions, {}, {TopK: true, Reasoning: true}, {Counting: true}} {
			chat, _, err := ChatFromMessages(&o, options)
			switch {
			case err != nil && (err.Status != 400 || err.Param == ""):
				t.Errorf("%s is refused with status %d, %q", body, err.Status, err.Param)
			case err == nil && !json.Valid(chat):
				t.Errorf("%s becomes %s", body, chat)
			}
		}
	})
}

// Requests of any JSON become JSON without duplicate keys, and what responses repeat of them is JSON on one line; or an error names a place.
func FuzzChatFromResponse(f *testing.F) {
	addGoldens(f, "response-request")
	for _, name := range []string{"apply-patch", "code-mode", "results"} {
		f.Add(readFile(f, filepath.Join("testdata", "codex", name+".json")))
	}
	f.Add([]byte(`{"tools":[{"type":"shell"}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"shell"}]},"input":[{"type":"shell_call","call_id":"a","action":{}},{"role":"user","content":"Hi"},{"type":"shell_call_output","call_id":"a","output":[]},{"type":"reasoning","encrypted_content":"llm_proxy_InJlYXNvbmluZ19jb250ZW50IjoiaG0i"},{"role":"assistant","content":"x"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var o openai.Request
		if o.Parse(body) != nil {
			return
		}
		for _, options := range []ChatOptions{AllOptions, {}, {Reasoning: true, Inline: true}} {
			chat, about, err := ChatFromResponse(&o.Object, options)
			if err != nil {
				if err.Status != 400 || err.Param == "" {
					t.Errorf("%s is refused with status %d, %q", body, err.Status, err.Param)
				}
				continue
			}
			var translated openai.Request
			if err := translated.Parse(chat); err != nil || !json.Valid(chat) {
				t.Errorf("%s becomes %s, %v", body, chat, err)
			}
			if echo := "{" + string(about.Echo) + "}"; !json.Valid([]byte(echo)) || strings.ContainsAny(echo, "\r\n") {
				t.Errorf("of %s, responses repeat %q", body, echo)
			}
		}
	})
}

func FuzzMessagesFromChat(f *testing.F) {
	addGoldens(f, "chat-request")
	f.Add([]byte(`{"tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var o jsonspan.Object
		if o.Scan(body) != nil {
			return
		}
		messages, err := MessagesFromChat(&o, 0)
		switch {
		case err != nil && (err.Status != 400 || err.Param == ""):
			t.Errorf("%s is refused with status %d, %q", body, err.Status, err.Param)
		case err == nil && !json.Valid(messages):
			t.Errorf("%s becomes %s", body, messages)
		}
	})
}

// Answers of any JSON become JSON, or nothing.
func FuzzMessageFromChat(f *testing.F) {
	addGoldens(f, "chat-answer")
	f.Fuzz(func(t *testing.T, answer []byte) {
		var o jsonspan.Object
		if o.Scan(answer) != nil {
			return
		}
		message, ok := MessageFromChat(nil, answer, &About{Model: "m"})
		if !ok {
			return
		}
		var m struct {
			Content    []map[string]any
			StopReason string `json:"stop_reason"`
			Usage      map[string]any
		}
		if err := json.Unmarshal(message, &m); err != nil || len(m.Content) == 0 || m.StopReason == "" || m.Usage["input_tokens"] == nil {
			t.Errorf("%s becomes %s, %v", answer, message, err)
		}
	})
}

func FuzzChatFromMessage(f *testing.F) {
	addGoldens(f, "messages-answer")
	f.Fuzz(func(t *testing.T, answer []byte) {
		var o jsonspan.Object
		if o.Scan(answer) != nil {
			return
		}
		chat, ok := ChatFromMessage(answer, nil, true)
		if !ok {
			return
		}
		var c struct {
			Choices []struct {
				Message      map[string]any
				FinishReason string `json:"finish_reason"`
			}
			Usage map[string]any
		}
		if err := json.Unmarshal(chat, &c); err != nil || len(c.Choices) != 1 || c.Choices[0].Message["role"] != "assistant" || c.Choices[0].FinishReason == "" || c.Usage["prompt_tokens"] == nil {
			t.Errorf("%s becomes %s, %v", answer, chat, err)
		}
	})
}

// Any chunks become a message of Anthropic's grammar.
func FuzzMessageStream(f *testing.F) {
	addGoldens(f, "chat-stream")
	f.Fuzz(func(t *testing.T, in []byte) {
		m := MessageStream{Model: "m"}
		stream := eachEvent(in, func(out []byte, e *sse.Event) []byte {
			var o jsonspan.Object
			if string(e.Data) == "[DONE]" || o.Scan(e.Data) == nil { // the relay has checked that it is JSON
				return m.Append(out, bytes.ReplaceAll(e.Data, []byte("\n"), []byte(" ")))
			}
			return out
		})
		dialecttest.ReadMessage(t, m.End(stream))
	})
}

// Any events, once they end as they should, become chunks that OpenAI's clients can read.
func FuzzChunkStream(f *testing.F) {
	addGoldens(f, "messages-stream")
	f.Fuzz(func(t *testing.T, in []byte) {
		var c ChunkStream
		stream := eachEvent(in, func(out []byte, e *sse.Event) []byte {
			var o jsonspan.Object
			if o.Scan(e.Data) == nil {
				return c.Append(out, e.Name, e.Data)
			}
			return out
		})
		dialecttest.ReadChat(t, c.Append(stream, nil, []byte(`{"type":"message_stop"}`)))
	})
}

// Any chunks become a response of the grammar of its events, or an error.
func FuzzResponseStream(f *testing.F) {
	addGoldens(f, "chat-stream")
	f.Add([]byte("data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"apply_patch\",\"arguments\":\"{\\\"input\\\":\\\"a\\\\n\"}}]}}]}\n\n"))
	f.Add([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"a\",\"annotations\":[{\"url_citation\":{}}]},\"finish_reason\":\"length\"}]}\n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := newResponseStream()
		stream := eachEvent(in, func(out []byte, e *sse.Event) []byte { return s.Append(out, e.Data) })
		dialecttest.ReadResponse(t, s.End(stream))
	})
}

// Any answer becomes a response, or nothing.
func FuzzWholeResponse(f *testing.F) {
	addGoldens(f, "chat-answer")
	f.Fuzz(func(t *testing.T, answer []byte) {
		if body, _, ok := newResponseStream().Whole(nil, answer); ok {
			dialecttest.ReadWholeResponse(t, body)
		}
	})
}

// The input of a custom tool is the same in whatever parts it comes, and that of the arguments if those are what they should be.
func FuzzCustomReader(f *testing.F) {
	f.Add(`{"input":"a\n\u00e9\ud83d\ude00 \ud83d \q"}`, 3)
	f.Add("*** Begin", 1)
	f.Fuzz(func(t *testing.T, arguments string, size int) {
		if !utf8.ValidString(arguments) || size < 1 {
			return
		}
		read := func(size int) string {
			var r customReader
			var raw []byte
			for part := range slices.Chunk([]byte(arguments), size) {
				raw = r.add(raw, part)
			}
			quoted := fmt.Appendf(nil, `"%s"`, r.end(raw))
			if !json.Valid(quoted) {
				t.Fatalf("%q becomes %q", arguments, quoted)
			}
			return str(quoted)
		}
		whole := read(len(arguments) + 1)
		if parts := read(size); parts != whole {
			t.Errorf("%q becomes %q, and in parts %q", arguments, whole, parts)
		}
		var o jsonspan.Object
		if o.Scan([]byte(arguments)) == nil && len(o.Members) == 1 {
			if want := get([]byte(arguments), customInput); isText(want) && str(want) != whole {
				t.Errorf("%q becomes %q", arguments, whole)
			}
		}
	})
}
