package dialect

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

func BenchmarkMessageStream(b *testing.B) {
	data := []byte(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795424811,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}`)
	m := MessageStream{Model: "m"}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = m.Append(dst[:0], data)
	}
}

func BenchmarkResponseStream(b *testing.B) {
	const chunk = `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795424811,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":null}]}`
	for _, bench := range []struct{ name, first, delta string }{
		{"text", `{"content":"a"}`, `{"content":" token"}`},
		{"reasoning", `{"reasoning_content":"a"}`, `{"reasoning_content":" token"}`},
		{"arguments", `{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\":\""}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":" token"}}]}`},
		{"input", `{"tool_calls":[{"index":0,"id":"x","function":{"name":"apply_patch","arguments":"{\"input\":\""}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":" token\\n"}}]}`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := newResponseStream()
			dst := s.Append(nil, fmt.Appendf(nil, chunk, bench.first))
			data, begun := fmt.Appendf(nil, chunk, bench.delta), len(s.output)
			b.ReportAllocs()
			for b.Loop() {
				dst = s.Append(dst[:0], data)
				if len(s.output) > 64<<10 { // an answer of 16,000 tokens
					s.output, s.held = s.output[:begun], 0
				}
			}
		})
	}
}

// BenchmarkResponse is a stream from its beginning to its end, with the tools of an agent.
func BenchmarkResponse(b *testing.B) {
	request := &ResponseRequest{Echo: []byte(responseEcho + `,"x":"` + strings.Repeat("tool ", 8<<10) + `"`)}
	var chunks [][]byte
	for range 200 {
		chunks = append(chunks, []byte(chunk(`{"content":" token"}`)))
	}
	chunks = append(chunks, []byte(finish("stop")), []byte(usageChunk))
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		s := ResponseStream{Request: request, Model: "m"}
		for _, data := range chunks {
			dst = s.Append(dst[:0], data)
		}
	}
}

// BenchmarkWhole translates a whole answer of 1 KiB.
func BenchmarkWhole(b *testing.B) {
	answer := fmt.Appendf(nil, `{"id":"chatcmpl-1","object":"chat.completion","created":1795424811,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":170,"total_tokens":180}}`, strings.Repeat("token ", 130))
	request := &ResponseRequest{Echo: []byte(responseEcho)}
	b.SetBytes(int64(len(answer)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := (&ResponseStream{Request: request}).Whole(nil, answer); !ok {
			b.Fatal("not translated")
		}
	}
}

func BenchmarkChunkStream(b *testing.B) {
	data := []byte(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}`)
	var c ChunkStream
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = c.Append(dst[:0], nil, data)
	}
}

func BenchmarkCompletionAnswer(b *testing.B) {
	data := []byte(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795424811,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}`)
	var c CompletionAnswer
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = c.Append(dst[:0], data)
	}
}

func BenchmarkChatFromResponse(b *testing.B) {
	request := []byte(`{"model":"m","instructions":"You are a coding agent. You are expected to be precise, safe, and helpful.","stream":true,"store":false,"include":["reasoning.encrypted_content"],"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"Create a.txt, then list the files"}]},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"I look."}]},{"type":"function_call","id":"fc_1","name":"exec_command","arguments":"{\"cmd\": \"ls\"}","call_id":"call_1"},{"type":"function_call_output","call_id":"call_1","output":"a.txt\nb.txt\n"}],"tools":[{"type":"function","name":"exec_command","description":"Runs a command, and returns its output.","strict":false,"parameters":{"type":"object","properties":{"cmd":{"type":"string"}},"required":["cmd"],"additionalProperties":false}},{"type":"web_search"}],"tool_choice":"auto","parallel_tool_calls":true,"reasoning":{"effort":"low","summary":"auto"},"prompt_cache_key":"k"}`)
	var o jsonspan.Object
	if err := o.Scan(request); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(request)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ChatFromResponse(&o, ChatOptions{Reasoning: true}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChatFromMessages(b *testing.B) {
	request := []byte(`{"model":"m","max_tokens":4096,"system":"You are a coding agent. You are expected to be precise, safe, and helpful.","stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"Create a.txt, then list the files"}]},{"role":"assistant","content":[{"type":"text","text":"I look."},{"type":"tool_use","id":"call_1","name":"exec_command","input":{"cmd": "ls"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_1","content":"a.txt\nb.txt\n"}]}],"tools":[{"name":"exec_command","description":"Runs a command, and returns its output.","input_schema":{"type":"object","properties":{"cmd":{"type":"string"}},"required":["cmd"],"additionalProperties":false}}],"tool_choice":{"type":"auto"}}`)
	var o jsonspan.Object
	if err := o.Scan(request); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(request)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ChatFromMessages(&o, ChatOptions{Reasoning: true}); err != nil {
			b.Fatal(err)
		}
	}
}
