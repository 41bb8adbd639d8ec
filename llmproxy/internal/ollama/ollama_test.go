package ollama

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

const lines = `{"model":"m","created_at":"2026-11-23T09:23:40Z","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}
{"model":"m","created_at":"2026-11-23T09:23:40Z","message":{"role":"assistant","content":"Hé"},"done":false}
{"model":"m","created_at":"2026-11-23T09:23:40Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":4,"load_duration":1,"prompt_eval_count":30,"prompt_eval_duration":2,"eval_count":7,"eval_duration":3}
`

// framed are the lines as events.
var framed = "data: " + strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n\ndata: ") + "\n\n"

func TestReader(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"as they come":          lines,
		"empty lines":           "\n" + strings.ReplaceAll(lines, "\n", "\n \n"),
		"the other line end":    strings.ReplaceAll(lines, "\n", "\r\n"),
		"no end after the last": strings.TrimSpace(lines),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for split := range len(in) + 1 { // at every byte
				r := NewReader(io.NopCloser(io.MultiReader(strings.NewReader(in[:split]), strings.NewReader(in[split:]))), Frame)
				if got, err := io.ReadAll(r); err != nil || string(got) != framed {
					t.Fatalf("split at %d: %v\n%s", split, err, cmp.Diff(framed, string(got)))
				}
			}
			r := NewReader(io.NopCloser(iotest.OneByteReader(strings.NewReader(in))), Frame)
			if got, err := io.ReadAll(iotest.OneByteReader(r)); err != nil || string(got) != framed {
				t.Errorf("byte by byte: %v\n%s", err, got)
			}
		})
	}
}

func TestReaderFails(t *testing.T) {
	t.Parallel()
	cut := errors.New("cut")
	r := NewReader(io.NopCloser(io.MultiReader(strings.NewReader("{\"a\":1}\n{\"b\""), iotest.ErrReader(cut))), Frame)
	if got, err := io.ReadAll(r); !errors.Is(err, cut) || string(got) != "data: {\"a\":1}\n\n" {
		t.Errorf("%v: %q", err, got)
	}
	long := strings.Repeat("x", sse.MaxEvent+1)
	if _, err := io.ReadAll(NewReader(io.NopCloser(strings.NewReader(long)), Frame)); !errors.Is(err, sse.ErrTooLong) {
		t.Error(err)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, line  string
		first, next openai.Event
	}{
		{"text", `{"message":{"content":"Hé"},"done":false}`, openai.Event{Content: true}, openai.Event{Text: jsonspan.TextCount{Chars: 2, Bytes: 3}}},
		{"of generate", `{"response":"a","done":false}`, openai.Event{Content: true}, openai.Event{Text: jsonspan.TextCount{Chars: 1, Bytes: 1}}},
		{"thinking", `{"message":{"content":"","thinking":"hm"},"done":false}`, openai.Event{Content: true}, openai.Event{Text: jsonspan.TextCount{Chars: 2, Bytes: 2}}},
		{"a call", `{"message":{"content":"","tool_calls":[1]},"done":false}`, openai.Event{Content: true}, openai.Event{Text: jsonspan.TextCount{Chars: 3, Bytes: 3}}},
		{"nothing", `{"message":{"content":"","tool_calls":[]},"done":false,"error":""}`, openai.Event{}, openai.Event{}},
		{"no JSON", `{"message":`, openai.Event{Malformed: true}, openai.Event{Malformed: true}},
		{"an error", `{"error":"gone"}`, openai.Event{Err: []byte(`"gone"`)}, openai.Event{Err: []byte(`"gone"`)}},
		{
			"the end", `{"done":true,"eval_count":7}`,
			openai.Event{Content: true, Finish: true, Finishes: 1, Done: true, Usage: []byte(`{"done":true,"eval_count":7}`)},
			openai.Event{Content: true, Finish: true, Finishes: 1, Done: true, Usage: []byte(`{"done":true,"eval_count":7}`)},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.first, Events{}.First(nil, []byte(test.line))); diff != "" {
				t.Errorf("first: %s", diff)
			}
			if diff := cmp.Diff(test.next, Events{}.Next(nil, []byte(test.line))); diff != "" {
				t.Errorf("next: %s", diff)
			}
		})
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	var l Line
	last := strings.Split(lines, "\n")[2]
	l.Read([]byte(last))
	want := Line{
		Model: []byte("m"), CreatedAt: []byte("2026-11-23T09:23:40Z"), Reason: []byte("stop"), Done: true, PromptTokens: 30, OutputTokens: 7,
		Total: 4 * time.Nanosecond, Load: 1, Prompt: 2, Output: 3,
	}
	if diff := cmp.Diff(want, l); diff != "" {
		t.Error(diff)
	}
}

// FuzzReader checks that any bytes become events whose data are the lines.
func FuzzReader(f *testing.F) {
	f.Add([]byte(lines), 5)
	f.Add([]byte("a\r\nb\r\n\n c"), 1)
	f.Fuzz(func(t *testing.T, in []byte, split int) {
		split = min(max(split, 0), len(in))
		r := NewReader(io.NopCloser(io.MultiReader(bytes.NewReader(in[:split]), bytes.NewReader(in[split:]))), Frame)
		events, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(in) {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			var e sse.Event
			e, events = sse.Cut(events)
			if want := bytes.ReplaceAll(bytes.ReplaceAll(line, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n")); !bytes.Equal(e.Data, want) {
				t.Fatalf("%q becomes %q", line, e.Data)
			}
			var l Line
			l.Read(line)
		}
		if len(events) > 0 {
			t.Fatalf("%q is left", events)
		}
	})
}

func BenchmarkEvents(b *testing.B) {
	line := []byte(strings.Split(lines, "\n")[1])
	b.ReportAllocs()
	for b.Loop() {
		Events{}.Next(nil, line)
	}
}
