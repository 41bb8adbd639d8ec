package dialect

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// goldens are the translations whose golden files are in testdata/golden, by what goes in. A file NAME.in is an example from the
// documentation of an API, or what some server was seen to send; without one, the name is that of a capture.
var goldens = map[string]func(t *testing.T, in []byte) []byte{
	"chat-request": func(t *testing.T, in []byte) []byte {
		body, err := MessagesFromChat(scan(t, string(in)), 0)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(indented(t, body) + "\n")
	},
	"messages-request": func(t *testing.T, in []byte) []byte {
		body, _, err := ChatFromMessages(scan(t, string(in)), ChatOptions{TopK: true, Reasoning: true})
		if err != nil {
			t.Fatal(err)
		}
		return []byte(indented(t, body) + "\n")
	},
	"completion-request": func(t *testing.T, in []byte) []byte {
		body, err := ChatFromCompletion(scan(t, string(in)))
		if err != nil {
			t.Fatal(err)
		}
		return []byte(indented(t, body) + "\n")
	},
	"completion-answer": func(t *testing.T, in []byte) []byte {
		body, said, ok := new(CompletionAnswer).Whole(nil, in)
		if !ok {
			t.Fatal("not translated")
		}
		checkSaid(t, said, body)
		return []byte(indented(t, body) + "\n")
	},
	"completion-stream": func(_ *testing.T, in []byte) []byte {
		var c CompletionAnswer
		return eachEvent(in, func(out []byte, e *sse.Event) []byte { return c.Append(out, e.Data) })
	},
	"response-request": func(t *testing.T, in []byte) []byte {
		body, _, err := ChatFromResponse(scan(t, string(in)), ChatOptions{Reasoning: true})
		if err != nil {
			t.Fatal(err)
		}
		return []byte(indented(t, body) + "\n")
	},
	"chat-answer": func(t *testing.T, in []byte) []byte {
		body, ok := MessageFromChat(nil, in, &About{Model: "m"})
		if !ok {
			t.Fatal("not translated")
		}
		return []byte(indented(t, body) + "\n")
	},
	"messages-answer": func(t *testing.T, in []byte) []byte {
		body, ok := ChatFromMessage(in, nil, true)
		if !ok {
			t.Fatal("not translated")
		}
		return []byte(indented(t, body) + "\n")
	},
	"chat-stream": func(t *testing.T, in []byte) []byte {
		m := MessageStream{Model: "m"}
		out := eachEvent(in, func(out []byte, e *sse.Event) []byte { return m.Append(out, e.Data) })
		dialecttest.ReadMessage(t, out)
		return out
	},
	"response-stream": func(t *testing.T, in []byte) []byte {
		s := newResponseStream()
		out := eachEvent(in, func(out []byte, e *sse.Event) []byte { return s.Append(out, e.Data) })
		dialecttest.ReadResponse(t, out)
		return []byte(withoutID(out, s))
	},
	"response-answer": func(t *testing.T, in []byte) []byte {
		s := newResponseStream()
		body, said, ok := s.Whole(nil, in)
		if !ok {
			t.Fatal("not translated")
		}
		dialecttest.ReadWholeResponse(t, body)
		checkSaid(t, said, body)
		return []byte(indented(t, []byte(withoutID(body, s))) + "\n")
	},
	"messages-stream": func(t *testing.T, in []byte) []byte {
		var c ChunkStream
		out := eachEvent(in, func(out []byte, e *sse.Event) []byte { return c.Append(out, e.Name, e.Data) })
		dialecttest.ReadChat(t, out)
		return out
	},
}

// checkSaid checks that a translation returns what its answer says besides its content.
func checkSaid(t *testing.T, said openai.Answer, body []byte) {
	t.Helper()
	var want openai.Answer
	want.ParseChecked(body)
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("%s says (-want +got)\n%s", body, diff)
	}
}

// goldenInputs are the kinds that share the examples of another one.
var goldenInputs = map[string]string{"response-stream": "chat-stream", "response-answer": "chat-answer"}

