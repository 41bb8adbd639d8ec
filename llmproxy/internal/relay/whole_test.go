package relay

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

func TestWhole(t *testing.T) {
	t.Parallel()
	const answer = `{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`
	large := `{"data":"` + strings.Repeat("x", maxHeld) + `"}`
	tests := []struct {
		name, in string
		want     result
	}{
		{"usual", answer, result{Body: answer, Usage: used, HasUsage: true}},
		{"blank lines before it", "\n\n\n" + answer + "\n", result{Body: "\n\n\n" + answer + "\n", Usage: used, HasUsage: true}},
		{"an array", `[{"a":1}]`, result{Body: `[{"a":1}]`}},
		{"no usage", `{"usage":null}`, result{Body: `{"usage":null}`}},
		{"just too large to be held", large[:maxHeld], result{Body: large[:maxHeld]}}, // passed on as it comes, unchecked
		{"large", large, result{Body: large}},
		{"nothing", "", result{Held: "no JSON"}},
		{"an error", `{"error":` + failure + `}`, result{Held: "event " + failure}},
		{"an error in an array", `[{"error":` + failure + `}]`, result{Held: "event " + failure}},
		{"error null", `{"error":null}`, result{Body: `{"error":null}`}},
		{"cut short of its braces", answer[:20], result{Held: "no JSON"}},
		{"two answers", `{}{}`, result{Held: "no JSON"}},
		{"a page", "<html>", result{Held: "no JSON"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Choices: 1}
			for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "application/problem+json", ""} {
				if diff := cmp.Diff(tt.want, pass(t, contentType, iotest.HalfReader(strings.NewReader(tt.in)), expect, newClient())); diff != "" {
					t.Errorf("%q (-want +got):\n%.2000s", contentType, diff)
				}
			}
		})
	}
}

// The usage of an answer that is too large to be held is read while it passes by.
func TestLargeUsage(t *testing.T) {
	t.Parallel()
	image := `{"b64_json":"` + strings.Repeat("iVBORw0KGgo/", maxHeld/12) + `"}`
	vector := `{"embedding":[` + strings.Repeat("0.5,", maxHeld/4) + `1]}`
	const usage = `"usage":{"input_tokens":3,"output_tokens":2}`
	pictures := func(n int64) tokens.Usage { return tokens.Usage{Input: 3, Output: 2, Images: n} }
	for _, tt := range []struct {
		name, path, in string
		base64         bool
		want           tokens.Usage
		hasUsage       bool
	}{
		{"a picture", "/v1/images/generations", `{"created":1,"data":[` + image + `],` + usage + `}`, false, pictures(1), true},
		{"two pictures, the usage first", "/v1/images/edits", `{` + usage + `,"data":[` + image + `,` + image + `]}`, false, pictures(2), true},
		{"a picture without usage", "/v1/images/generations", `{"created":1,"data":[` + image + `]}`, false, tokens.Usage{Images: 1}, false},
		{"a small picture", "/v1/images/generations", `{"created":1,"data":[{"url":"x"},{"url":"y"}],` + usage + `}`, false, pictures(2), true},
		{"embeddings", "/v1/embeddings", `{"data":[` + vector + `],` + usage + `}`, false, used, true},
		{"embeddings as base64", "/v1/embeddings", `{"data":[` + vector + `,` + vector + `],` + usage + `}`, true, used, true},
		{"a chat", "/v1/chat/completions", `{"choices":[{"message":{"content":"` + strings.Repeat("word ", maxHeld/4) + `"}}],` + usage + `}`, false, used, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect := Expect{Endpoint: endpoint(t, tt.path), Base64: tt.base64}
			got := pass(t, "application/json", iotest.HalfReader(strings.NewReader(tt.in)), expect, newClient())
			if diff := cmp.Diff(tt.want, got.Usage); diff != "" || got.HasUsage != tt.hasUsage || got.Held != "" || got.Sent != "" {
				t.Errorf("%q, %q, usage %v (-want +got):\n%s", got.Held, got.Sent, got.HasUsage, diff)
			}
			if !tt.base64 && got.Body != tt.in {
				t.Error("the answer was changed")
			}
		})
	}
	streamed := `data: {"type":"image_generation.partial_image","b64_json":"AA=="}` + "\n\n" + `data: {"type":"image_generation.completed","b64_json":"AA==",` + usage + "}\n\n"
	if got := pass(t, "text/event-stream", strings.NewReader(streamed), Expect{Endpoint: endpoint(t, "/v1/images/generations"), Stream: true}, newClient()); got.Usage != pictures(1) {
		t.Errorf("the usage of a streamed picture is %+v", got.Usage)
	}
}

