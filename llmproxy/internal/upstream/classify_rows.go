package upstream

import "github.com/caddy-llmproxy/caddy-llmproxy/router"

// The errors that mean something else than their status says, as far as they are known of each server. Where two servers
// disagree about the same words, the row stands with the kind; the first row that fits decides.

var ollamaErrors = []row{
	{words: "is longer than the context length", is: router.FitsElsewhere},
	{words: "exceed_context_size_error", is: router.FitsElsewhere}, // its runner's JSON as a text
	{words: "server busy", is: router.Busy},
	{from: 499, is: router.Broken}, // it believes that we left, and we did not
	{from: 403, is: router.Config}, // a foreign Host or Origin, with an empty body; a model of its cloud
}

var llamaCppErrors = []row{
	{typ: "exceed_context_size_error", is: router.FitsElsewhere},
	{words: "is too large to process", is: router.FitsElsewhere}, // 500: embeddings over the batch
	{words: "Loading model", is: router.NotUp, loading: true},
	{words: "model is not loaded", is: router.Config}, // router mode says 400
	{from: 400, words: "' not found", is: router.Config},
}

var vllmErrors = []row{
	{param: "input_tokens", is: router.FitsElsewhere},
	{param: "input_text", is: router.FitsElsewhere},
	{words: "requires --enable-auto-tool-choice", is: router.FitsElsewhere},
	{words: "is not a multimodal model", is: router.FitsElsewhere},
	{from: 400, words: "(s) may be provided in one prompt", is: router.FitsElsewhere}, // images, where it takes none or fewer
}

// everywhere are the rows of every kind. What an OpenAI-compatible service says may be a local server's words behind a
// proxy, so those of the local kinds that cannot be mistaken stand here too.
var everywhere = []row{
	// A budget that is spent does not come back by waiting.
	{code: "insufficient_quota", is: router.Config},
	{code: "billing_hard_limit_reached", is: router.Config},
	{typ: "insufficient_quota", is: router.Config},
	// Larger than what is allowed in a minute: no wait makes it fit.
	{from: 413, code: "rate_limit_exceeded", is: router.FitsElsewhere}, // Groq
	{from: 429, words: "Request too large", is: router.FitsElsewhere},  // OpenAI

	{words: "Loading model", from: 503, is: router.NotUp, loading: true},
	{words: "server busy, please try again", is: router.Busy},
	{typ: "overloaded_error", is: router.Busy},
	{typ: "rate_limit_error", is: router.Busy},
	{typ: "RESOURCE_EXHAUSTED", is: router.Busy}, // Gemini
	{code: "rate_limit_exceeded", from: 429, is: router.Busy},

	// Too long.
	{code: "context_length_exceeded", is: router.FitsElsewhere}, // OpenAI, Azure, Groq
	{typ: "exceed_context_size_error", is: router.FitsElsewhere},
	{words: "exceed_context_size_error", is: router.FitsElsewhere},
	{words: "maximum context length", is: router.FitsElsewhere}, // vLLM, Mistral, OpenRouter
	{words: "context length currently available", is: router.FitsElsewhere},
	{words: "exceeds the available context size", is: router.FitsElsewhere},
	{words: "exceeds the maximum number of tokens allowed", is: router.FitsElsewhere}, // Gemini
	{words: "prompt is too long", is: router.FitsElsewhere},                           // Anthropic
	{words: "exceed context limit", is: router.FitsElsewhere},                         // Anthropic, where it names no numbers
	{words: "is too large to process", is: router.FitsElsewhere},

	// Something that it cannot do.
	{words: "does not support", is: router.FitsElsewhere}, // Ollama: tools, thinking, images
	{words: "No endpoints found that support", is: router.FitsElsewhere},
	{words: "is not supported - hint", is: router.FitsElsewhere}, // llama.cpp, as 500: an image
	{from: 400, code: "unsupported_parameter", is: router.FitsElsewhere},
	{from: 400, code: "unsupported_value", is: router.FitsElsewhere},
	{from: 400, code: "OperationNotSupported", is: router.FitsElsewhere}, // Azure: a model without this endpoint
	{from: 400, code: "tool_use_failed", is: router.FitsElsewhere},       // Groq: its model wrote a tool call that is none
	{from: 400, words: "is unsupported", is: router.FitsElsewhere},       // Groq: logprobs, messages[].name
	{from: 422, body: `"extra_forbidden"`, is: router.FitsElsewhere},     // Mistral: a member that it does not know
	{typ: "not_supported_error", is: router.FitsElsewhere},

	// A moderated prompt is the caller's affair: it must not hide the model from everybody else.
	{from: 403, body: `"flagged_input"`, is: router.Caller}, // OpenRouter
	{from: 403, body: `"reasons"`, is: router.Caller},
	{code: "content_filter", is: router.Caller},           // Azure
	{code: "content_policy_violation", is: router.Caller}, // OpenAI's images

	// A model that is not there, or a key that is not enough.
	{from: 400, to: 404, code: "model_not_found", is: router.Config},
	{code: "DeploymentNotFound", is: router.Config}, // Azure
	{from: 400, words: "Invalid model", is: router.Config},
	{from: 400, words: "is not a valid model ID", is: router.Config},
	{from: 400, words: "API key not valid", is: router.Config}, // Gemini
	{from: 400, typ: "FAILED_PRECONDITION", is: router.Config},
	{from: 404, typ: "NotFoundError", is: router.Config}, // vLLM
	{from: 404, typ: "not_found_error", words: "model", is: router.Config},
	{from: 404, words: "model \"", is: router.Config},
	{from: 404, words: "model '", is: router.Config},
	{from: 404, words: "model `", is: router.Config},
	{from: 404, words: "models/", is: router.Config}, // Gemini
	{from: 404, words: "No endpoints found", is: router.Config},
	{from: 400, words: "model is not loaded", is: router.Config},
	{from: 400, words: "model '", body: "not found", is: router.Config},
}

// statuses are the rows that no words decide.
var statuses = []row{
	{from: 202, to: 299, is: router.Broken}, // an answer that is still to be fetched, or a part of one
	{from: 300, to: 399, is: router.Config}, // an API does not redirect: the address is wrong
	{from: 401, to: 403, is: router.Config},
	{from: 404, to: 405, is: router.FitsElsewhere}, // this server has no such endpoint
	{from: 408, is: router.Broken},
	{from: 429, is: router.Busy},
	{from: 498, is: router.Busy}, // Groq: no room for the flexible
	{from: 499, is: router.Broken},
	{from: 501, is: router.FitsElsewhere},
	{from: 503, is: router.Busy},
	{from: 529, is: router.Busy},
	{typ: "invalid_request_error", is: router.Caller}, // inside a 200, without a status
}
