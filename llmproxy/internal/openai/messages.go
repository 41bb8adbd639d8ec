package openai

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// CountTokens is the endpoint of Anthropic's API that counts the tokens of a prompt.
var CountTokens = &Endpoint{Name: "count_tokens", Path: "/messages/count_tokens", CountsOnly: true, Foreign: true}

// Messages is the endpoint of Anthropic's API that generates.
var Messages = &Endpoint{Name: "messages", Path: "/messages", Framing: MessageEvents, Texts: true, Foreign: true}

// readMessageEvent reads an event of Anthropic's API. Such a stream has one answer, which message_delta ends and message_stop closes.
func readMessageEvent(name, data []byte) Event {
	var e Event
	var kind, delta, block, message []byte
	err := jsonspan.EachMember(data, func(key, value []byte) bool {
		switch string(key) {
		case "type":
			kind, _ = jsonspan.RawString(value)
		case "delta":
			delta = value
		case "content_block":
			block = value
		case "message":
			message = value
		case "usage":
			e.Usage = value
		case "error":
			if !isNoError(value) {
				e.Err = value
			}
		}
		return true
	})
	if err != nil {
		return e
	}
	if len(kind) == 0 {
		kind = name
	}
	switch string(kind) {
	case "message_start":
		e.Usage = member(message, "usage")
	case "content_block_start":
		e.Content = hasBlockContent(block)
		e.Opens = !e.Content
	case "content_block_delta":
		e.Content = hasBlockContent(delta)
	case "message_delta":
		if namesReason(member(delta, "stop_reason")) {
			e.Finish, e.Finishes = true, 1
		}
	case "message_stop":
		e.Done = true
	case "error":
		if e.Err == nil {
			e.Err = data
		}
	}
	return e
}

// hasBlockContent reports whether a block, or a delta of one, has a part of the answer.
func hasBlockContent(value []byte) (found bool) {
	_ = jsonspan.EachMember(value, func(key, value []byte) bool { // an absent block has no members
		switch string(key) {
		case "text", "thinking", "partial_json", "data", "name", "citation":
			found = found || !isEmpty(value)
		}
		return !found
	})
	return found
}
