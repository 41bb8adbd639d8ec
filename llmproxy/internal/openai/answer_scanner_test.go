package openai

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// scanInPieces reads an answer in pieces of n bytes.
func scanInPieces(answer []byte, n int) *AnswerScanner {
	s := new(AnswerScanner)
	for len(answer) > 0 {
		n = min(n, len(answer))
		s.Write(answer[:n]) //nolint:errcheck // never fails
		answer = answer[n:]
	}
	return s
}

func TestAnswerScanner(t *testing.T) {
	t.Parallel()
	used := Answer{Usage: tokens.Usage{Input: 50, Output: 4160}, HasUsage: true}
	const usage = `"usage":{"input_tokens":50,"output_tokens":4160}`
	picture := `{"b64_json":"` + strings.Repeat("iVBORw0KGgo/", 100) + `"}`
	escapes := `"` + strings.Repeat(`\\ \" \u00e9`, 50) + `"`
	for _, tt := range []struct {
		name, body string
		want       Answer
		images     int64
	}{
		{"a picture", `{"created":1,"data":[` + picture + `],` + usage + `}`, used, 1},
		{"three pictures, with white space", "{ \"data\" : [ " + picture + " , " + picture + ",\n" + picture + " ] , " + usage + " }\n", used, 3},
		{"no pictures", `{"data":[],` + usage + `}`, used, 0},
		{"no data", `{` + usage + `}`, used, 0},
		{"the usage first", `{` + usage + `,"data":[` + picture + `]}`, used, 1},
		{"the usage in between, a placeholder after it", `{"a":{"b":[1,2]},` + usage + `,"data":[{"x":[1,2]},{"y":{"z":3}}],"usage":null,"usage":{"input_tokens":0}}`, used, 2},
		{"strings with escapes", `{"data":[{"revised_prompt":` + escapes + `},{"url":` + escapes + `}],` + usage + `}`, used, 2},
		{"embeddings", `{"data":[{"embedding":[-0.1,2e-3,1]},{"embedding":[1,2,3]}],` + usage + `}`, used, 2},
		{"numbers as data", `{"data":[1,2,3],` + usage + `}`, used, 3},
		{"usage inside other members", `{"data":[{` + usage + `}],"choices":[{"message":{` + usage + `}}]}`, Answer{}, 1},
		{"usage in a string", `{"text":"\"usage\":{\"input_tokens\":5}"}`, Answer{}, 0},
		{"a tier and a duration", `{"service_tier":"flex","duration":2.5,` + usage + `}`, Answer{Usage: used.Usage, HasUsage: true, ServiceTier: "flex", AudioMillis: 2500}, 0},
		{"usage with an escaped string in it", `{"usage":{"note":"a \"}\" b","input_tokens":50,"output_tokens":4160}}`, used, 0},
		{"a key that only begins like it", `{"usage_x":{"input_tokens":5},"` + strings.Repeat("usage", 20) + `":{"input_tokens":5}}`, Answer{}, 0},
		{"a usage that is too large", `{"usage":{"input_tokens":5,"x":"` + strings.Repeat("x", maxScanned) + `"}}`, Answer{}, 0},
		{"cut in the usage", `{"data":[` + picture + `],"usage":{"input_tokens":50,`, Answer{}, 1},
		{"cut in a picture", `{"data":[{"b64_json":"iVBORw0KGgo`, Answer{}, 1},
		{"Ollama's own", `{"embeddings":[[1,2],[3]],"prompt_eval_count":50, "eval_count" : 4160 }`, used, 0},
		{"a list", `[{` + usage + `}]`, Answer{}, 0},
		{"no JSON", `}}]] usage: {"input_tokens":50}`, Answer{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{1, 2, 3, 7, 64, len(tt.body)} {
				s := scanInPieces([]byte(tt.body), n)
				if diff := cmp.Diff(tt.want, s.Answer()); diff != "" || s.Images() != tt.images {
					t.Errorf("in pieces of %d: %d images (-want +got):\n%s", n, s.Images(), diff)
				}
			}
		})
	}
}

// The scanner must not keep what it passes over.
func TestAnswerScannerKeepsLittle(t *testing.T) {
	piece := bytes.Repeat([]byte("iVBORw0KGgo/"), 4<<10)
	s := scanInPieces([]byte(`{"created":1,"data":[{"b64_json":"`), 1<<10)
	if n := testing.AllocsPerRun(100, func() { s.Write(piece) }); n != 0 { //nolint:errcheck // never fails
		t.Errorf("%v allocations for a piece", n)
	}
	if n := cap(s.value) + cap(s.key); n > 1<<10 {
		t.Errorf("%d bytes are kept", n)
	}
}

// FuzzAnswerScanner compares the scanner with the parser of whole answers, in pieces of any size.
func FuzzAnswerScanner(f *testing.F) {
	f.Add([]byte(`{"created":1,"data":[{"b64_json":"AA=="}],"usage":{"input_tokens":50,"output_tokens":4160},"service_tier":"flex"}`), 3)
	f.Add([]byte(`{"data":[{"x":"\\"},{"y":"\""}],"x_groq":{"usage":{"prompt_tokens":5}},"meta":{"billed_units":{"search_units":1}}}`), 1)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		s := scanInPieces(body, max(1, n))
		if len(s.value) > maxScanned || len(s.key) > maxScannedKey {
			t.Errorf("it keeps %d and %d bytes", len(s.value), len(s.key))
		}
		var want Answer
		if want.Parse(body) != nil || len(body) > maxScanned || bytes.ContainsAny(body, "\\") && bytes.Contains(body, []byte(`\u`)) {
			return
		}
		want.Err = nil
		if first := bytes.TrimLeft(body, " \t\r\n"); len(first) == 0 || first[0] != '{' {
			want = Answer{}
		}
		if diff := cmp.Diff(want, s.Answer()); diff != "" {
			t.Errorf("in pieces of %d (-parsed +scanned):\n%s", n, diff)
		}
	})
}

func BenchmarkAnswerScanner(b *testing.B) {
	for name, item := range map[string]string{
		"picture":    `{"b64_json":"` + strings.Repeat("iVBORw0KGgo/", 100_000) + `"}`,
		"embeddings": `{"embedding":[` + strings.Repeat("-0.0123456789,", 100_000) + `1]}`,
	} {
		body := []byte(`{"data":[` + item + `],"usage":{"input_tokens":50,"output_tokens":4160}}`)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if s := scanInPieces(body, 32<<10); !s.Answer().HasUsage {
					b.Fatal("no usage")
				}
			}
		})
	}
}
