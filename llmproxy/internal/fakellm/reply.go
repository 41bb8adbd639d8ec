package fakellm

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A reply is an answer in the words of a kind, ready to be sent: a whole body, or the parts of a stream.
type reply struct {
	status   int
	ctype    string
	header   []string // pairs of name and value
	body     []byte
	stream   bool
	opening  [][]byte // says nothing yet
	tokens   [][]byte
	closing  [][]byte
	failure  [][]byte // what ErrorEventAfter sends
	silent   bool     // not even headers, until the client leaves
	severed  bool     // not even headers: the connection is reset
	verbatim bool     // no header of the kind's own
}

// The endpoints that generate. Those that a kind does not have are its 404.
type endpoint struct {
	render func(*call) reply
	kinds  []string
}

const chatPath = "/v1/chat/completions"

var endpoints = map[string]endpoint{
	chatPath:                   {renderChat, []string{"openai", "ollama", "vllm", "llamacpp"}},
	"/v1/completions":          {renderCompletion, []string{"openai", "ollama", "vllm", "llamacpp"}},
	"/v1/embeddings":           {renderEmbeddings, []string{"openai", "ollama", "vllm", "llamacpp"}},
	"/v1/responses":            {renderResponse, []string{"openai", "ollama", "vllm", "llamacpp"}},
	"/v1/rerank":               {renderRerank, []string{"openai", "vllm", "llamacpp"}},
	"/v1/moderations":          {renderModeration, []string{"openai"}},
	"/v1/audio/transcriptions": {renderTranscription, []string{"openai", "ollama", "vllm"}},
	"/v1/audio/translations":   {renderTranscription, []string{"openai", "vllm"}},
	"/v1/audio/speech":         {renderSpeech, []string{"openai"}},
	"/v1/images/generations":   {renderImage, []string{"openai"}},
	"/v1/images/edits":         {renderImage, []string{"openai"}},
}

// plain tells that the answer's content is the normal one.
func (a *Answer) plain() bool {
	return a.refusal == accepted && a.status == 0 && !a.inside && !a.garbage && a.raw == nil && a.events == nil
}

// reply puts the call's answer into words.
func (c *call) reply(e endpoint) reply {
	a := &c.answer
	switch {
	case a.raw != nil:
		return rawReply(a.raw)
	case a.events != nil:
		return c.stream(nil, events(a.events), nil)
	case a.status != 0:
		return c.refuse(problem{status: a.status, message: "scripted status " + strconv.Itoa(a.status)})
	case a.refusal != accepted:
		return c.refused(e)
	case a.garbage:
		return c.garbage()
	case a.inside:
		return c.errorInside()
	case a.fault == errorEvent && !c.ask.Stream:
		return c.refuse(c.kind.problems[internalError])
	}
	return e.render(c)
}

// json is a whole answer of status 200.
func (c *call) json(body string) reply {
	return reply{status: http.StatusOK, ctype: c.kind.json, body: []byte(body + c.kind.tail)}
}

// stream is an event stream of status 200.
func (c *call) stream(opening, tokens, closing [][]byte) reply {
	return reply{
		status: http.StatusOK, ctype: c.kind.sse, header: c.kind.onStream, stream: true,
		opening: opening, tokens: tokens, closing: closing, failure: c.kind.failure(c),
	}
}

// rawReply sends a script's own bytes. What belongs to one connection or counts bytes is written anew by net/http.
func rawReply(raw *rawAnswer) reply {
	rep := reply{status: raw.status, verbatim: true}
	for name, values := range raw.header {
		switch name {
		case "Content-Type":
			rep.ctype = values[0]
		case "Content-Length", "Transfer-Encoding", "Keep-Alive", "Date":
		default:
			for _, v := range values {
				rep.header = append(rep.header, name, v)
			}
		}
	}
	if strings.HasPrefix(rep.ctype, "text/event-stream") {
		rep.stream, rep.tokens = true, bytes.SplitAfter(raw.body, []byte("\n\n"))
		return rep
	}
	rep.body = raw.body
	return rep
}

func (c *call) garbage() reply {
	if c.ask.Stream {
		return c.stream(nil, events([]string{`data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"Hel`}), nil)
	}
	return reply{status: http.StatusOK, ctype: "text/html", body: []byte("<html><body>It works!</body></html>\n")}
}

// errorInside is api-formats §6, OpenRouter.
func (c *call) errorInside() reply {
	const failed = `"error":{"message":"Provider returned error","code":502,"metadata":{"provider_name":"Nobody"}}`
	if !c.ask.Stream {
		return c.json(`{` + failed + `,"user_id":"user_1"}`)
	}
	chunk := `{"id":"gen-1","provider":"Nobody","model":` + quote(c.ask.Model) + `,"object":"chat.completion.chunk","created":` + created +
		`,` + failed + `,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"error","native_finish_reason":"error"}]}`
	return c.stream([][]byte{[]byte(": OPENROUTER PROCESSING\n\n")}, nil, [][]byte{data(chunk), data("[DONE]")})
}

// data frames an event.
func data(json string) []byte { return []byte("data: " + json + "\n\n") }

// events ends each event with the blank line that it lacks.
func events(list []string) [][]byte {
	framed := make([][]byte, 0, len(list))
	for _, e := range list {
		if !strings.HasSuffix(e, "\n\n") {
			e = strings.TrimSuffix(e, "\n") + "\n\n"
		}
		framed = append(framed, []byte(e))
	}
	return framed
}

// quote is s as JSON.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always can be encoded
	return strings.TrimSuffix(b.String(), "\n")
}

// Every answer was made at the same second, so that tests see the same bytes every time.
const created = "1795424810"

// pairs calls set for each name and value.
func pairs(list []string, set func(name, value string)) {
	for p := range slices.Chunk(list, 2) {
		set(p[0], p[1])
	}
}