func readFile(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func eachEvent(in []byte, add func(out []byte, e *sse.Event) []byte) (out []byte) {
	for len(in) > 0 {
		var e sse.Event
		if e, in = sse.Cut(in); e.HasData {
			out = add(out, &e)
		}
	}
	return out
}

// newID is an ID that the gateway made.
var newID = regexp.MustCompile(`(toolu|msg|call)_[A-Z2-7]{26}`)

func TestGoldens(t *testing.T) {
	t.Parallel()
	check := func(kind, name string, in []byte) {
		t.Run(kind+"/"+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // the time is fixed
				file := name + ".out.json"
				if strings.HasSuffix(kind, "-stream") {
					file = name + ".out.sse"
				}
				golden(t, filepath.Join("golden", kind, file), newID.ReplaceAll(goldens[kind](t, in), []byte("${1}_NEW")))
			})
		})
	}
	for kind := range goldens {
		from := kind
		if input, ok := goldenInputs[kind]; ok {
			from = input
		}
		files, err := filepath.Glob(filepath.Join("testdata", "golden", from, "*.in.*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no examples of %s, %v", kind, err)
		}
		for _, file := range files {
			in := readFile(t, file)
			name, _, _ := strings.Cut(filepath.Base(file), ".")
			check(kind, name, in)
		}
	}
	for _, name := range []string{"llamacpp/responses", "llamacpp/responses-stream", "ollama/v1-responses", "vllm/responses", "vllm/responses-stream"} {
		check("response-request", strings.ReplaceAll(name, "/", "-"), fakellm.LoadCapture(t, name+".txt").RequestBody)
	}
	for _, name := range []string{"apply-patch", "code-mode", "compaction", "first", "image-and-schema", "results"} {
		check("response-request", "codex-"+name, readFile(t, filepath.Join("testdata", "codex", name+".json")))
	}
	for server, names := range map[string][]string{
		"llamacpp": {
			"chat", "chat-content-parts", "chat-length", "chat-reasoning", "chat-reasoning-stream", "chat-stream", "chat-stream-usage",
			"chat-tool-result", "chat-tools", "chat-tools-stream", "messages", "messages-stream",
		},
		"ollama": {
			"v1-chat", "v1-chat-reasoning", "v1-chat-reasoning-stream", "v1-chat-stream", "v1-chat-stream-usage", "v1-chat-tools",
			"v1-chat-tools-stream", "v1-messages", "v1-messages-stream",
		},
		"vllm": {"chat", "chat-length", "chat-stream", "chat-stream-usage", "chat-tools", "chat-tools-stream"},
	} {
		for _, name := range names {
			c := fakellm.LoadCapture(t, server+"/"+name+".txt")
			api := "chat"
			if strings.HasSuffix(c.Path, "/messages") {
				api = "messages"
			}
			form := "answer"
			if bytes.HasPrefix(c.Body, []byte("data:")) || bytes.HasPrefix(c.Body, []byte("event:")) {
				form = "stream"
			}
			check(api+"-request", server+"-"+name, c.RequestBody)
			check(api+"-"+form, server+"-"+name, c.Body)
			if api == "chat" {
				check("response-"+form, server+"-"+name, c.Body)
			}
			if api == "chat" && !strings.Contains(name, "tool") {
				check("completion-"+form, server+"-"+name, c.Body)
			}
		}
	}
}

// A stream and the whole answer that it consists of become the same message.
func TestStreamsAndAnswersAgree(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/golden/messages-answer/*.in.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		answer, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		chat, ok := ChatFromMessage(answer, nil, true)
		if !ok {
			t.Fatalf("%s is not translated", file)
		}
		whole, _ := MessageFromChat(nil, chat, &About{Model: "claude-x"})
		m := MessageStream{Model: "claude-x"}
		var stream []byte
		if !split(chat, func(data []byte) { stream = m.Append(stream, data) }) {
			t.Fatalf("%s cannot be split", chat)
		}
		got := dialecttest.ReadMessage(t, m.End(stream))
		want := decoded(t, whole)
		if diff := cmp.Diff(want["content"], any(list(got.Content))); diff != "" {
			t.Errorf("%s: -whole +stream:\n%s", file, diff)
		}
		if diff := cmp.Diff([]any{want["stop_reason"], want["usage"]}, []any{got.StopReason, any(got.Usage)}); diff != "" {
			t.Errorf("%s: -whole +stream:\n%s", file, diff)
		}
	}
}

func list(blocks []map[string]any) (l []any) {
	for _, b := range blocks {
		l = append(l, b)
	}
	return l
}

func split(answer []byte, visit func(data []byte)) bool {
	return openai.Split(answer, func(data []byte, _ bool) { visit(data) })
}
