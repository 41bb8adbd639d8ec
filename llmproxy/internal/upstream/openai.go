package upstream

import (
	"regexp"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

const openAIHost = "api.openai.com"

// OpenAI is the kind of OpenAI's API, and of every service and server that is compatible with it.
//
// It has no limit of slots, since a service itself answers 429 when it is busy, and is never probed. Its errors are those of all
// compatible services. They apply to every kind, after the kind's own, and include unmistakable errors of local servers, because such
// a server may be behind a proxy.
var OpenAI = &Kind{
	Name: "openai", ServiceBase: "https://api.openai.com/v1", KeyVariable: "OPENAI_API_KEY", AutoModel: "gpt-4o-mini", basePath: "/v1", prefillRate: rateOfBatches, besideResponses: true,
	errors: []errorRow{
		// Waiting does not restore a spent budget.
		{code: "insufficient_quota", is: router.Misconfigured},
		{code: "billing_hard_limit_reached", is: router.Misconfigured},
		{typ: "insufficient_quota", is: router.Misconfigured},
		// The request is larger than the limit per minute, so waiting does not help.
		{from: 413, code: "rate_limit_exceeded", is: router.Unsupported}, // Groq
		{from: 429, text: "Request too large", is: router.Unsupported},   // OpenAI

		{text: llamaCppLoading, from: 503, is: router.Unreachable, loading: true},
		{text: "server busy, please try again", is: router.Overloaded}, // Ollama
		{typ: "overloaded_error", is: router.Overloaded},               // Anthropic
		{typ: "rate_limit_error", is: router.Overloaded},               // Anthropic
		{typ: "RESOURCE_EXHAUSTED", is: router.Overloaded},             // Gemini
		{code: "rate_limit_exceeded", is: router.Overloaded},           // also within a stream, which has no status
		{code: "server_is_overloaded", is: router.Overloaded},
		{code: "slow_down", is: router.Overloaded},

		// The prompt is too long.
		{code: "context_length_exceeded", is: router.Unsupported},  // OpenAI, Azure, Groq
		{typ: "exceed_context_size_error", is: router.Unsupported}, // llama.cpp
		{text: "exceed_context_size_error", is: router.Unsupported},
		{text: "maximum context length", is: router.Unsupported},                       // vLLM, Mistral, OpenRouter
		{text: "context length currently available", is: router.Unsupported},           // Ollama
		{text: "exceeds the available context size", is: router.Unsupported},           // llama.cpp
		{text: "exceeds the maximum number of tokens allowed", is: router.Unsupported}, // Gemini
		{text: "prompt is too long", is: router.Unsupported},                           // Anthropic
		{text: "exceed context limit", is: router.Unsupported},                         // Anthropic, without numbers
		{text: "is too large to process", is: router.Unsupported},                      // llama.cpp

		// The model or the server lacks a feature.
		{text: "does not support", is: router.Unsupported},                // Ollama: tools, thinking, images
		{text: "No endpoints found that support", is: router.Unsupported}, // OpenRouter
		{text: "is not supported - hint", is: router.Unsupported},         // llama.cpp, as 500: an image
		{from: 400, code: "unsupported_parameter", is: router.Unsupported},
		{from: 400, code: "unsupported_value", is: router.Unsupported},
		{from: 400, code: "OperationNotSupported", is: router.Unsupported}, // Azure: a model without this endpoint
		{from: 400, code: "tool_use_failed", is: router.Unsupported},       // Groq: its model wrote an invalid tool call
		{from: 400, text: "is unsupported", is: router.Unsupported},        // Groq: logprobs, messages[].name
		{from: 422, body: `"extra_forbidden"`, is: router.Unsupported},     // Mistral: an unknown member
		{typ: "not_supported_error", is: router.Unsupported},               // llama.cpp

		// A moderated prompt is the client's error, and must not hide the model from other clients.
		{from: 403, body: `"flagged_input"`, is: router.ClientError}, // OpenRouter
		{from: 403, body: `"reasons"`, is: router.ClientError},       // OpenRouter
		{code: "content_filter", is: router.ClientError},             // Azure
		{code: "content_policy_violation", is: router.ClientError},   // OpenAI, for images

		// A model that does not exist, or an API key that may not use it.
		{from: 400, to: 404, code: "model_not_found", is: router.Misconfigured},
		{code: "DeploymentNotFound", is: router.Misconfigured},                 // Azure
		{from: 400, text: "Invalid model", is: router.Misconfigured},           // Mistral
		{from: 400, text: "is not a valid model ID", is: router.Misconfigured}, // OpenRouter
		{from: 400, text: "API key not valid", is: router.Misconfigured},       // Gemini
		{from: 400, typ: "FAILED_PRECONDITION", is: router.Misconfigured},      // Gemini: not served in this country
		{from: 404, typ: "NotFoundError", is: router.Misconfigured},            // vLLM
		{from: 404, typ: "not_found_error", text: "model", is: router.Misconfigured},
		{from: 404, text: "model \"", is: router.Misconfigured},
		{from: 404, text: "model '", is: router.Misconfigured},
		{from: 404, text: "model `", is: router.Misconfigured},
		{from: 404, text: "models/", is: router.Misconfigured}, // Gemini
		{from: 404, text: "No endpoints found", is: router.Misconfigured},
		{from: 400, text: "model is not loaded", is: router.Misconfigured},
		{from: 400, text: "model '", body: "not found", is: router.Misconfigured},
	},
	outputPatterns: []*regexp.Regexp{
		// OpenAI's older models, and services that copied them.
		regexp.MustCompile(`maximum context length is (?P<limit>\d+) tokens.*\((?P<used>\d+) in the (?:messages|prompt)[,;] \d+ in the completion\)`),
		regexp.MustCompile(`supports at most (?P<limit>\d+) completion tokens`),
		regexp.MustCompile("`max_tokens` must be less than or equal to `(?P<limit>\\d+)`"),                                             // Groq
		regexp.MustCompile(`max_tokens: \d+ > (?P<limit>\d+), which is the maximum allowed`),                                           // Anthropic
		regexp.MustCompile(`exceed context limit: (?P<used>\d+) \+ \d+ > (?P<limit>\d+)`),                                              // Anthropic
		regexp.MustCompile("must be <= (?P<limit>\\d+)\\. Given: (?P<used>\\d+) `inputs` tokens and \\d+ `max_new_tokens`"),            // TGI, Together
		regexp.MustCompile(`Invalid max_tokens value, the valid range of max_tokens is \[1, (?P<limit>\d+)\]`),                         // DeepSeek
		regexp.MustCompile(`maxOutputTokens.* supported range is from 1 \(inclusive\) to (?P<limit>\d+) \((?P<exclusive>exclusive)\)`), // Gemini
	},
	contextPatterns: []*regexp.Regexp{
		regexp.MustCompile(`maximum context length (?:is|of) (?P<limit>\d+)`),     // also vLLM
		regexp.MustCompile(`with (?P<limit>\d+) maximum context length`),          // Mistral
		regexp.MustCompile(`maximum number of tokens allowed \((?P<limit>\d+)\)`), // Gemini
		regexp.MustCompile(`prompt is too long: \d+ tokens > (?P<limit>\d+)`),     // Anthropic
	},
}