func TestWholeCut(t *testing.T) {
	t.Parallel()
	expect := Expect{Endpoint: endpoint(t, "/v1/embeddings")}
	reset := errors.New("connection reset")
	for _, tt := range []struct {
		name       string
		size       int
		end        error
		held, sent string
	}{
		{"small, cut", 100, io.ErrUnexpectedEOF, "cut", ""},
		{"small, reset", 100, reset, "reading the answer: connection reset", ""},
		{"large, cut", maxHeld + 100, io.ErrUnexpectedEOF, "", "cut"},
		{"large, reset", maxHeld + 100, reset, "", "reading the answer: connection reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := io.MultiReader(strings.NewReader(`{"data":"`+strings.Repeat("x", tt.size)), iotest.ErrReader(tt.end))
			got := pass(t, "application/json", src, expect, newClient())
			if got.Held != tt.held || got.Sent != tt.sent {
				t.Errorf("held %q, sent %q; want %q, %q", got.Held, got.Sent, tt.held, tt.sent)
			}
		})
	}
}

// The length of an answer that is whole is known; of one that is passed on it is what the upstream said.
func TestWholeLength(t *testing.T) {
	t.Parallel()
	large := `{"data":"` + strings.Repeat("x", maxHeld) + `"}`
	for _, tt := range []struct {
		name, in string
		said     int64
		want     string
	}{
		{"whole", "{}", 2, "2"},
		{"whole, not said", "{}", -1, "2"},
		{"large", large, int64(len(large)), strconv.Itoa(len(large))},
		{"large, not said", large, -1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			res, _ := respond("application/json", strings.NewReader(tt.in))
			res.ContentLength = tt.said
			answer, err := Hold(res, Expect{Endpoint: endpoint(t, "/v1/embeddings")})
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Close()
			to := newClient()
			if err := answer.Send(to, false); err != nil || to.body.String() != tt.in || to.header.Get("Content-Length") != tt.want {
				t.Errorf("%v, %d bytes, Content-Length %q, want %q", err, to.body.Len(), to.header.Get("Content-Length"), tt.want)
			}
			if answer.Streams() {
				t.Error("half a JSON text was said to tell an error")
			}
		})
	}
}

func TestWholeClientLeaves(t *testing.T) {
	t.Parallel()
	large := `{"data":"` + strings.Repeat("x", 2*maxHeld) + `"}`
	for name, tt := range map[string]struct {
		in   string
		room int
	}{"small": {`{"a":1}`, 3}, "large, in what was held": {large, 10}, "large, behind it": {large, maxHeld + 10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := newClient()
			to.room = tt.room
			got := pass(t, "application/json", strings.NewReader(tt.in), Expect{Endpoint: endpoint(t, "/v1/embeddings")}, to)
			if got.Sent != "client left" || len(got.Body) != tt.room {
				t.Errorf("sent %q, %d bytes", got.Sent, len(got.Body))
			}
		})
	}
}

// An answer of known length is read before the commit, unless it is too large to be held as a whole: then only its opening is.
func TestKnownLength(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name         string
		length       int
		read         int   // before the commit
		reservations int64 // at the commit
	}{
		{"small", 100, 100, 0},
		{"all that is free", freeHolding, freeHolding, 4 * freeHolding},
		{"one more", freeHolding + 1, freeHolding + 1, 4 * freeHolding},
		{"large", 300_000, 300_000, 512 << 10},
		{"the largest", maxHeld - 1, maxHeld - 1, maxHeld},
		{"too large", maxHeld + 1, freeHolding, 0},
		{"huge", 3_000_000, freeHolding, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text := `{"a":"` + strings.Repeat("x", test.length-8) + `"}`
			src, usage, to := strings.NewReader(text), new(memory.Usage), newClient()
			res, _ := respond("application/json", src)
			res.ContentLength = int64(test.length)
			expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Choices: 1, Memory: memory.NewAccount(usage, 64<<20)}
			answer, err := Hold(res, expect)
			if err != nil {
				t.Fatal(err)
			}
			if read := test.length - src.Len(); read != test.read || usage.Bytes() != test.reservations {
				t.Errorf("%d bytes read and %d reserved, want %d and %d", read, usage.Bytes(), test.read, test.reservations)
			}
			if err := answer.Send(to, false); err != nil || to.body.String() != text {
				t.Errorf("%v, %d bytes", err, to.body.Len())
			}
			if answer.Close(); usage.Bytes() != 0 {
				t.Errorf("%d bytes are still reserved", usage.Bytes())
			}
		})
	}
}
