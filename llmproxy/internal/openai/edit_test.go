package openai

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

func TestEditAskUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, want string }{
		{"no options", `{"stream":true}`, `{"stream":true,"stream_options":{"include_usage":true}}`},
		{"options null", `{"stream_options":null,"stream":true}`, `{"stream_options":{"include_usage":true},"stream":true}`},
		{"options empty", `{"stream_options":{ }}`, `{"stream_options":{ "include_usage":true}}`},
		{"other options", `{"stream_options":{"include_obfuscation":false}}`, `{"stream_options":{"include_obfuscation":false,"include_usage":true}}`},
		{"asked not to", `{"stream_options":{"include_usage": false,"x":1}}`, `{"stream_options":{"include_usage": true,"x":1}}`},
		{"asked for null", `{"stream_options":{"include_usage":null}}`, `{"stream_options":{"include_usage":true}}`},
		{"asked already", `{"stream_options":{"include_usage":true}}`, `{"stream_options":{"include_usage":true}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var h Head
			if err := h.Parse([]byte(tt.body)); err != nil {
				t.Fatal(err)
			}
			var e jsonspan.Edit
			e.Reset(&h.Object)
			AskUsage(&e, &h)
			if got := readAll(t, e.Body()); got != tt.want {
				t.Errorf("the body is %s\nwant        %s", got, tt.want)
			}
		})
	}
}

func TestEditAllocations(t *testing.T) {
	var h Head
	if err := h.Parse(chatBody(1 << 10)); err != nil {
		t.Fatal(err)
	}
	var e jsonspan.Edit
	for _, tt := range []struct {
		name, model string
		want        float64
	}{
		{"nothing changes: the segment", "gpt-4o-mini", 1},
		{"another model: its JSON, the segments, the new bytes", "llama3.1:8b", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(100, func() {
				e.Reset(&h.Object)
				e.SetString("model", tt.model)
				AskUsage(&e, &h)
				if e.Body().Len() == 0 {
					t.Error("there is no body")
				}
			}); n > tt.want {
				t.Errorf("an edit makes %v allocations, want %v", n, tt.want)
			}
		})
	}
}

// readAll reads a body in both ways, which must agree.
func readAll(t *testing.T, b jsonspan.Body) string {
	t.Helper()
	read, err := io.ReadAll(iotest.OneByteReader(b.Open()))
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	if _, err := b.Open().(io.WriterTo).WriteTo(&written); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read, written.Bytes()) || int64(len(read)) != b.Len() {
		t.Fatalf("Read gives %q, WriteTo %q, Len %d", read, written.Bytes(), b.Len())
	}
	return string(read)
}
