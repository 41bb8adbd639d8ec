package upstream

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// Ollama, vLLM and llama.cpp have a Messages API of their own, beside their chat API. Each of the two carries things that the other one
// loses. A request goes to the former if that keeps something which a translation to the latter would lose, and loses nothing itself.
// The answer is translated to OpenAI's format and back, which adds what these servers leave out: pings, signatures, the usage of an answer
// that was cut, the reason of its end.

// A nativeRow says from which version on a server's Messages API keeps a feature of a request that a translation to its chat API loses.
type nativeRow struct {
	kind   string
	from   version
	keeps  feature
	reason string
}

var nativeRows = []nativeRow{
	{"ollama", version{0, 14, 0}, topK, "the chat API has no top_k"},
	{"ollama", version{0, 14, 0}, thinkingOn, "the chat API refuses it for a model that does not think; here it answers without thinking"},
	{"ollama", version{0, 14, 0}, replayedThinking, "the chat API does not read reasoning_content"},
	{"ollama", version{0, 14, 0}, imagesBesideText, "the chat API makes a message of each image and of each text"},
	{"ollama", version{0, 32, 15}, imagesInResults, "a result keeps its images"},
	{"vllm", version{0, 22, 0}, deferredTools, "a tool that is found by a search is added to the tools of the template"},
	{"vllm", version{0, 25, 0}, systemInside, "the server knows whether the template takes a system message that is not the first"},
	{"llamacpp", version{0, 5, 0}, imagesInResults, "a result keeps its images"},
	{"llamacpp", version{0, 5, 0}, stopSequences, "the chat API does not say which sequence ended the answer"},
	{"llamacpp", version{0, 5, 0}, namedTool, "the chat API ignores the name, so that no tool has to be called; here one has to"},
	{"llamacpp", version{0, 5, 0}, thinkingOn, "the budget limits the thinking"},
}

// lossRows say until which version a server's Messages API loses a feature of a request; without a version, all do.
var lossRows = []struct {
	kind   string
	until  version
	loses  feature
	reason string
}{
	{"ollama", version{0, 32, 15}, setsEffort | imagesInResults, "they are dropped"},
	{"ollama", version{}, schema | failedResults | documents | strictTools, "they are dropped"},
	{"ollama", version{}, severalTexts, "they are joined without a space"},
	{"ollama", version{}, onlyAnthropic, "web_search would run at ollama.com"},
	{"vllm", version{0, 25, 0}, schema | setsEffort, "they are dropped"},
	{"vllm", version{0, 32, 0}, thinkingOff, "it is dropped"},
	{"vllm", version{}, thinkingOn, "a budget is refused by a server without --reasoning-parser"},
	{"vllm", version{}, failedResults, "is_error is dropped"},
	{"vllm", version{}, documents | onlyAnthropic, "they are refused"},
	{"llamacpp", version{}, thinkingOff | setsEffort | schema | noTool | failedResults | strictTools | documents | onlyAnthropic, "they are dropped"},
}

// A feature is something that a request for Anthropic's API may have and that not every API carries.
type feature uint32

const (
	topK feature = 1 << iota
	stopSequences
	thinkingOn // with a budget
	thinkingOff
	setsEffort
	schema    // of the answer
	noTool    // may be called
	namedTool // must be called
	strictTools
	deferredTools // tools that a search finds
	systemInside  // system messages among the others
	severalTexts  // in one message, or one result
	imagesBesideText
	imagesInResults
	failedResults // of tools: is_error
	documents
	replayedThinking
	onlyAnthropic // tools, blocks and files that its API alone has
)

// A version is a version of a server: major, minor, patch. The zero value is unknown.
type version [3]int

// parseVersion reads a version such as 0.25.1rc2.dev3+g1234 or 0.14.0-rc1. It returns the zero value for anything else.
func parseVersion(text string) (v version) {
	for i := range v {
		digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
		n, err := strconv.Atoi(text[:digits])
		if err != nil {
			return version{}
		}
		v[i] = n
		if text = text[digits:]; !strings.HasPrefix(text, ".") {
			break
		}
		text = text[1:]
	}
	return v
}

func (v version) compare(w version) int { return slices.Compare(v[:], w[:]) }

// before reports whether v is older than w.
func (v version) before(w version) bool { return v.compare(w) < 0 }

