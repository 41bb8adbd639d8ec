package dialect

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/anthropic"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// An API is the API that a client uses, or that an upstream has.
type API uint8

const (
	// OpenAI is the API of OpenAI, and of every compatible server.
	OpenAI API = iota
	// Anthropic is Anthropic's API.
	Anthropic
	// Ollama is Ollama's own API.
	Ollama
	// Simple is the simple chat: a message in, a text out.
	Simple
)

// Lines reports whether the API's streams consist of lines of JSON instead of events. There is no line that means nothing, so a waiting
// client cannot be pinged.
func (a API) Lines() bool { return a == Ollama }

// ErrorBody returns the body of an error in the API's format, whose value, an object or a string, an event of a stream reported.
func (a API) ErrorBody(value []byte) []byte {
	b := []byte(`{`)
	if a == Anthropic {
		b = append(b, `"type":"error",`...)
	}
	return append(append(append(b, `"error":`...), value...), '}')
}

// An Endpoint is an endpoint that clients of another API than OpenAI's use. Its requests are translated to requests to an endpoint of
// OpenAI's API, and the answers are translated back.
type Endpoint struct {
	// Endpoint is the endpoint as the client calls it.
	*openai.Endpoint
	// API is the API that it belongs to.
	API API
	// Becomes is the endpoint of OpenAI's API to which requests are translated.
	Becomes *openai.Endpoint
	// Request translates a request. Names are the names of tools that were changed; the answer must be translated with them.
	Request func(r *jsonspan.Object, o ChatOptions) (body []byte, names *ToolNames, err *openai.Error)
	// Plain reports whether the translation of a request is the same with all options. Nil if it never is.
	Plain func(r *jsonspan.Object) bool
	// Whole translates a whole answer, and appends what it becomes. It returns false if that is not an answer. Nil for an endpoint that only
	// counts tokens.
	Whole func(b, answer []byte, a *About) ([]byte, bool)
	// Stream returns a new translation of a stream. Nil for an endpoint without streams.
	Stream func(a *About) Stream
	// Events reads the events of a stream that passes as the upstream sent it.
	Events openai.EventReader
}

var chat, _ = openai.LookupEndpoint("/v1/chat/completions")

// endpoints are the endpoints of other APIs.
var endpoints = map[*openai.Endpoint]*Endpoint{}

func init() {
	for _, e := range append([]*Endpoint{
		{Endpoint: openai.Messages, API: Anthropic, Becomes: chat, Request: ChatFromMessages, Plain: plainMessages, Whole: MessageFromChat, Stream: messageStream, Events: anthropic.Events{}},
		{Endpoint: openai.CountTokens, API: Anthropic, Becomes: chat, Request: chatToCount},
		{Endpoint: SimpleChat, API: Simple, Becomes: chat, Request: chatFromSimple(false), Plain: always, Whole: SimpleFromChat, Stream: simpleStream},
		{Endpoint: SimpleChatStream, API: Simple, Becomes: chat, Request: chatFromSimple(true), Plain: always, Whole: SimpleFromChat, Stream: simpleStream},
	}, ollamaEndpoints...) {
		endpoints[e.Endpoint] = e
	}
}

// EndpointOf returns the translations of an endpoint of another API than OpenAI's.
func EndpointOf(e *openai.Endpoint) *Endpoint { return endpoints[e] }

// byChat are the endpoints of OpenAI's API that chat can replace.
var byChat = map[string]func(b []byte, r *jsonspan.Object, o ChatOptions) (body []byte, answer Answer, err *openai.Error){
	"completions": func(b []byte, r *jsonspan.Object, _ ChatOptions) (body []byte, answer Answer, err *openai.Error) {
		body, err = ChatFromCompletion(r)
		return append(b, body...), new(CompletionAnswer), err
	},
	"responses_compact": func([]byte, *jsonspan.Object, ChatOptions) (body []byte, answer Answer, err *openai.Error) {
		return nil, nil, invalid("model", "its server cannot compact conversations, which only OpenAI and Azure can; let the client do that (Codex does unless its model provider is named OpenAI)")
	},
	"responses": func(b []byte, r *jsonspan.Object, o ChatOptions) (body []byte, answer Answer, err *openai.Error) {
		a := responseAnswers.Get().(*responseAnswer)
		a.Request, a.Model = &a.about, o.Model
		body, err = appendChatFromResponse(b, r, o, &a.about)
		return body, a, err
	},
}

// ByChat translates a request to an endpoint of OpenAI's API to one for chat, for a server without that endpoint, and appends that. It also
// returns the translation of the answer.
func ByChat(b []byte, e *openai.Endpoint, r *jsonspan.Object, o ChatOptions) (body []byte, answer Answer, err *openai.Error) {
	return byChat[e.Name](b, r, o)
}

// chatToCount is ChatFromMessages for a request to count the tokens of a prompt.
func chatToCount(r *jsonspan.Object, o ChatOptions) (body []byte, names *ToolNames, err *openai.Error) {
	o.Counting = true
	return ChatFromMessages(r, o)
}

func always(*jsonspan.Object) bool { return true }

func messageStream(a *About) Stream {
	return &MessageStream{Model: a.Model, Names: a.Names, InputTokens: a.PromptTokens}
}
