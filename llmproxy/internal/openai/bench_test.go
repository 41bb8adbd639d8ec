package openai

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

const (
	prose = `Explain the difference between a queue and a stack, with an example in Go, please.\n`
	code  = `\tfmt.Println(\"a queue\", len(q))\n`
)

// chatBody returns a chat request of about the given size, in the order of openai-python: the model comes after the messages.
func chatBody(size int) []byte { return chatBodyOf(size, prose) }

func chatBodyOf(size int, line string) []byte {
	var b bytes.Buffer
	b.WriteString(`{"messages":[{"role":"system","content":"You are a helpful assistant."}`)
	for b.Len() < size-200 {
		fmt.Fprintf(&b, `,{"role":"user","content":"%s"}`, strings.Repeat(line, min(12, max(1, (size-b.Len())/len(line)))))
	}
	b.WriteString(`],"model":"gpt-4o-mini","temperature":0.7,"max_tokens":512,"stream":true,"stream_options":{"include_usage":true}}`)
	return b.Bytes()
}

func benchmarkRequest(b *testing.B, body []byte) {
	var r Request
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if err := r.Parse(body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRequest100KCode parses strings with an escape every nine bytes.
func BenchmarkRequest100KCode(b *testing.B) { benchmarkRequest(b, chatBodyOf(100<<10, code)) }

// BenchmarkRequest100KPlain parses one long string without escapes, like an image or audio.
func BenchmarkRequest100KPlain(b *testing.B) {
	benchmarkRequest(b, []byte(`{"model":"m","input":"`+strings.Repeat("iVBORw0KGgo/", 100<<10/12)+`"}`))
}

func BenchmarkRequest1K(b *testing.B)   { benchmarkRequest(b, chatBody(1<<10)) }
func BenchmarkRequest100K(b *testing.B) { benchmarkRequest(b, chatBody(100<<10)) }

// BenchmarkRequest100KRussian parses text of two-byte characters.
func BenchmarkRequest100KRussian(b *testing.B) {
	benchmarkRequest(b, []byte(`{"model":"m","input":"`+strings.Repeat(`Объясните разницу между очередью и стеком.\n`, 1300)+`"}`))
}

// BenchmarkRequest5M, BenchmarkRequest10MImage and BenchmarkRequest126KMessages parse what is too large for a processor's cache: long texts,
// an image as base64, and as many short messages as fit into 5 MB.
func BenchmarkRequest5M(b *testing.B) { benchmarkRequest(b, chatBody(5_000_000)) }

func BenchmarkRequest10MImage(b *testing.B) {
	benchmarkRequest(b, []byte(`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,`+
		strings.Repeat("iVBORw0KGgo/", 10_000_000/12)+`"}}]}],"model":"m"}`))
}

func BenchmarkRequest126KMessages(b *testing.B) {
	benchmarkRequest(b, messages126K())
}

func messages126K() []byte {
	return []byte(`{"messages":[` + strings.Repeat(`{"role":"user","content":"All right."},`, 126_000) + `{"role":"user","content":""}],"model":"m"}`)
}

func BenchmarkEdit1K(b *testing.B) {
	r := parseRequest(b, string(chatBody(1<<10)))
	var e jsonspan.Edit
	b.ReportAllocs()
	for b.Loop() {
		e.Reset(&r.Object)
		e.SetString("model", "meta-llama/Llama-3.1-8B-Instruct")
		r.RequestUsage(&e)
		if len(e.Segments()) == 0 {
			b.Fatal("the edited body is empty")
		}
	}
}

var events = []struct{ name, kind, data string }{
	{name: "openai", data: `{"id":"chatcmpl-CfT3bP9qk2yT9w2vQf7h0Xy1aBcDe","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_44added55e","choices":[{"index":0,"delta":{"content":" the"},"logprobs":null,"finish_reason":null}],"usage":null}`},
	{name: "llamacpp", data: `{"choices":[{"finish_reason":null,"index":0,"delta":{"content":" the tiny"}}],"created":1795424810,"id":"chatcmpl-7D93RaNfGQ6cmC28nfmb5pJveadyCNfq","model":"tiny","system_fingerprint":"b1-de3ff81","object":"chat.completion.chunk"}`},
	{name: "vllm", data: `{"id":"chatcmpl-4b4bd1e6f8d04d70a2a1c8a0d9f2b0c1","object":"chat.completion.chunk","created":1760000000,"model":"meta-llama/Llama-3.1-8B-Instruct","choices":[{"index":0,"delta":{"content":" the"},"logprobs":null,"finish_reason":null,"token_ids":null}]}`},
	{name: "finish", data: `{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"created":1795424810,"id":"chatcmpl-7D93RaNfGQ6cmC28nfmb5pJveadyCNfq","model":"tiny","system_fingerprint":"b1-de3ff81","object":"chat.completion.chunk"}`},
	{name: "responses", kind: "response.output_text.delta", data: `{"content_index":0,"delta":"Hello","item_id":"msg_502028","logprobs":[],"output_index":0,"sequence_number":4,"type":"response.output_text.delta"}`},
}

func BenchmarkNext(b *testing.B) {
	for _, e := range events {
		b.Run(e.name, func(b *testing.B) {
			framing, kind, data := Chunks, []byte(e.kind), []byte(e.data)
			if e.kind != "" {
				framing = Typed
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if framing.Next(kind, data).Err != nil {
					b.Fatal("Next found an error")
				}
			}
		})
	}
}

func BenchmarkFirst(b *testing.B) {
	data := []byte(events[0].data)
	b.ReportAllocs()
	for b.Loop() {
		if !Chunks.First(nil, data).Content {
			b.Fatal("First found no content")
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	body := []byte(`{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"gpt-x","choices":[{"index":0,"finish_reason":"stop","logprobs":null,"message":{"role":"assistant","content":"` +
		strings.Repeat(`A queue hands out what came first.\n`, 20) + `","refusal":null}}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	var a Answer
	for b.Loop() {
		if err := a.Parse(body); err != nil || !a.HasUsage {
			b.Fatal(err, a)
		}
	}
}

// BenchmarkSignals reads the signals of a parsed request.
func BenchmarkSignals(b *testing.B) {
	for _, t := range []struct {
		name string
		body []byte
	}{
		{"1K", chatBody(1 << 10)}, {"100K", chatBody(100 << 10)}, {"100KCode", chatBodyOf(100<<10, code)},
		{"100KImage", []byte(`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"` + strings.Repeat("iVBORw0KGgo/", 100<<10/12) + `"}}]}]}`)},
		{"126KMessages", messages126K()},
	} {
		b.Run(t.name, func(b *testing.B) {
			r := parseRequest(b, string(t.body))
			b.SetBytes(int64(len(t.body)))
			b.ReportAllocs()
			for b.Loop() {
				r.signals = nil
				if r.Signals().PromptTokens == 0 {
					b.Fatal("no tokens")
				}
			}
		})
	}
}
