package relay

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// labels are types under which servers and proxies have sent both streams and JSON.
var labels = []string{
	"text/event-stream", "text/event-stream; charset=utf-8", "application/json", "application/json; charset=utf-8", "Application/JSON",
	"application/problem+json", "application/x-ndjson", "text/plain; charset=utf-8", "text/html; charset=utf-8", "application/octet-stream", "", ";",
}

// The answers of each endpoint in both forms: a stream, the answer that it is joined to, and the stream that is made of that.
const (
	chatWhole  = `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`
	chatStream = `data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"H"},"finish_reason":null}]}` + "\n\n" +
		`data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"i"},"finish_reason":null}]}` + "\n\n" +
		`data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n" + chatUsage + done
	chatUsage = `data: {"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n"
	chatMade  = `data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		`data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n" + chatUsage + done

	textWhole  = `{"object":"text_completion","choices":[{"index":0,"text":"Hi","logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`
	textStream = `data: {"object":"text_completion","choices":[{"index":0,"text":"Hi","finish_reason":null}]}` + "\n\n" + `data: {"object":"text_completion","choices":[{"index":0,"text":"","finish_reason":"stop"}]}` + "\n\n" + textUsage + done
	textUsage  = `data: {"object":"text_completion","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n"
	textMade   = `data: {"object":"text_completion","choices":[{"index":0,"text":"Hi","logprobs":null,"finish_reason":null}]}` + "\n\n" + `data: {"object":"text_completion","choices":[{"index":0,"text":"","finish_reason":"stop"}]}` + "\n\n" + textUsage + done

	responseWhole  = `{"object":"response","status":"completed","output":[{"id":"i","type":"computer_call"}],"usage":{"input_tokens":3,"output_tokens":2}}`
	responseStream = `event: response.created` + "\n" + `data: {"type":"response.created","response":{"status":"in_progress"}}` + "\n\n" +
		`event: response.completed` + "\n" + `data: {"type":"response.completed","response":` + responseWhole + `}` + "\n\n"
	responseMade = `event: response.created` + "\n" + `data: {"type":"response.created","sequence_number":0,"response":` + responseBegun + "}\n\n" +
		`event: response.in_progress` + "\n" + `data: {"type":"response.in_progress","sequence_number":1,"response":` + responseBegun + "}\n\n" +
		`event: response.output_item.added` + "\n" + `data: {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"i","type":"computer_call"}}` + "\n\n" +
		`event: response.output_item.done` + "\n" + `data: {"type":"response.output_item.done","sequence_number":3,"output_index":0,"item":{"id":"i","type":"computer_call"}}` + "\n\n" +
		`event: response.completed` + "\n" + `data: {"type":"response.completed","sequence_number":4,"response":` + responseWhole + "}\n\n"
	responseBegun = `{"object":"response","status":"in_progress","output":[],"usage":null}`

	imageWhole  = `{"created":7,"size":"1x1","usage":{"input_tokens":3,"output_tokens":2},"data":[{"b64_json":"QUJD"}]}`
	imageStream = "event: image_generation.partial_image\n" + `data: {"type":"image_generation.partial_image","b64_json":"QQ==","partial_image_index":0}` + "\n\n" +
		"event: image_generation.completed\n" + `data: {"type":"image_generation.completed","created_at":7,"b64_json":"QUJD","size":"1x1","usage":{"input_tokens":3,"output_tokens":2}}` + "\n\n"
	imageMade = "event: image_generation.completed\n" + `data: {"type":"image_generation.completed","b64_json":"QUJD","created_at":7,"size":"1x1","usage":{"input_tokens":3,"output_tokens":2}}` + "\n\n"
)

// An answer is judged by its bytes. Under whatever label it comes, the client gets the form that it asked for.
func TestFormOfAnswer(t *testing.T) {
	t.Parallel()
	const chat, text, responses, images = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/images/generations"
	for _, tt := range []struct{ name, path, in, whole, stream string }{
		{"chat, whole", chat, chatWhole, chatWhole, chatMade},
		{"chat, a stream", chat, chatStream, chatWhole, chatStream},
		{"chat, a stream after comments", chat, ": PROCESSING\n\n: PROCESSING\n\n" + chatStream, chatWhole, ": PROCESSING\n\n: PROCESSING\n\n" + chatStream},
		{"chat, a stream after blank lines", chat, "\n\n\n" + chatStream, chatWhole, "\n\n\n" + chatStream},
		{"chat, a stream without [DONE]", chat, strings.TrimSuffix(chatStream, done), chatWhole, chatStream},
		{"chat, a stream with other fields first", chat, "retry: 10\n\nid: 1\n" + chatStream, chatWhole, "id: 1\n" + chatStream},
		{"chat, a stream without spaces", chat, strings.ReplaceAll(chatStream, "data: ", "data:"), chatWhole, strings.ReplaceAll(chatStream, "data: ", "data:")},
		{"chat, whole with [DONE] glued to it", chat, chatWhole + "data: [DONE]\n\n", chatWhole, chatMade},
		{"chat, whole with [DONE] on a new line", chat, chatWhole + "\n\ndata: [DONE]\n\n", chatWhole, chatMade},
		{"chat, whole with [DONE] and nothing after it", chat, chatWhole + "\ndata:[DONE]", chatWhole, chatMade},
		{"chat, whole between comments", chat, ": wait\n\n: wait\r\n\r\n" + chatWhole + "\n\n: bye\n\n", chatWhole, chatMade},
		{"chat, whole after a byte order mark", chat, byteOrderMark + chatWhole, chatWhole, chatMade},
		{"chat, whole in one event", chat, "data: " + chatWhole + "\n\n", chatWhole, chatMade},
		{"chat, whole in one event, with [DONE]", chat, ": wait\n\ndata: " + chatWhole + "\n\n" + done, chatWhole, chatMade},
		{"completion, whole", text, textWhole, textWhole, textMade},
		{"completion, a stream", text, textStream, textWhole, textStream},
		{"response, whole", responses, responseWhole, responseWhole, responseMade},
		{"response, a stream", responses, responseStream, responseWhole, responseStream},
		{"response, whole with [DONE] glued to it", responses, responseWhole + "data: [DONE]\n\n", responseWhole, responseMade},
		{"image, whole", images, imageWhole, imageWhole, imageMade},
		{"image, a stream", images, imageStream, `{"created":7,"size":"1x1","usage":{"input_tokens":3,"output_tokens":2},"data":[{"b64_json":"QUJD"}]}`, imageStream},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, label := range labels {
				for _, asked := range []struct {
					stream bool
					body   string
				}{{false, tt.whole}, {true, tt.stream}} {
					for split, src := range map[string]io.Reader{"whole": strings.NewReader(tt.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.in))} {
						to, want := newClient(), result{Body: asked.body, Usage: used, HasUsage: true}
						if tt.path == images {
							want.Usage.Images = 1
						}
						got := pass(t, label, src, Expect{Endpoint: endpoint(t, tt.path), Stream: asked.stream, Choices: 1}, to)
						if diff := cmp.Diff(want, got, ignoreEvents); diff != "" {
							t.Errorf("%q, stream %v, %s (-want +got):\n%s", label, asked.stream, split, diff)
						}
						if as := to.header.Get("Content-Type"); asked.stream && !strings.HasPrefix(as, "text/event-stream") || !asked.stream && !readsAsJSON(as) {
							t.Errorf("%q, stream %v: the client was told of %q", label, asked.stream, as)
						}
					}
				}
			}
		})
	}
}

var ignoreEvents = cmp.Transformer("", func(r result) map[string]any {
	return map[string]any{"held": r.Held, "sent": r.Sent, "body": r.Body, "usage": r.Usage, "has": r.HasUsage}
})

// An answer that cannot be converted is one error, and a body that is no answer at all is another.
func TestUnfit(t *testing.T) {
	t.Parallel()
	const (
		chat       = "/v1/chat/completions"
		images     = `data: {"choices":[{"index":0,"delta":{"images":[1]}}]}` + "\n\n"
		moreImages = `data: {"choices":[{"index":0,"delta":{"images":[2]}}]}` + "\n\n"
	)
	long := strings.Repeat("x", 1<<20)
	for _, tt := range []struct {
		name, path, in string
		stream         bool
		held           string
		unfit          bool
	}{
		{"a whole without choices", chat, `{"choices":[]}`, true, ErrNoStream.Error(), true},
		{"a whole without an answer in it", chat, `{"id":"x"}`, true, ErrNoStream.Error(), true},
		{"a whole too large to be converted", chat, chatWhole + strings.Repeat(" ", maxConverted), true, ErrNoStream.Error(), true},
		{"a response that is still queued", "/v1/responses", `{"status":"queued","output":[]}`, true, ErrNoStream.Error(), true},
		{"a response without output", "/v1/responses", `{"status":"completed"}`, true, ErrNoStream.Error(), true},
		{"no images", "/v1/images/generations", `{"data":[]}`, true, ErrNoStream.Error(), true},
		{"parts that cannot be joined", chat, images + moreImages + stop + done, false, ErrUnexpectedStream.Error(), true},
		{"a stream too long to be joined", chat, strings.Repeat(`data: {"choices":[{"index":0,"delta":{"content":"`+long+`"}}]}`+"\n\n", 33) + stop + done, false, ErrUnexpectedStream.Error(), true},
		{"many events for embeddings", "/v1/embeddings", hi + stop + done, false, ErrUnexpectedStream.Error(), true},

		{"an error in place of a stream", chat, `{"error":` + failure + `}`, true, "event " + failure, false},
		{"an error in a stream that was not asked for", chat, role + errEvent, false, "event " + failure, false},
		{"a response that failed", "/v1/responses", `{"status":"failed","error":` + failure + `}`, true, "event " + failure, false},
		{"a cut stream that was not asked for", chat, role + hi, false, "cut", false},
		{"one without a finish", chat, hi + unnamed(hi), false, "cut", false},
		{"a malformed event in one", chat, hi + half + stop + done, false, "malformed", false},
		{"half a whole", chat, chatWhole[:40], true, "no JSON", false},
		{"half a whole that was asked for", chat, chatWhole[:40], false, "no JSON", false},
		{"a whole with text behind it", chat, chatWhole + "oops", false, "no JSON", false},
		{"a whole with an event behind it", chat, chatWhole + "\n\n" + hi, false, "no JSON", false},
		{"two wholes", chat, chatWhole + chatWhole, true, "no JSON", false},
		{"nothing for a stream", chat, "", true, "no JSON", false},
		{"comments alone", chat, ping + ping, true, "cut", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, label := range []string{"application/json", "text/event-stream", "text/plain"} {
				res, _ := respond(label, strings.NewReader(tt.in))
				_, err := Hold(res, Expect{Endpoint: endpoint(t, tt.path), Stream: tt.stream, Choices: 1})
				want := tt.held
				if tt.in == "" && label == "text/event-stream" {
					want = "cut"
				}
				if tt.in == "" && label == "text/plain" {
					want = `the upstream answered "text/plain" where JSON or events were expected`
				}
				if got := kindOf(err); got != want || err != nil && IsUnfit(err) != tt.unfit {
					t.Errorf("%s: %q, unfit %v; want %q, %v", label, got, IsUnfit(err), want, tt.unfit)
				}
			}
		})
	}
}

// Answers of endpoints that may answer anything are not changed, and neither are their streams.
func TestAnyForm(t *testing.T) {
	t.Parallel()
	const (
		speech, transcriptions = "/v1/audio/speech", "/v1/audio/transcriptions"
		events                 = `data: {"type":"transcript.text.delta","delta":"Hi"}` + "\n\n" + `data: {"type":"transcript.text.done","text":"Hi"}` + "\n\n"
	)
	for _, tt := range []struct {
		name, path, contentType, in string
		stream                      bool
		as                          string
	}{
		{"sound", speech, "audio/mpeg", "\xff\xf3data: x", false, "audio/mpeg"},
		{"sound labeled as JSON", speech, "application/json", "\xff\xf3\x00", false, "application/json"},
		{"sound without a label", speech, "", "\xff\xf3\x00", false, ""},
		{"events of sound", speech, "text/event-stream", `data: {"type":"speech.audio.done"}` + "\n\n", false, "text/event-stream"},
		{"a text that looks like an event", transcriptions, "text/plain", "data: that is what he said\n", false, "text/plain"},
		{"a text that looks like JSON", transcriptions, "text/plain", "{laughs}", false, "text/plain"},
		{"a text labeled as JSON", transcriptions, "application/json", "Hello there", false, "application/json"},
		{"a text in JSON's quotes", transcriptions, "application/json", `"Hello there"`, false, "application/json"},
		{"subtitles", transcriptions, "text/vtt", "WEBVTT\n", false, "text/vtt"},
		{"JSON", transcriptions, "application/json", `{"text":"Hi"}`, false, "application/json"},
		{"JSON labeled as a stream", transcriptions, "text/event-stream", `{"text":"Hi"}`, false, "application/json"},
		{"JSON for a stream, which some models refuse", transcriptions, "application/json", `{"text":"Hi"}`, true, "application/json"},
		{"a stream labeled as text", transcriptions, "text/plain", events, true, "text/event-stream"},
		{"a stream labeled as JSON", transcriptions, "application/json", events, true, "text/event-stream"},
		{"a stream without a label", transcriptions, "", events, true, "text/event-stream"},
		{"embeddings labeled as a stream", "/v1/embeddings", "text/event-stream", `{"data":[]}`, false, "application/json"},
		{"moderations with a stream asked for", "/v1/moderations", "application/json", `{"results":[]}`, true, "application/json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			to := newClient()
			got := pass(t, tt.contentType, strings.NewReader(tt.in), Expect{Endpoint: endpoint(t, tt.path), Stream: tt.stream, Choices: 1}, to)
			if got.Held != "" || got.Sent != "" || got.Body != tt.in || to.header.Get("Content-Type") != tt.as {
				t.Errorf("held %q, sent %q, %q as %q", got.Held, got.Sent, got.Body, to.header.Get("Content-Type"))
			}
		})
	}
	to := newClient()
	if got := pass(t, "text/event-stream", strings.NewReader(`data: {"data":[1]}`+"\n\n"+done), Expect{Endpoint: endpoint(t, "/v1/embeddings")}, to); got.Body != `{"data":[1]}` {
		t.Errorf("embeddings in an event: %+v", got)
	}
}

// FuzzForm holds that bytes under any label come out as the form that was asked for, or not at all.
func FuzzForm(f *testing.F) {
	for _, in := range []string{chatWhole, chatStream, textStream, responseStream, responseWhole, imageStream, imageWhole, chatWhole + done, byteOrderMark + chatWhole, ping + chatWhole, "dat", ": x"} {
		f.Add(in, uint8(0), true)
		f.Add(in, uint8(1), false)
	}
	paths := []string{"/v1/chat/completions", "/v1/responses", "/v1/images/edits", "/v1/completions"}
	f.Fuzz(func(t *testing.T, in string, choice uint8, stream bool) {
		expect := Expect{Endpoint: endpoint(t, paths[int(choice)%len(paths)]), Stream: stream, Choices: 1}
		first := ""
		for i, label := range []string{"application/json", "text/event-stream", "text/plain"} {
			to := newClient()
			got := pass(t, label, iotest.HalfReader(strings.NewReader(in)), expect, to)
			as := to.header.Get("Content-Type")
			if got.Held == "" && (stream && !strings.HasPrefix(as, "text/event-stream") || !stream && !readsAsJSON(as)) {
				t.Fatalf("%q became %q, labeled %q", in, got.Body, as)
			}
			if form, _, _ := formOf([]byte(in)); form == otherForm {
				continue // then the label counts
			}
			if i > 0 && got.Body != first {
				t.Fatalf("%q became %q as JSON, and %q as %q", in, first, got.Body, label)
			}
			first = got.Body
		}
	})
}
