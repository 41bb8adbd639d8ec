package dialect

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares a text with a golden file.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// captured returns the body of the answer in a capture of a real Ollama.
func captured(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "ollama", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	_, answer, _ := bytes.Cut(text, []byte("<<< response\n"))
	_, body, found := bytes.Cut(answer, []byte("\n\n"))
	if !found {
		t.Fatalf("%s has no body", name)
	}
	return bytes.TrimSpace(body)
}

// An ollamaAnswer is what a client of Ollama's API has at the end of an answer.
type ollamaAnswer struct {
	Content, Thinking, Reason, Failure string
	Calls                              []ollamaToolCall
	Logprobs                           int
	Prompt, Output                     int
}

type ollamaToolCall struct {
	ID       string
	Function struct {
		Index     int
		Name      string
		Arguments map[string]any
	}
}

// readOllama reads lines as Ollama's clients do, and checks their grammar: each line is one object with a model and a time, the last one
// alone is done, and no line is empty.
func readOllama(t testing.TB, lines []byte, generate bool) (a ollamaAnswer) {
	t.Helper()
	if !bytes.HasSuffix(lines, []byte("\n")) {
		t.Fatalf("the last line does not end: %q", lines)
	}
	done := false
	for line := range bytes.Lines(lines) {
		if line = bytes.TrimSuffix(line, []byte("\n")); len(bytes.TrimSpace(line)) == 0 {
			t.Fatal("an empty line")
		}
		if done || a.Failure != "" {
			t.Fatalf("%s follows the end", line)
		}
		var l struct {
			Model     string
			CreatedAt time.Time `json:"created_at"`
			Message   *struct {
				Role, Thinking string
				Content        *string
				ToolCalls      []ollamaToolCall `json:"tool_calls"`
			}
			Response           *string
			Thinking           string
			Logprobs           []any
			Done               *bool
			Reason             string `json:"done_reason"`
			TotalDuration      *int64 `json:"total_duration"`
			LoadDuration       *int64 `json:"load_duration"`
			PromptEvalCount    *int   `json:"prompt_eval_count"`
			PromptEvalDuration *int64 `json:"prompt_eval_duration"`
			EvalCount          *int   `json:"eval_count"`
			EvalDuration       *int64 `json:"eval_duration"`
			Error              *string
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch {
		case l.Error != nil:
			a.Failure = *l.Error
			continue
		case l.Model == "" || l.CreatedAt.IsZero() || l.Done == nil:
			t.Fatalf("a member is missing: %s", line)
		case generate != (l.Response != nil) || generate == (l.Message != nil):
			t.Fatalf("a line of the other endpoint: %s", line)
		case generate:
			a.Content, a.Thinking = a.Content+*l.Response, a.Thinking+l.Thinking
		case l.Message.Role != "assistant" || l.Message.Content == nil:
			t.Fatalf("a message without role or content: %s", line)
		default:
			a.Content, a.Thinking = a.Content+*l.Message.Content, a.Thinking+l.Message.Thinking
			for _, call := range l.Message.ToolCalls {
				if call.Function.Name == "" || call.Function.Arguments == nil {
					t.Fatalf("a call that is not whole: %s", line)
				}
				a.Calls = append(a.Calls, call)
			}
		}
		a.Logprobs += len(l.Logprobs)
		if done = *l.Done; !done {
			if l.Reason != "" || l.TotalDuration != nil {
				t.Fatalf("a line is done and is not: %s", line)
			}
			continue
		}
		for _, d := range []*int64{l.TotalDuration, l.LoadDuration, l.PromptEvalDuration, l.EvalDuration} {
			if d == nil || *d <= 0 {
				t.Fatalf("a duration is missing or zero: %s", line)
			}
		}
		if l.PromptEvalCount == nil || l.EvalCount == nil || l.Reason != "stop" && l.Reason != "length" {
			t.Fatalf("wrong end: %s", line)
		}
		a.Reason, a.Prompt, a.Output = l.Reason, *l.PromptEvalCount, *l.EvalCount
	}
	if !done && a.Failure == "" {
		t.Fatalf("the answer does not end: %s", lines)
	}
	return a
}

func ollamaCall(id string, index int, name string, arguments map[string]any) ollamaToolCall {
	c := ollamaToolCall{ID: id}
	c.Function.Index, c.Function.Name, c.Function.Arguments = index, name, arguments
	return c
}

func TestOllamaStream(t *testing.T) {
	t.Parallel()
	call := func(inner string) string { return chunk(`{"tool_calls":[{` + inner + `}]}`) }
	for _, test := range []struct {
		name   string
		chunks []string
		want   ollamaAnswer
	}{
		{"text", []string{chunk(`{"role":"assistant","content":""}`), chunk(`{"content":"Hel"}`), chunk(`{"content":"lo\n"}`), finish("stop"), usageChunk},
			ollamaAnswer{Content: "Hello\n", Reason: "stop", Prompt: 30, Output: 5}},
		{"nothing but the end", []string{finish("length")}, ollamaAnswer{Reason: "length"}},
		{"thinking under both names", []string{chunk(`{"reasoning_content":"h","reasoning":"h"}`), chunk(`{"reasoning":"m"}`), chunk(`{"content":"a"}`), finish("content_filter")},
			ollamaAnswer{Content: "a", Thinking: "hm", Reason: "stop"}},
		{"calls in pieces, mixed", []string{
			call(`"index":0,"id":"x","function":{"name":"f","arguments":""}`), call(`"index":1,"id":"y","function":{"name":"g","arguments":"{\"b\":"}`),
			call(`"index":0,"function":{"arguments":"{\"a\":1}"}`), call(`"index":1,"function":{"arguments":"2}"}`), finish("tool_calls"),
		}, ollamaAnswer{Reason: "stop", Calls: []ollamaToolCall{ollamaCall("x", 0, "f", map[string]any{"a": 1.0}), ollamaCall("y", 1, "g", map[string]any{"b": 2.0})}}},
		{"calls without index, ID or arguments", []string{call(`"function":{"name":"f"}`), call(`"function":{"name":"g","arguments":{"a":"\n"}}`), finish("stop")},
			ollamaAnswer{Reason: "stop", Calls: []ollamaToolCall{ollamaCall("", 0, "f", map[string]any{}), ollamaCall("", 1, "g", map[string]any{"a": "\n"})}}},
		{"calls with one index", []string{call(`"index":0,"id":"x","function":{"name":"f","arguments":"{}"}`), call(`"index":0,"id":"y","function":{"name":"g","arguments":"{"}`), call(`"index":0,"function":{"arguments":"}"}`), finish("tool_calls")},
			ollamaAnswer{Reason: "stop", Calls: []ollamaToolCall{ollamaCall("x", 0, "f", map[string]any{}), ollamaCall("y", 1, "g", map[string]any{})}}},
		{"a call without a name", []string{call(`"index":0,"id":"x","function":{"arguments":"{}"}`), chunk(`{"content":"a"}`), finish("stop")}, ollamaAnswer{Content: "a", Reason: "stop"}},
		{"a call that is cut off", []string{call(`"index":3,"id":"x","function":{"name":"f","arguments":"{\"a\":"}`), finish("length")},
			ollamaAnswer{Reason: "length", Calls: []ollamaToolCall{ollamaCall("x", 0, "f", map[string]any{"arguments": `{"a":`})}}},
		{"a refusal, and a second choice", []string{chunk(`{"refusal":"No."}`), `{"choices":[{"index":1,"delta":{"content":"b"}}]}`, finish("stop")}, ollamaAnswer{Content: "No.", Reason: "stop"}},
		{"log probabilities", []string{`{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-1}]}}]}`, finish("stop")}, ollamaAnswer{Content: "a", Logprobs: 1, Reason: "stop"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := OllamaStream{Model: "m"}
			var lines []byte
			for _, data := range append(test.chunks, "[DONE]", finish("stop")) {
				lines = s.Append(lines, []byte(data))
			}
			if diff := cmp.Diff(test.want, readOllama(t, lines, false)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestGenerateStream(t *testing.T) {
	t.Parallel()
	s := OllamaStream{Model: "m", Generate: true}
	var lines []byte
	for _, data := range []string{chunk(`{"reasoning":"hm"}`), chunk(`{"content":"a"}`), finish("length"), usageChunk, "[DONE]"} {
		lines = s.Append(lines, []byte(data))
	}
	want := ollamaAnswer{Content: "a", Thinking: "hm", Reason: "length", Prompt: 30, Output: 5}
	if diff := cmp.Diff(want, readOllama(t, lines, true)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The durations are those that the upstream states, or else those that were measured.
func TestOllamaDurations(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, timings, want string }{
		{"measured", ``, `"total_duration":5000000000,"load_duration":1,"prompt_eval_count":30,"prompt_eval_duration":3000000000,"eval_count":5,"eval_duration":2000000000}`},
		{"of llama.cpp", `,"timings":{"prompt_n":30,"prompt_ms":12.5,"predicted_ms":3}`, `"total_duration":5000000000,"load_duration":1,"prompt_eval_count":30,"prompt_eval_duration":12500000,"eval_count":5,"eval_duration":3000000}`},
		{"of Ollama", `,"timings":{"total_ms":20,"load_ms":1,"prompt_ms":12.5,"predicted_ms":3}`, `"total_duration":20000000,"load_duration":1000000,"prompt_eval_count":30,"prompt_eval_duration":12500000,"eval_count":5,"eval_duration":3000000}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := OllamaStream{Model: "m", Started: time.Now()}
				time.Sleep(3 * time.Second)
				lines := s.Append(nil, []byte(chunk(`{"content":"a"}`)))
				time.Sleep(2 * time.Second)
				end := s.Append(nil, []byte(strings.TrimSuffix(usageChunk, "}")+test.timings+"}"))
				end = s.Append(end, []byte("[DONE]"))
				if readOllama(t, append(lines, end...), false); !strings.HasSuffix(string(end), test.want+"\n") {
					t.Errorf("%s", end)
				}
			})
		})
	}
}

func TestOllamaFromChat(t *testing.T) {
	t.Parallel()
	const answer = `{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","reasoning_content":"hm","tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"logprobs":{"content":[{"token":"Hi"}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":30,"completion_tokens":5}}`
	got, ok := OllamaFromChat(nil, []byte(answer), &About{Model: "m"})
	if !ok {
		t.Fatal("not translated")
	}
	want := ollamaAnswer{Content: "Hi", Thinking: "hm", Reason: "stop", Calls: []ollamaToolCall{ollamaCall("x", 0, "f", map[string]any{"a": 1.0})}, Logprobs: 1, Prompt: 30, Output: 5}
	if diff := cmp.Diff(want, readOllama(t, append(got, '\n'), false)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	got, ok = GenerateFromChat(nil, []byte(`{"choices":[{"message":{"content":"Hi"},"finish_reason":"length"}]}`), &About{Model: "m"})
	if diff := cmp.Diff(ollamaAnswer{Content: "Hi", Reason: "length"}, readOllama(t, append(got, '\n'), true)); diff != "" || !ok {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, answer := range []string{`{}`, `{"choices":[]}`, `[]`, `{"choices":[{"message":null}]}`} {
		if got, ok := OllamaFromChat(nil, []byte(answer), &About{}); ok {
			t.Errorf("%s becomes %s", answer, got)
		}
	}
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	const chat = `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.10,2]},{"object":"embedding","index":1,"embedding":[3]}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}`
	const ollama = `{"model":"m","embeddings":[[0.10,2],[3]],"total_duration":1,"load_duration":1,"prompt_eval_count":7}`
	if got, ok := EmbedFromEmbeddings(nil, []byte(chat), &About{Model: "m"}); !ok || string(got) != ollama {
		t.Errorf("%s", got)
	}
	if got, ok := EmbeddingsFromEmbed([]byte(ollama)); !ok || string(got) != chat {
		t.Errorf("%s", got)
	}
	for in, want := range map[string]string{chat: `{"embedding":[0.10,2]}`, `{"data":[]}`: `{"embedding":[]}`} {
		if got, ok := EmbeddingFromEmbeddings(nil, []byte(in), &About{}); !ok || string(got) != want {
			t.Errorf("%s", got)
		}
	}
	for _, in := range []string{`{}`, `{"data":[{"embedding":"AAAA"}]}`, `{"data":[{}]}`} {
		if got, ok := EmbedFromEmbeddings(nil, []byte(in), &About{}); ok {
			t.Errorf("%s becomes %s", in, got)
		}
	}
	if got, ok := EmbeddingsFromEmbed([]byte(`{"embeddings":1}`)); ok {
		t.Errorf("%s", got)
	}
}

func TestAppendOllamaLoadAndError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct{ got, want string }{
			{string(AppendOllamaLoad(nil, &OllamaStream{Model: "m"}, false)), `{"model":"m","created_at":"2000-01-01T00:00:00Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}`},
			{string(AppendOllamaLoad(nil, &OllamaStream{Model: "m", Generate: true}, true)), `{"model":"m","created_at":"2000-01-01T00:00:00Z","response":"","done":true,"done_reason":"unload"}`},
			{string(AppendOllamaError(nil, &openai.Error{Message: "no \"m\""})), `{"error":"no \"m\""}`},
			{string(AppendOllamaError(nil, &openai.Error{Message: "m", Original: []byte(`{"error":"x","signin_url":"y"}`)})), `{"error":"x","signin_url":"y"}`},
		} {
			if test.got != test.want {
				t.Errorf("got %s, want %s", test.got, test.want)
			}
		}
	})
}

var captures = []string{"chat-stream", "chat-think", "chat-tools-stream", "chat", "chat-tools", "chat-length", "generate-stream", "generate", "old-chat-stream", "old-chat-tools-stream"}

// randomIDs are the IDs that are new each time.
var randomIDs = regexp.MustCompile(`(chatcmpl-|call_)[A-Z2-7]{26}`)

// Real answers of Ollama become a stream of OpenAI's format, and the whole ones an answer.
func TestCapturedOllama(t *testing.T) {
	t.Parallel()
	for _, name := range captures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := captured(t, name)
			stream := chunksOf(body)
			golden(t, "ollama/"+name+".sse", randomIDs.ReplaceAll(stream, []byte("${1}RANDOM")))
			if bytes.IndexByte(body, '\n') >= 0 {
				return
			}
			whole, ok := ChatFromOllamaAnswer(body)
			if !ok {
				t.Fatal("not translated")
			}
			golden(t, "ollama/"+name+".json", append(randomIDs.ReplaceAll(whole, []byte("${1}RANDOM")), '\n'))
		})
	}
}

// chunksOf translates lines to chunks.
func chunksOf(lines []byte) (stream []byte) {
	var c OllamaChunkStream
	for line := range bytes.Lines(lines) {
		stream = c.Append(stream, bytes.TrimSpace(line))
	}
	return stream
}

// linesOf translates chunks to lines.
func linesOf(stream []byte, generate bool) (lines []byte) {
	s := OllamaStream{Model: "tiny", Generate: generate}
	for len(stream) > 0 {
		var e sse.Event
		if e, stream = sse.Cut(stream); e.HasData {
			lines = s.Append(lines, e.Data)
		}
	}
	return lines
}

// A real answer that goes to OpenAI's format and back says the same.
func TestCapturedOllamaBackAgain(t *testing.T) {
	t.Parallel()
	for _, name := range captures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			generate := strings.HasPrefix(name, "generate")
			body := append(captured(t, name), '\n')
			want, got := readOllama(t, body, generate), readOllama(t, linesOf(chunksOf(body), generate), generate)
			for i := range want.Calls {
				if want.Calls[i].ID == "" { // old versions give none
					want.Calls[i].ID = got.Calls[i].ID
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestOllamaChunks(t *testing.T) {
	t.Parallel()
	line := func(message, rest string) string {
		return `{"model":"m","created_at":"2026-11-23T09:23:40Z","message":` + message + `,"done":` + rest + `}`
	}
	for _, test := range []struct {
		name      string
		lines     []string
		want      string // of the whole stream, parts that must be there in this order
		forbidden string
	}{
		{"an error after text", []string{line(`{"role":"assistant","content":"a"}`, "false"), `{"error":"gone"}`, line(`{"content":"b"}`, "true")}, `"content":"a"*data: {"error":"gone"}`, "[DONE]"},
		{"an error at once", []string{`{"error":"gone"}`}, `data: {"error":"gone"}`, "choices"},
		{"no end", []string{line(`{"content":"a"}`, "false")}, `"content":"a"`, `"stop"`},
		{"indices run on", []string{
			line(`{"tool_calls":[{"function":{"index":0,"name":"f","arguments":{"a": 1}}}]}`, "false"),
			line(`{"tool_calls":[{"id":"x","function":{"index":0,"name":"g"}}]}`, `true,"done_reason":"stop"`),
		}, `{"index":0,"id":"call_*"arguments":"{\"a\": 1}"*{"index":1,"id":"x"*"arguments":"{}"*"finish_reason":"tool_calls"*[DONE]`, `"stop"`},
		{"cut off", []string{line(`{"content":"a"}`, `true,"done_reason":"length"`)}, `"finish_reason":"length"*"usage":{"prompt_tokens":0,`, "timings"},
		{"only loaded", []string{line(`{"content":""}`, `true,"done_reason":"load"`)}, `"finish_reason":"stop"*[DONE]`, `"load"`},
		{"log probabilities", []string{line(`{"content":"a"}`, `false,"logprobs":[{"token":"a"}]`)}, `"logprobs":{"content":[{"token":"a"}]}`, "stop"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			stream := string(chunksOf([]byte(strings.Join(test.lines, "\n"))))
			rest := stream
			for part := range strings.SplitSeq(test.want, "*") {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("%s is missing in %s", part, stream)
				}
				rest = after
			}
			if strings.Contains(stream, test.forbidden) {
				t.Errorf("%s is in %s", test.forbidden, stream)
			}
		})
	}
	for _, answer := range []string{`{}`, `{"error":"x","done":true}`, line(`{"content":"a"}`, "false")} {
		if got, ok := ChatFromOllamaAnswer([]byte(answer)); ok {
			t.Errorf("%s becomes %s", answer, got)
		}
	}
}

// Random streams of OpenAI's format keep the grammar of Ollama's lines, and lose no text and no argument.
func TestRandomOllamaStreams(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := OllamaStream{Model: "m"}
		var lines []byte
		var want ollamaAnswer
		arguments := map[int]string{}
		for range r.IntN(40) {
			piece := fmt.Sprint(r.IntN(1000), " ")
			switch r.IntN(4) {
			case 0:
				want.Content += piece
				lines = s.Append(lines, []byte(chunk(fmt.Sprintf(`{"content":%q}`, piece))))
			case 1:
				want.Thinking += piece
				lines = s.Append(lines, []byte(chunk(fmt.Sprintf(`{"reasoning_content":%q}`, piece))))
			case 2:
				i := len(want.Calls)
				want.Calls = append(want.Calls, ollamaCall(fmt.Sprint("id", i), i, fmt.Sprint("f", i), nil))
				lines = s.Append(lines, []byte(chunk(fmt.Sprintf(`{"tool_calls":[{"index":%d,"id":"id%[1]d","function":{"name":"f%[1]d","arguments":""}}]}`, i))))
			case 3:
				if len(want.Calls) > 0 {
					i := r.IntN(len(want.Calls))
					arguments[i] += piece
					lines = s.Append(lines, []byte(chunk(fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":%q}}]}`, i, piece))))
				}
			}
		}
		for i := range want.Calls {
			want.Calls[i].Function.Arguments = map[string]any{}
			if arguments[i] != "" {
				want.Calls[i].Function.Arguments["arguments"] = arguments[i]
			}
		}
		want.Reason = "stop"
		if diff := cmp.Diff(want, readOllama(t, s.End(lines), false)); diff != "" {
			t.Fatalf("seed %d: %s\n%s", seed, diff, lines)
		}
	}
}

// FuzzOllamaStream checks that any chunks become lines of Ollama's grammar.
func FuzzOllamaStream(f *testing.F) {
	f.Add([]byte(chunk(`{"content":"a"}`)+"\n"+finish("stop")+"\n"+usageChunk), false)
	f.Add([]byte(chunk(`{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}]}`)+"\n"+chunk(`{"reasoning":"h"}`)), true)
	f.Add([]byte(chunk(`{"tool_calls":[{}]}`)), false)
	f.Fuzz(func(t *testing.T, chunks []byte, generate bool) {
		s := OllamaStream{Model: "m", Generate: generate}
		var lines []byte
		for line := range bytes.Lines(chunks) {
			var o jsonspan.Object
			if o.Scan(bytes.TrimSuffix(line, []byte("\n"))) == nil {
				lines = s.Append(lines, bytes.TrimSuffix(line, []byte("\n")))
			}
		}
		readOllama(t, s.End(lines), generate)
	})
}

// FuzzOllamaChunkStream checks that any lines become chunks of JSON.
func FuzzOllamaChunkStream(f *testing.F) {
	for _, name := range captures {
		f.Add(captured(f, name))
	}
	f.Fuzz(func(t *testing.T, lines []byte) {
		var c OllamaChunkStream
		var stream []byte
		for line := range bytes.Lines(lines) {
			line = bytes.TrimSpace(line)
			var o jsonspan.Object
			if o.Scan(line) != nil {
				continue
			}
			stream = c.Append(stream, line)
			if whole, ok := ChatFromOllamaAnswer(line); ok && !json.Valid(whole) {
				t.Fatalf("%s", whole)
			}
			if embeddings, ok := EmbeddingsFromEmbed(line); ok && !json.Valid(embeddings) {
				t.Fatalf("%s", embeddings)
			}
		}
		for len(stream) > 0 {
			var e sse.Event
			e, stream = sse.Cut(stream)
			if string(e.Data) != "[DONE]" && !json.Valid(e.Data) {
				t.Fatalf("%s", e.Data)
			}
		}
	})
}

// FuzzOllamaRequests checks that what any request becomes is JSON, and that Ollama's own requests survive the way to OpenAI's format and
// back.
func FuzzOllamaRequests(f *testing.F) {
	f.Add([]byte(`{"model":"m","options":{"num_ctx":1,"num_predict":2},"think":"low","format":"json","messages":[{"role":"user","content":"Hi","images":["` + png + `"]},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{}}}]},{"role":"tool","tool_name":"f","content":"1"}]}`))
	f.Add([]byte(`{"model":"m","prompt":"Hi","system":"S","context":[1],"raw":true}`))
	f.Add([]byte(`{"model":"m","input":["a"],"truncate":true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var o jsonspan.Object
		if o.Scan(body) != nil {
			return
		}
		for _, options := range []ChatOptions{AllOptions, {}, {TopK: true}} {
			for _, translate := range []translation{with(options, ChatFromOllama), with(options, ChatFromGenerate), with(options, EmbeddingsFromOllama)} {
				chat, err := translate(&o)
				if err != nil {
					continue
				}
				var c jsonspan.Object
				if err := c.Scan(chat); err != nil {
					t.Fatalf("%v: %s", err, chat)
				}
				for _, back := range []translation{OllamaRequestFromChat, EmbedFromRequest} {
					if again, err := back(&c); err == nil && !json.Valid(again) {
						t.Fatalf("%s becomes %s", chat, again)
					}
				}
			}
		}
		for _, translate := range []translation{OllamaRequestFromChat, EmbedFromRequest} {
			if request, err := translate(&o); err == nil && !json.Valid(request) {
				t.Fatalf("%s", request)
			}
		}
	})
}

func BenchmarkOllamaStream(b *testing.B) {
	data := []byte(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795424811,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}`)
	s := OllamaStream{Model: "m"}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = s.Append(dst[:0], data)
	}
}

func BenchmarkOllamaChunkStream(b *testing.B) {
	data := []byte(`{"model":"tiny","created_at":"2026-11-23T09:23:40.146121563Z","message":{"role":"assistant","content":" token"},"done":false}`)
	var c OllamaChunkStream
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = c.Append(dst[:0], data)
	}
}
