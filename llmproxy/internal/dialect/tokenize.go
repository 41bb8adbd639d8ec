package dialect

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// ChatToTokenize returns the request for chat whose prompt a request for tokens stands for. A text is what a user says.
func ChatToTokenize(r *jsonspan.Object) ([]byte, *openai.Error) {
	var e jsonspan.Edit
	e.Reset(r)
	if messages, ok := e.Get("messages"); ok && !jsonspan.IsNull(messages) {
		e.Drop("prompt")
		e.Drop("content")
		return e.Bytes(), nil
	}
	e.Drop("messages")
	if e.Has("content") { // llama.cpp's name
		e.Rename("content", "prompt")
	}
	var o jsonspan.Object
	if err := o.Scan(e.Bytes()); err != nil {
		return nil, invalid("prompt", err.Error())
	}
	return ChatFromCompletion(&o)
}

// CheckTokenize returns an error for a request for tokens that no server would understand.
func CheckTokenize(r *jsonspan.Object) *openai.Error {
	for _, name := range []string{"messages", "prompt", "content"} {
		value, ok := r.Get(name)
		switch {
		case !ok || jsonspan.IsNull(value):
		case name == "messages" && value[0] != '[':
			return invalid(name, "must be a list of messages")
		case name != "messages" && value[0] != '"':
			return invalid(name, "must be a text; send a request for each of several")
		default:
			return nil
		}
	}
	return invalid("prompt", "is missing; send a text as prompt, or messages")
}
