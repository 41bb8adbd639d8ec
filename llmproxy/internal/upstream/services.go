package upstream

import (
	"bytes"
	"hash/fnv"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// The kinds of hosted services with OpenAI's API, a row each: where the service is, and how it differs from OpenAI's. What a row does
// not name is as at OpenAI's.
var (
	// Azure takes the name of a deployment as the model, and lists the models of the region instead. The address is that of the resource.
	Azure = &Kind{Name: "azure", basePath: "/openai/v1", prefillRate: rateOfBatches, keyHeader: "Api-Key", unlisted: true, besideResponses: true, official: true, knob: thinking.EffortOnly}

	// Gemini numbers no tool calls in its streams, and ends an answer that calls tools as if it did not. Its models demand their signatures
	// with the tool calls of earlier turns.
	Gemini = &Kind{
		Name: "gemini", ServiceBase: "https://generativelanguage.googleapis.com/v1beta/openai", basePath: "/v1beta/openai", prefillRate: rateOfBatches,
		repair: repairToolCalls, lacks: onlyChat, namePrefix: "models/",
		adapt: adaptToGemini, knob: thinking.Gemini, chat: dialect.ChatOptions{Extra: true},
	}

	// OpenRouter has members with which a client could choose another model, or who runs it.
	OpenRouter = &Kind{
		Name: "openrouter", ServiceBase: "https://openrouter.ai/api/v1", basePath: "/api/v1", prefillRate: rateOfBatches,
		restricted:    []string{"models", "route", "provider", "plugins"},
		knob:          thinking.OpenRouter,
		keyPath:       "key",
		saysReasoning: true,
	}

	// Groq gives one answer at a time, and knows no names in messages.
	Groq = &Kind{
		Name: "groq", ServiceBase: "https://api.groq.com/openai/v1", basePath: "/openai/v1", prefillRate: rateOfBatches,
		lacks: completions, knob: thinking.Groq, saysReasoning: true,
		errors: []errorRow{{from: 400, text: "number must be at most 1", is: router.Unsupported}}, // n
	}

	// Mistral refuses members that it does not know, and IDs of calls that are not like its own. Its streams have the usage without being
	// asked for it, and a content of parts if the model thinks.
	Mistral = &Kind{
		Name: "mistral", ServiceBase: "https://api.mistral.ai/v1", basePath: "/v1", prefillRate: rateOfBatches, statesUsage: true,
		lacks: onlyChat,
		adapt: requestForm{
			rename:   [][2]string{{"max_completion_tokens", "max_tokens"}, {"seed", "random_seed"}},
			drop:     []string{"stream_options", "user", "safety_identifier", "store", "metadata", "service_tier", "verbosity"},
			messages: mistralMessages,
		}.adapt,
		repair: repairParts,
		knob:   thinking.Mistral,
	}

	// DeepSeek demands the reasoning of earlier turns with tool calls, and has no schemas for answers.
	DeepSeek = &Kind{
		Name: "deepseek", ServiceBase: "https://api.deepseek.com/v1", basePath: "/v1", prefillRate: rateOfBatches,
		lacks:  onlyChat,
		chat:   dialect.ChatOptions{Reasoning: true},
		adapt:  requestForm{rename: [][2]string{{"max_completion_tokens", "max_tokens"}}, messages: withSystemRole}.adapt,
		knob:   thinking.DeepSeek,
		cannot: router.JSONSchema,
		errors: []errorRow{{from: 400, text: "response_format type is unavailable", is: router.Unsupported}},
	}

	// Together has no tool_choice "none", and a finish reason of its own.
	Together = &Kind{
		Name: "together", ServiceBase: "https://api.together.xyz/v1", basePath: "/v1", prefillRate: rateOfBatches,
		adapt:         requestForm{noTools: true}.adapt,
		repair:        repairReasons,
		knob:          thinking.Together,
		saysReasoning: true,
	}

	// XAI has completions, but its models that reason, which are all new ones, refuse them.
	XAI = &Kind{
		Name: "xai", ServiceBase: "https://api.x.ai/v1", basePath: "/v1", prefillRate: rateOfBatches,
		lacks: completions, knob: thinking.EffortOnly,
		errors: []errorRow{
			{from: 400, text: "Argument not supported", is: router.Unsupported}, // penalties and stop, by models that reason
			{from: 400, text: "Incorrect API key", is: router.Misconfigured},
			{from: 404, text: "does not have access to it", is: router.Misconfigured},
		},
	}

	Fireworks = &Kind{Name: "fireworks", ServiceBase: "https://api.fireworks.ai/inference/v1", basePath: "/inference/v1", prefillRate: rateOfBatches, knob: thinking.Fireworks}
	Cerebras  = &Kind{Name: "cerebras", ServiceBase: "https://api.cerebras.ai/v1", basePath: "/v1", prefillRate: rateOfBatches, knob: thinking.Cerebras, saysReasoning: true}
)

// Many services never had OpenAI's older completions, or do not have its newer responses.
var (
	completions = []string{"completions"}
	responses   = []string{"responses"}
	onlyChat    = []string{"completions", "responses"}
)

// deploymentPaths are the endpoints that have the deployment in their path if an Azure upstream has an API version.
var deploymentPaths = []string{
	"/chat/completions", "/completions", "/embeddings", "/audio/transcriptions", "/audio/translations", "/audio/speech", "/images/generations",
	"/images/edits",
}

// deploymentURL returns the URL of an endpoint of Azure's older API, which has versions, and the deployment in its path.
func (u *Upstream) deploymentURL(base *url.URL, path, deployment string) *url.URL {
	root := strings.TrimSuffix(base.Path, "/v1")
	full := &url.URL{Scheme: base.Scheme, Host: base.Host, Path: root + path, RawQuery: url.Values{"api-version": {u.APIVersion}}.Encode()}
	if slices.Contains(deploymentPaths, path) {
		full.Path, full.RawPath = root+"/deployments/"+deployment+path, root+"/deployments/"+url.PathEscape(deployment)+path
	}
	return full
}

// A requestForm is how the requests to a service differ from those to OpenAI.
type requestForm struct {
	rename   [][2]string                  // members, from and to
	drop     []string                     // members
	messages func(messages []byte) []byte // what they become; nil if they stay
	noTools  bool                         // a request that forbids tools has none instead
}

func (f requestForm) adapt(e *jsonspan.Edit) {
	for _, r := range f.rename {
		if e.Has(r[0]) {
			e.Rename(r[0], r[1])
		}
	}
	for _, name := range f.drop {
		e.Drop(name)
	}
	if messages, ok := e.Get("messages"); f.messages != nil && ok {
		if became := f.messages(messages); len(became) != len(messages) || &became[0] != &messages[0] {
			e.Set("messages", became)
		}
	}
	if f.noTools {
		withoutForbiddenTools(e)
	}
}

// withoutForbiddenTools removes the tools of a request that forbids them, for servers that ignore or refuse tool_choice "none".
func withoutForbiddenTools(e *jsonspan.Edit) {
	if choice, _ := e.Get("tool_choice"); jsonspan.EqualString(choice, "none") {
		e.Drop("tools")
		e.Drop("tool_choice")
	}
}

// unsignedCall stands for the signature of a tool call that another model made, or whose signature the client has lost. Google documents it
// for that. Without a signature, Gemini refuses the conversation since version 3.
const unsignedCall = `"extra_content":{"google":{"thought_signature":"skip_thought_signature_validator"}}`

// adaptToGemini adds that to the first call of each message, which is the one that has to be signed.
func adaptToGemini(e *jsonspan.Edit) {
	messages, _ := e.Get("messages")
	if model, _ := e.Get("model"); !bytes.Contains(messages, []byte(`"tool_calls"`)) || olderGemini.Match(model) {
		return
	}
	p := patch{src: messages}
	_ = jsonspan.EachElement(messages, func(message []byte) bool { // the service reports what is no list
		first := true
		eachCall(message, func(call []byte) {
			if first && len(call) > 2 && jsonspan.MemberOf(call, "extra_content") == nil {
				p.replace(call[:1], "{"+unsignedCall+",")
			}
			first = false
		})
		return true
	})
	if p.out != nil {
		e.Set("messages", p.bytes())
	}
}

// olderGemini matches the names of models that sign nothing, or do not demand it.
var olderGemini = regexp.MustCompile(`gemini-[12](\D|$)`)

var developer = []byte(`"developer"`)

// withSystemRole returns messages in which the role system replaces developer.
func withSystemRole(messages []byte) []byte {
	if !bytes.Contains(messages, developer) {
		return messages
	}
	p := patch{src: messages}
	_ = jsonspan.EachElement(messages, func(message []byte) bool { // the service reports what is no list
		_ = jsonspan.EachMember(message, func(key, value []byte) bool { // or no message
			if string(key) == "role" && bytes.Equal(value, developer) {
				p.replace(value, `"system"`)
			}
			return true
		})
		return true
	})
	return p.bytes()
}

// strangers are members of messages that other services know, and Mistral refuses.
var strangers = []string{"reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "refusal", "annotations", "audio", "function_call"}

// mistralMessages returns messages that Mistral takes, also if another model wrote some of them.
func mistralMessages(messages []byte) []byte {
	messages = withSystemRole(messages)
	strange := func(name string) bool { return bytes.Contains(messages, []byte(`"`+name+`"`)) }
	if !strange("tool_calls") && !strange("tool_call_id") && !slices.ContainsFunc(strangers, strange) {
		return messages
	}
	return editEach(messages, func(message *jsonspan.Edit) {
		for _, name := range strangers {
			message.Drop(name)
		}
		if id, ok := message.Get("tool_call_id"); ok {
			message.Set("tool_call_id", mistralCallID(id))
		}
		if calls, ok := message.Get("tool_calls"); ok {
			message.Set("tool_calls", editEach(calls, func(call *jsonspan.Edit) {
				call.Drop("extra_content")
				if id, ok := call.Get("id"); ok {
					call.Set("id", mistralCallID(id))
				}
			}))
		}
	})
}

// editEach edits the objects of a list.
func editEach(list []byte, edit func(*jsonspan.Edit)) []byte {
	edited := []byte{'['}
	err := jsonspan.EachElement(list, func(element []byte) bool {
		if len(edited) > 1 {
			edited = append(edited, ',')
		}
		var o jsonspan.Object
		if o.Scan(element) == nil {
			var e jsonspan.Edit
			e.Reset(&o)
			edit(&e)
			element = e.Bytes()
		}
		edited = append(edited, element...)
		return true
	})
	if err != nil { // the service reports what is no list
		return list
	}
	return append(edited, ']')
}

// mistralCallID returns the ID of a tool call, a JSON string, as Mistral has them: nine letters and digits.
func mistralCallID(id []byte) []byte {
	const length, digits = 9, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text, ok := jsonspan.String(id)
	if !ok || len(text) == length && strings.Trim(text, digits) == "" {
		return id
	}
	h := fnv.New64a()
	h.Write([]byte(text))
	short := append(make([]byte, 0, length+2), '"')
	for n := h.Sum64(); len(short) <= length; n /= uint64(len(digits)) {
		short = append(short, digits[n%uint64(len(digits))])
	}
	return append(short, '"')
}
