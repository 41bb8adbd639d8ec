package openai

import (
	"bytes"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// Services invent new ways to search the web and to run tools on their side all the time, and each spells them in its own way. Names are
// therefore compared in plain form: in lower case, without underscores and hyphens.

// statefulMembers are members of a request that make the answer depend on more than the request: on earlier requests, or on what the
// service stores under a name.
var statefulMembers = []string{
	"previousresponseid", "conversation", "conversationid", "threadid", "assistantid", "agentid", "container", "cachedcontent",
	"datasources", "connectors", "toolresources", "compoundcustom", "background", "audio",
}

// hostedWords are parts of the names of members that turn on tools of the service: enable_search, web_search_options,
// search_parameters, plugins, mcp_servers and the like.
var hostedWords = []string{
	"search", "plugin", "mcp", "retriev", "grounding", "brows", "codeexecution", "codeinterpreter", "urlcontext", "computeruse", "builtin", "hosted", "servertool",
}

// DependsOnMore reports whether a member of a request with this raw key makes the answer depend on more than the request: it must not be
// reused then.
func DependsOnMore(key, value []byte) bool {
	if value = bytes.TrimSpace(value); isOff(value) {
		return false
	}
	var array [maxPlainName]byte
	name := appendPlain(array[:0], key)
	switch {
	case string(name) == "tools":
		return hasHostedTool(value)
	case string(name) == "modalities":
		return containsString(value, "audio")
	case string(name) == "extrabody": // sent by mistake as it is written in Python, and understood by some
		return hasHostedMember(value)
	case bytes.Contains(name, []byte("beamsearch")):
		return false
	case slices.Contains(statefulMembers, string(name)):
		return true
	}
	return slices.ContainsFunc(hostedWords, func(word string) bool { return bytes.Contains(name, []byte(word)) })
}

// isOff reports whether a value turns something off. An empty object may turn it on: {"googleSearch":{}}.
func isOff(value []byte) bool { return jsonspan.IsNull(value) || string(value) == "false" }

func hasHostedMember(object []byte) (found bool) {
	err := jsonspan.EachMember(object, func(key, value []byte) bool {
		found = DependsOnMore(key, value) || value[0] == '{' && hasHostedMember(value)
		return !found
	})
	return found || err != nil
}

// maxPlainName bounds the plain form of a name, in bytes.
const maxPlainName = 64

// appendPlain appends the plain form of a raw key.
func appendPlain(b, key []byte) []byte {
	if bytes.IndexByte(key, '\\') >= 0 {
		key = jsonspan.Unescape(key)
	}
	for _, c := range key[:min(len(key), maxPlainName)] {
		switch {
		case c == '_' || c == '-':
			continue
		case 'A' <= c && c <= 'Z':
			c |= ' '
		}
		b = append(b, c)
	}
	return b
}

// hasHostedTool reports whether one of the tools may run at the service, so that it may answer differently every time.
func hasHostedTool(tools []byte) (found bool) {
	err := jsonspan.EachElement(tools, func(tool []byte) bool { found = !isFunction(tool); return !found })
	return found || err != nil
}

// functionMembers are what a tool of the client's own may have, in plain form. Anything else may be a tool of the service.
var functionMembers = []string{"description", "strict", "inputexamples", "format", "cachecontrol", "deferloading", "eagerinputstreaming"}

// isFunction reports whether a tool is clearly one of the client's own: in the form of OpenAI, with or without its type, of
// Anthropic, which has no type, or of Gemini. Every other tool may run at the service.
func isFunction(tool []byte) bool {
	declared, named, hasSchema := false, false, false
	ok := eachMember(tool, func(key, value []byte) bool {
		var array [maxPlainName]byte
		switch name := appendPlain(array[:0], key); string(name) {
		case "type":
			declared = declared || !jsonspan.IsNull(value)
			return jsonspan.IsNull(value) || jsonspan.EqualString(value, "function") || jsonspan.EqualString(value, "custom")
		case "function", "custom":
			declared = declared || !isOff(value)
			return isOff(value) || isOwnName(member(value, "name"))
		case "functiondeclarations":
			declared = declared || !isOff(value)
			return true
		case "name":
			named = true
			return isOwnName(value)
		case "parameters", "inputschema":
			hasSchema = true
			return true
		default:
			return isOff(value) || slices.Contains(functionMembers, string(name))
		}
	})
	return ok && (declared || named && hasSchema)
}

// isOwnName reports whether a function of that name is the client's own. Moonshot's built-in functions begin with a dollar sign.
func isOwnName(value []byte) bool {
	raw, ok := jsonspan.RawString(value)
	return !ok || !bytes.HasPrefix(jsonspan.Unescape(raw), []byte("$"))
}

// hasReference reports whether the input of the Responses API refers to an item that the service stores.
func hasReference(input []byte) (found bool) {
	_ = jsonspan.EachElement(input, func(item []byte) bool { // a text refers to nothing
		found = item[0] == '{' && jsonspan.EqualString(member(item, "type"), "item_reference")
		return !found
	})
	return found
}

func containsString(array []byte, text string) (found bool) {
	_ = jsonspan.EachElement(array, func(value []byte) bool { // a value that is not an array contains nothing
		found = jsonspan.EqualString(value, text)
		return !found
	})
	return found
}

// searchingModels are parts of the names of models that search the web on their own: those of OpenRouter, OpenAI, Perplexity and
// Groq.
var searchingModels = []string{":online", "-online", "-search-preview", "-search-api", "deep-research", "sonar", "groq/compound", "compound-beta"}

// SearchesWeb reports whether a model of that name is known to search the web on its own.
func SearchesWeb(model string) bool {
	model = strings.ToLower(model)
	return slices.ContainsFunc(searchingModels, func(part string) bool { return strings.Contains(model, part) })
}
