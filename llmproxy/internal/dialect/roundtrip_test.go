package dialect

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// FuzzMessageStream checks that any chunks become a message of Anthropic's grammar.
func FuzzMessageStream(f *testing.F) {
	f.Add([]byte(chunk(`{"content":"a"}`) + "\n" + finish("stop") + "\n" + usageChunk))
	f.Add([]byte(chunk(`{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}]}`) + "\n" + chunk(`{"reasoning":"h"}`)))
	f.Fuzz(func(t *testing.T, lines []byte) {
		m := MessageStream{Model: "m"}
		var stream []byte
		for len(lines) > 0 {
			line := lines
			if i := bytes.IndexByte(lines, '\n'); i >= 0 {
				line, lines = lines[:i], lines[i+1:]
			} else {
				lines = nil
			}
			var o jsonspan.Object
			if o.Scan(line) == nil {
				stream = m.Append(stream, line)
			}
		}
		read(t, m.End(stream))
	})
}

// FuzzChunkStream checks that any events become chunks of JSON.
func FuzzChunkStream(f *testing.F) {
	var all []byte
	for _, e := range events {
		all = append(append(all, e...), '\n')
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, lines []byte) {
		var c ChunkStream
		var stream []byte
		for len(lines) > 0 {
			line := lines
			if i := bytes.IndexByte(lines, '\n'); i >= 0 {
				line, lines = lines[:i], lines[i+1:]
			} else {
				lines = nil
			}
			var o jsonspan.Object
			if o.Scan(line) == nil {
				stream = c.Append(stream, nil, line)
			}
		}
		for len(stream) > 0 {
			var e sse.Event
			e, stream = sse.Cut(stream)
			if len(e.Data) > 0 && string(e.Data) != "[DONE]" && !json.Valid(e.Data) {
				t.Fatalf("%s", e.Data)
			}
		}
	})
}

func BenchmarkMessageStream(b *testing.B) {
	data := []byte(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795424811,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}`)
	m := MessageStream{Model: "m"}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = m.Append(dst[:0], data)
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