// losesLess reports whether the Messages API of a server of a kind and version loses less of a request with these features than a
// translation to its chat API.
func losesLess(kind string, v version, has feature) bool {
	kept := false
	for _, row := range nativeRows {
		kept = kept || row.kind == kind && row.keeps&has != 0 && !v.before(row.from)
	}
	if !kept {
		return false
	}
	for _, row := range lossRows {
		if row.kind == kind && row.loses&has != 0 && (row.until == version{} || v.before(row.until)) {
			return false
		}
	}
	return true
}

// systemOf returns the system prompt of a chat request, or nil.
func systemOf(chat *openai.Request) (text []byte) {
	messages, _ := chat.Get("messages")
	_ = jsonspan.EachElement(messages, func(first []byte) bool { // the translation has made a list
		if jsonspan.EqualString(jsonspan.MemberOf(first, "role"), "system") {
			text = jsonspan.MemberOf(first, "content")
		}
		return false
	})
	return text
}

// featuresOf returns the features that a request has. The request was translated before, so it is valid.
func featuresOf(request *jsonspan.Object) (has feature) {
	set := func(f feature, is bool) {
		if is {
			has |= f
		}
	}
	for _, m := range request.Members {
		value := m.Value.Of(request.Body)
		if jsonspan.IsNull(value) {
			continue
		}
		switch string(jsonspan.Unescape(m.Key.Of(request.Body))) {
		case "top_k":
			has |= topK
		case "stop_sequences":
			set(stopSequences, len(bytes.TrimSpace(value[1:])) > 1)
		case "thinking":
			kind := jsonspan.MemberOf(value, "type")
			set(thinkingOn, jsonspan.EqualString(kind, "enabled"))
			set(thinkingOff, jsonspan.EqualString(kind, "disabled"))
		case "output_config":
			set(setsEffort, jsonspan.MemberOf(value, "effort") != nil)
			set(schema, jsonspan.MemberOf(value, "format") != nil)
		case "output_format":
			has |= schema
		case "tool_choice":
			kind := jsonspan.MemberOf(value, "type")
			set(noTool, jsonspan.EqualString(kind, "none"))
			set(namedTool, jsonspan.EqualString(kind, "tool"))
		case "tools":
			_ = jsonspan.EachElement(value, func(tool []byte) bool {
				set(strictTools, string(jsonspan.MemberOf(tool, "strict")) == "true")
				set(deferredTools, string(jsonspan.MemberOf(tool, "defer_loading")) == "true")
				kind := jsonspan.MemberOf(tool, "type")
				set(onlyAnthropic, kind != nil && !jsonspan.EqualString(kind, "custom"))
				return true
			})
		case "mcp_servers", "container":
			has |= onlyAnthropic
		case "messages":
			_ = jsonspan.EachElement(value, func(message []byte) bool {
				set(systemInside, jsonspan.EqualString(jsonspan.MemberOf(message, "role"), "system"))
				has |= featuresOfBlocks(jsonspan.MemberOf(message, "content"), false)
				return true
			})
		}
	}
	return has
}

// featuresOfBlocks returns the features that the content of a message has, or of the result of a tool.
func featuresOfBlocks(content []byte, inResult bool) (has feature) {
	texts, images := 0, 0
	_ = jsonspan.EachElement(content, func(block []byte) bool { // a string has no elements
		kind, _ := jsonspan.String(jsonspan.MemberOf(block, "type"))
		switch kind {
		case "text":
			texts++
		case "image":
			images++
			if jsonspan.EqualString(jsonspan.MemberOf(jsonspan.MemberOf(block, "source"), "type"), "file") {
				has |= onlyAnthropic
			}
		case "thinking":
			has |= replayedThinking
		case "tool_use", "redacted_thinking":
		case "tool_reference", "tool_addition", "tool_removal":
			has |= deferredTools
		case "tool_result":
			if string(jsonspan.MemberOf(block, "is_error")) == "true" {
				has |= failedResults
			}
			has |= featuresOfBlocks(jsonspan.MemberOf(block, "content"), true)
		case "document", "search_result":
			has |= documents
		default:
			has |= onlyAnthropic
		}
		return true
	})
	if texts > 1 {
		has |= severalTexts
	}
	switch {
	case images > 0 && inResult:
		has |= imagesInResults
	case images > 0 && texts > 0:
		has |= imagesBesideText
	}
	return has
}
