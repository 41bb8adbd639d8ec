package openai

import (
	"bytes"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// readProgress reports whether a typed event has content, or only opens something that has none yet. A reasoning model may be silent
// for minutes after response.output_item.added, so such an event must not count as the beginning of the answer.
func readProgress(name, data []byte) (content, opens bool) {
	kind, _ := eventType(name, data)
	switch lastWord(kind) {
	case "delta": // some services open a part with an empty one
		return hasPayload(data), false
	case "added":
		content = hasPayload(member(data, "item")) || hasPayload(member(data, "part"))
		return content, !content
	case "in_progress", "searching", "interpreting", "generating", "started": // of a tool that runs at the service
		return false, true
	case "rate_limits", "metadata", "heartbeat":
		return false, false
	}
	return true, false
}

// lastWord returns what follows the last dot of an event's type.
func lastWord(kind []byte) string { return string(kind[bytes.LastIndexByte(kind, '.')+1:]) }

// hasPayload reports whether a delta, an item or a part has text or data, not just a name and empty members that will be filled.
func hasPayload(object []byte) (found bool) {
	_ = jsonspan.EachMember(object, func(key, value []byte) bool { // an absent one has no members
		switch string(key) {
		case "delta", "text", "audio", "content", "summary", "arguments", "input", "refusal", "transcript", "output", "outputs", "result", "code", "b64_json", "data":
			found = !isEmpty(value)
		}
		return !found
	})
	return found
}
