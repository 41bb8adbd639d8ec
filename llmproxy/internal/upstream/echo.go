package upstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"strings"
	"time"
)

// Echo is the kind of the upstream that is always available. It answers in this process, so that a newcomer's first request works
// without a GPU, an account or a network, and its answers say that it is not a model.
var Echo = &Kind{Name: "echo", ServiceBase: "http://echo/v1", basePath: "/v1", local: true, transport: echo{}}

// echo answers in OpenAI's shape.
type echo struct{}

const echoModel = "echo"

const echoIntro = "This is the built-in echo upstream of llm_proxy, not a model. " +
	"Start Ollama, vLLM or llama.cpp on its usual port, or set OPENAI_API_KEY, for real answers. You said: "

type echoRequest struct {
	Stream        bool `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Messages []struct {
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Prompt json.RawMessage `json:"prompt"`
	Input  json.RawMessage `json:"input"`
}

// RoundTrip implements http.RoundTripper.
func (echo) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		defer req.Body.Close()
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, fmt.Errorf("reading the request: %w", err)
		}
	}
	var in echoRequest
	_ = json.Unmarshal(body, &in) // invalid members stay empty: echo never rejects a request
	switch strings.TrimPrefix(req.URL.Path, "/v1") {
	case "/models":
		return echoAnswer(req, http.StatusOK, map[string]any{"object": "list", "data": []any{map[string]any{"id": echoModel, "object": "model", "created": 0, "owned_by": "llm_proxy"}}}), nil
	case "/chat/completions":
		return echoText(req, &in, true), nil
	case "/completions":
		return echoText(req, &in, false), nil
	case "/embeddings":
		return echoAnswer(req, http.StatusOK, embed(in.Input)), nil
	}
	return echoAnswer(req, http.StatusNotFound, map[string]any{"error": map[string]any{
		"message": "the built-in echo upstream supports chat, completions and embeddings only", "type": "invalid_request_error", "param": nil, "code": "not_found"}}), nil
}

// echoText answers with the request's last text, as a chat or as a text completion.
func echoText(req *http.Request, in *echoRequest, chat bool) *http.Response {
	object, chunkObject := "text_completion", "text_completion"
	wrap := func(_, text string, _ bool) map[string]any { return map[string]any{"text": text} }
	if chat {
		object, chunkObject = "chat.completion", "chat.completion.chunk"
		wrap = func(member, text string, role bool) map[string]any {
			content := map[string]any{"content": text}
			if role {
				content["role"] = "assistant"
			}
			return map[string]any{member: content}
		}
	}
	last := in.lastText()
	text := echoIntro + last
	words := strings.SplitAfter(text, " ")
	input := len(strings.Fields(last))
	usage := map[string]any{"prompt_tokens": input, "completion_tokens": len(words), "total_tokens": input + len(words)}
	created := time.Now().Unix()
	answer := func(object string, choice map[string]any, finish any) map[string]any {
		choices := []any{}
		if choice != nil {
			choice["index"], choice["finish_reason"] = 0, finish
			choices = append(choices, choice)
		}
		return map[string]any{"id": fmt.Sprintf("echo-%d", created), "object": object, "created": created, "model": echoModel, "choices": choices}
	}
	if !in.Stream {
		whole := answer(object, wrap("message", text, true), "stop")
		whole["usage"] = usage
		return echoAnswer(req, http.StatusOK, whole)
	}
	var out bytes.Buffer
	event := func(v map[string]any) {
		b, _ := json.Marshal(v)
		fmt.Fprintf(&out, "data: %s\n\n", b)
	}
	for i, word := range words {
		event(answer(chunkObject, wrap("delta", word, i == 0), nil)) // OpenAI's SDK for Node needs the role in the first delta
	}
	event(answer(chunkObject, wrap("delta", "", false), "stop"))
	if in.StreamOptions.IncludeUsage {
		last := answer(chunkObject, nil, nil)
		last["usage"] = usage
		event(last)
	}
	out.WriteString("data: [DONE]\n\n")
	return echoResponse(req, http.StatusOK, "text/event-stream", out.Bytes())
}

// lastText returns the text of the last message, or the prompt.
func (in *echoRequest) lastText() string {
	content := in.Prompt
	if n := len(in.Messages); n > 0 {
		content = in.Messages[n-1].Content
	}
	var text string
	if json.Unmarshal(content, &text) == nil {
		return text
	}
	var parts []struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(content, &parts) // empty if the content is neither a string nor parts
	for _, p := range parts {
		text += p.Text
	}
	return text
}

// embed returns a small vector for each input, always the same and without meaning.
func embed(input json.RawMessage) map[string]any {
	var inputs []json.RawMessage
	if json.Unmarshal(input, &inputs) != nil {
		inputs = []json.RawMessage{input}
	}
	data := make([]any, len(inputs))
	for i, in := range inputs {
		h := fnv.New64a()
		h.Write(in)
		vector := make([]float64, 8)
		for k, sum := 0, h.Sum64(); k < len(vector); k, sum = k+1, sum>>8 {
			vector[k] = float64(sum&0xff)/128 - 1
		}
		data[i] = map[string]any{"object": "embedding", "index": i, "embedding": vector}
	}
	return map[string]any{"object": "list", "model": echoModel, "data": data, "usage": map[string]any{"prompt_tokens": len(inputs), "total_tokens": len(inputs)}}
}

func echoAnswer(req *http.Request, status int, v any) *http.Response {
	b, _ := json.Marshal(v)
	return echoResponse(req, status, "application/json", b)
}

func echoResponse(req *http.Request, status int, contentType string, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {contentType}}, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
}
