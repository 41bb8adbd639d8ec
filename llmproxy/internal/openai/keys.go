package openai

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A policy key is one on which somebody decides: this gateway, or the upstream about money and rights. Servers disagree on
// which of two spellings or duplicates wins ({"model":"a","Model":"b"} is b for every Go server and a for Python), so that
// a request with two of them could pass here as one thing and run there as another.
type policy uint8

const (
	noPolicy policy = iota
	policyModel
	policyStream
	policyStreamOptions
	policyN
	policyMaxTokens
	policyMaxCompletionTokens
	policyTools
	policyUser
	policyOptions
	policyModels
	policyPreviousResponse
	policyStore
	policyMaxOutputTokens
	policyMessages
	policyPrompt
	policyInput
	policyInstructions
	policyFunctions
	policyResponseFormat
	policyText
)

var policyNames = [...]string{
	policyModel:               "model",
	policyStream:              "stream",
	policyStreamOptions:       "stream_options",
	policyN:                   "n",
	policyMaxTokens:           "max_tokens",
	policyMaxCompletionTokens: "max_completion_tokens",
	policyTools:               "tools",
	policyUser:                "user",
	policyOptions:             "options",
	policyModels:              "models",
	policyPreviousResponse:    "previous_response_id",
	policyStore:               "store",
	policyMaxOutputTokens:     "max_output_tokens",
	policyMessages:            "messages",
	policyPrompt:              "prompt",
	policyInput:               "input",
	policyInstructions:        "instructions",
	policyFunctions:           "functions",
	policyResponseFormat:      "response_format",
	policyText:                "text",
}

// policyOf finds the policy key that a key, as it stands in the body, can be taken for.
func policyOf(key []byte) (p policy, exact bool) {
	for p := policyModel; int(p) < len(policyNames); p++ {
		if string(key) == policyNames[p] {
			return p, true
		}
	}
	if !jsonspan.Ambiguous(key) {
		return noPolicy, false
	}
	for p := policyModel; int(p) < len(policyNames); p++ {
		if jsonspan.KeyMeans(key, policyNames[p]) {
			return p, false
		}
	}
	return noPolicy, false
}
