package upstream

import "github.com/caddy-llmproxy/caddy-llmproxy/router"

// The errors that mean something else than their status says, as far as they are known of each server. Where two servers
// disagree about the same words, the row stands with the kind; the first row that fits decides.

var ollamaErrors = []row{
	{words: "is longer than the context length", is: router.Unsupported},
	{words: "exceed_context_size_error", is: router.Unsupported}, // its runner's JSON as a text
	{words: "server busy", is: router.Overloaded},
	{from: 499, is: router.Failed},        // it believes that we left, and we did not
	{from: 403, is: router.Misconfigured}, // a foreign Host or Origin, with an empty body; a model of its cloud
}

var llamaCppErrors = []row{
	{typ: "exceed_context_size_error", is: router.Unsupported},
	{words: "is too large to process", is: router.Unsupported}, // 500: embeddings over the batch
	{words: "Loading model", is: router.Unreachable, loading: true},
	{words: "model is not loaded", is: router.Misconfigured}, // router mode says 400
	{from: 400, words: "' not found", is: router.Misconfigured},
}

var vllmErrors = []row{
	{param: "input_tokens", is: router.Unsupported},
	{param: "input_text", is: router.Unsupported},
	{words: "requires --enable-auto-tool-choice", is: router.Unsupported},
	{words: "is not a multimodal model", is: router.Unsupported},
	{from: 400, words: "(s) may be provided in one prompt", is: router.Unsupported}, // images, where it takes none or fewer
}

// everywhere are the rows of every kind. What an OpenAI-compatible service says may be a local server's words behind a
// proxy, so those of the local kinds that cannot be mistaken stand here too.
var everywhere = []row{
	// A budget that is spent does not come back by waiting.
	{code: "insufficient_quota", is: router.Misconfigured},
	{code: "billing_hard_limit_reached", is: router.Misconfigured},
	{typ: "insufficient_quota", is: router.Misconfigured},
	// Larger than what is allowed in a minute: no wait makes it fit.
	{from: 413, code: "rate_limit_exceeded", is: router.Unsupported}, // Groq
	{from: 429, words: "Request too large", is: router.Unsupported},  // OpenAI

	{words: "Loading model", from: 503, is: router.Unreachable, loading: true},
	{words: "server busy, please try again", is: router.Overloaded},
	{typ: "overloaded_error", is: router.Overloaded},
	{typ: "rate_limit_error", is: router.Overloaded},
	{typ: "RESOURCE_EXHAUSTED", is: router.Overloaded}, // Gemini
	{code: "rate_limit_exceeded", from: 429, is: router.Overloaded},

	// Too long.
	{code: "context_length_exceeded", is: router.Unsupported}, // OpenAI, Azure, Groq
	{typ: "exceed_context_size_error", is: router.Unsupported},
	{words: "exceed_context_size_error", is: router.Unsupported},
	{words: "maximum context length", is: router.Unsupported}, // vLLM, Mistral, OpenRouter
	{words: "context length currently available", is: router.Unsupported},
	{words: "exceeds the available context size", is: router.Unsupported},
	{words: "exceeds the maximum number of tokens allowed", is: router.Unsupported}, // Gemini
	{words: "prompt is too long", is: router.Unsupported},                           // Anthropic
	{words: "exceed context limit", is: router.Unsupported},                         // Anthropic, where it names no numbers
	{words: "is too large to process", is: router.Unsupported},

	// Something that it cannot do.
	{words: "does not support", is: router.Unsupported}, // Ollama: tools, thinking, images
	{words: "No endpoints found that support", is: router.Unsupported},
	{words: "is not supported - hint", is: router.Unsupported}, // llama.cpp, as 500: an image
	{from: 400, code: "unsupported_parameter", is: router.Unsupported},
	{from: 400, code: "unsupported_value", is: router.Unsupported},
	{from: 400, code: "OperationNotSupported", is: router.Unsupported}, // Azure: a model without this endpoint
	{from: 400, code: "tool_use_failed", is: router.Unsupported},       // Groq: its model wrote a tool call that is none
	{from: 400, words: "is unsupported", is: router.Unsupported},       // Groq: logprobs, messages[].name
	{from: 422, body: `"extra_forbidden"`, is: router.Unsupported},     // Mistral: a member that it does not know
	{typ: "not_supported_error", is: router.Unsupported},

	// A moderated prompt is the caller's affair: it must not hide the model from everybody else.
	{from: 403, body: `"flagged_input"`, is: router.ClientError}, // OpenRouter
	{from: 403, body: `"reasons"`, is: router.ClientError},
	{code: "content_filter", is: router.ClientError},           // Azure
	{code: "content_policy_violation", is: router.ClientError}, // OpenAI's images

	// A model that is not there, or a key that is not enough.
	{from: 400, to: 404, code: "model_not_found", is: router.Misconfigured},
	{code: "DeploymentNotFound", is: router.Misconfigured}, // Azure
	{from: 400, words: "Invalid model", is: router.Misconfigured},
	{from: 400, words: "is not a valid model ID", is: router.Misconfigured},
	{from: 400, words: "API key not valid", is: router.Misconfigured}, // Gemini
	{from: 400, typ: "FAILED_PRECONDITION", is: router.Misconfigured},
	{from: 404, typ: "NotFoundError", is: router.Misconfigured}, // vLLM
	{from: 404, typ: "not_found_error", words: "model", is: router.Misconfigured},
	{from: 404, words: "model \"", is: router.Misconfigured},
	{from: 404, words: "model '", is: router.Misconfigured},
	{from: 404, words: "model `", is: router.Misconfigured},
	{from: 404, words: "models/", is: router.Misconfigured}, // Gemini
	{from: 404, words: "No endpoints found", is: router.Misconfigured},
	{from: 400, words: "model is not loaded", is: router.Misconfigured},
	{from: 400, words: "model '", body: "not found", is: router.Misconfigured},
}

// statuses are the rows that no words decide.
var statuses = []row{
	{from: 202, to: 299, is: router.Failed},        // an answer that is still to be fetched, or a part of one
	{from: 300, to: 399, is: router.Misconfigured}, // an API does not redirect: the address is wrong
	{from: 401, to: 403, is: router.Misconfigured},
	{from: 404, to: 405, is: router.Unsupported}, // this server has no such endpoint
	{from: 408, is: router.Failed},
	{from: 429, is: router.Overloaded},
	{from: 498, is: router.Overloaded}, // Groq: no room for the flexible
	{from: 499, is: router.Failed},
	{from: 501, is: router.Unsupported},
	{from: 503, is: router.Overloaded},
	{from: 529, is: router.Overloaded},
	{typ: "invalid_request_error", is: router.ClientError}, // inside a 200, without a status
}
