package e2e

import "testing"

// responsesServers are the upstreams that clients of the Responses API reach. OpenAI's has that API itself. The others have chat, or their own
// API, so that the gateway translates.
var responsesServers = []struct {
	name, model, abilities string // see sdk/python_responses.py
}{
	{"openai", "openai-chat", "thinking,images,stored,failing,long"},
	{"chat only", "chat-only", "thinking,images,failing,long"},
	{"anthropic", "claude-chat", "thinking,images,failing,long"},
	{"llamacpp", "llama-chat", "thinking,long"},
	{"ollama", "ollama-chat", "long"},
}

var responsesChecks = map[string]int{"python": 14, "node": 9} // in each of the scripts

// OpenAI's SDKs and openai-agents see the Responses API in front of every upstream.
func TestResponsesSDK(t *testing.T) {
	g := sharedGateway(t)
	for _, k := range sdks() {
		for _, s := range responsesServers {
			t.Run(k.name+", "+s.name, func(t *testing.T) {
				k.check(t, g.url+"/v1", responsesChecks[k.name], "responses", "all", s.model, s.abilities)
			})
		}
	}
}
