package upstream

import (
	"net/http"
	"slices"
	"strings"
)

// The headers of agents that use the Responses API. Codex has most of them. They go up only with a request to that API
// itself: its server may keep a session warm by them, allow what only Codex asks for, or be a gateway with session affinity. The body of
// such a request says the same, and passes as it is. No credentials are among them, and what a later version adds must begin with X-Codex-.
var (
	agentHeaders = []string{
		"Session-Id", "Session_id", "Thread-Id", "Conversation_id", "X-Client-Request-Id", "Originator", "Version", "X-Openai-Subagent",
		"X-Openai-Internal-Codex-Responses-Lite",
	}
	// answerHeaders come back. X-Models-Etag does not: the list of models is the gateway's own.
	answerHeaders = []string{"Openai-Model", "X-Reasoning-Included"}
)

const codexPrefix = "X-Codex-"

// copyAgentHeaders copies those headers of a request.
func copyAgentHeaders(to, from http.Header) {
	for name, v := range from {
		if strings.HasPrefix(name, codexPrefix) || slices.Contains(agentHeaders, name) {
			to[name] = v
		}
	}
}

// copyAnswerHeaders copies those headers of an answer.
func copyAnswerHeaders(to, from http.Header) {
	for name, v := range from {
		if strings.HasPrefix(name, codexPrefix) || slices.Contains(answerHeaders, name) {
			to[name] = v
		}
	}
}
