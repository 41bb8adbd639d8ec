package dialect

import (
	"bytes"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A request is plain if its translation is the same with all options, so that one is enough for the pipeline and the upstream. Most
// requests are. A request that is taken for a complicated one by mistake is only translated twice.

// plainMembers are the members of the Messages API that say the same to all servers. Tools and messages are looked into.
var plainMembers = append([]string{"model", "temperature", "top_p", "stream", "system", "messages", "tools", "tool_choice", "max_tokens", "stop_sequences", "metadata", "thinking", "output_config"}, droppedMembers...)

func plainMessages(r *jsonspan.Object) bool {
	for _, m := range r.Members {
		key, value := m.Key.Of(r.Body), m.Value.Of(r.Body)
		switch {
		case !slices.Contains(plainMembers, string(key)):
			return false
		case string(key) == "messages" && hasLists(value) && containsAny(value, `thinking"`, `"source"`, `\u`, encoded):
			return false
		case string(key) == "tools" && !plainTools(value):
			return false
		}
	}
	return true
}

// plainTools reports whether all tools are functions of the client.
func plainTools(tools []byte) bool {
	plain := true
	isList := jsonspan.Elements(tools, func(tool []byte) bool {
		kind := get(tool, "type")
		plain = kind == nil || string(kind) == `"custom"`
		return plain
	})
	return plain && isList && !bytes.Contains(tools, []byte(`\u`))
}

var (
	plainOllamaMembers = []string{"model", "messages", "prompt", "system", "stream", "options", "tools", "think"}
	plainOptions       = []string{"temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "num_predict"}
)

// plainOllama is plainMessages for /api/chat and /api/generate.
func plainOllama(r *jsonspan.Object) bool {
	for _, m := range r.Members {
		key, value := m.Key.Of(r.Body), m.Value.Of(r.Body)
		switch {
		case !slices.Contains(plainOllamaMembers, string(key)):
			return false
		case string(key) == "messages" && !plainTexts(value):
			return false
		case string(key) == "options" && !hasOnly(value, plainOptions):
			return false
		}
	}
	return true
}

// plainTexts reports whether messages say nothing but texts.
func plainTexts(messages []byte) bool {
	plain := true
	isList := jsonspan.Elements(messages, func(message []byte) bool {
		isObject := jsonspan.Members(message, func(key, value []byte) bool {
			switch string(key) {
			case "content":
			case "role":
				plain = slices.Contains(plainRoles, string(value))
			default:
				plain = false
			}
			return plain
		})
		plain = plain && isObject
		return plain
	})
	return plain && isList
}

var plainRoles = []string{`"user"`, `"assistant"`, `"system"`}

// hasOnly reports whether an object has only members with these names, whose values are not negative.
func hasOnly(object []byte, names []string) bool {
	plain := true
	isObject := jsonspan.Members(object, func(key, value []byte) bool {
		plain = slices.Contains(names, string(key)) && (string(key) != "num_predict" || value[0] > '0')
		return plain
	})
	return plain && isObject
}

// hasLists reports whether a list contains lists, such as the blocks of a content. It may be wrong if a text contains a bracket.
func hasLists(list []byte) bool { return bytes.IndexByte(list[1:], '[') >= 0 }

func containsAny(text []byte, words ...string) bool {
	return slices.ContainsFunc(words, func(word string) bool { return bytes.Contains(text, []byte(word)) })
}
