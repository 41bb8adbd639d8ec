package upstream

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// The errors are as captured from servers, or as in their source or documentation.
func TestClassify(t *testing.T) {
	t.Parallel()
	is := func(v router.Verdict) Finding { return Finding{Outcome: router.Outcome{Verdict: v}} }
	after := func(d time.Duration) Finding {
		return Finding{Outcome: router.Outcome{Verdict: router.Overloaded, RetryAfter: d}}
	}
	loading := Finding{Outcome: router.Outcome{Verdict: router.Unreachable, Loading: true}}
	fits := func(limit int) Finding {
		return Finding{Outcome: router.Outcome{Verdict: router.Unsupported}, ContextWindow: limit}
	}
	output := func(n int) Finding {
		return Finding{Outcome: router.Outcome{Verdict: router.Adjustable, Adjust: "max_tokens"}, MaxOutput: n}
	}
	for _, test := range []struct {
		name   string
		kind   *Kind
		status int
		body   string
		want   Finding
	}{
		{"ollama: model missing", Ollama, 404, `{"error":{"message":"model 'x' not found","type":"not_found_error","param":null,"code":null}}`, is(router.Misconfigured)},
		{"ollama: model missing, native", Ollama, 404, `{"error":"model \"x\" not found, try pulling it first"}`, is(router.Misconfigured)},
		{"ollama: queue full", Ollama, 503, `{"error":{"message":"server busy, please try again.  maximum pending requests exceeded","type":"api_error","param":null,"code":null}}`, is(router.Overloaded)},
		{"ollama: no tools", Ollama, 400, `{"error":{"message":"registry.ollama.ai/library/x:latest does not support tools","type":"invalid_request_error","param":null,"code":null}}`, fits(0)},
		{"ollama: too long", Ollama, 400, `{"error":{"message":"the prompt is longer than the context length currently available: 4096 tokens","type":"invalid_request_error"}}`, fits(4096)},
		{"ollama: too long, error of its runner", Ollama, 400, `{"error":{"message":"{\"error\":{\"code\":400,\"message\":\"request (5000 tokens) exceeds the available context size (2048 tokens), try increasing it\",\"type\":\"exceed_context_size_error\",\"n_prompt_tokens\":5000,\"n_ctx\":2048}}","type":"invalid_request_error"}}`, fits(2048)},
		{"ollama: believes that the client left", Ollama, 499, `{"error":"request canceled"}`, is(router.Failed)},
		{"ollama: runner died", Ollama, 500, `{"error":{"message":"model runner has unexpectedly stopped, this may be due to resource limitations","type":"api_error"}}`, is(router.Failed)},
		{"ollama: cloud model without account", Ollama, 401, `{"error":"unauthorized","signin_url":"https://ollama.com/connect"}`, is(router.Misconfigured)},
		{"ollama: cloud disabled", Ollama, 403, `{"error":"ollama cloud is disabled"}`, is(router.Misconfigured)},
		{"ollama: foreign host", Ollama, 403, ``, is(router.Misconfigured)},
		{"ollama: image to a text model", Ollama, 500, `{"error":{"message":"{\"error\":{\"code\":500,\"message\":\"image input is not supported - hint: if this is unexpected, you may need to provide the mmproj\",\"type\":\"server_error\"}}"}}`, fits(0)},
		{"ollama: malformed", Ollama, 400, `{"error":{"message":"unexpected EOF","type":"invalid_request_error","param":null,"code":null}}`, is(router.ClientError)},

		{"vllm: too long", VLLM, 400, `{"error":{"message":"This model's maximum context length is 4096 tokens. However, you requested 16 output tokens and your prompt contains at least 20010 input tokens, for a total of at least 20026 tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=input_tokens, value=20010)","type":"BadRequestError","param":"input_tokens","code":400}}`, fits(4096)},
		{"vllm: too long, to 0.17", VLLM, 400, `{"error":{"message":"This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens. Please reduce the length of the input messages.","type":"BadRequestError","param":"input_tokens","code":400}}`, fits(4096)},
		{"vllm: too long, flat and old", VLLM, 400, `{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5010 tokens (5000 in the messages, 10 in the completion). Please reduce the length of the messages or completion.","type":"BadRequestError","param":null,"code":400}`, fits(4096)},
		{"vllm: too much output", VLLM, 400, `{"error":{"message":"'max_tokens' or 'max_completion_tokens' is too large: 100000. This model's maximum context length is 4096 tokens and your request has 12 input tokens (100000 > 4096 - 12).","type":"BadRequestError","param":"max_tokens","code":400}}`, output(4084)},
		{"vllm: too much output, from 0.18", VLLM, 400, `{"error":{"message":"This model's maximum context length is 4096 tokens. However, you requested 100000 output tokens and your prompt contains 96 input tokens, for a total of 100096 tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=max_tokens, value=100000)","type":"BadRequestError","param":"max_tokens","code":400}}`, output(4000)},
		{"vllm: too long, 0.32", VLLM, 400, `{"error":{"message":"This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=2049)","type":"BadRequestError","param":"input_tokens","code":400}}`, fits(2048)},
		{"vllm: too much output, 0.32", VLLM, 400, `{"error":{"message":"max_tokens=3000 cannot be greater than max_model_len=2048. Please request fewer output tokens. (parameter=max_tokens, value=3000)","type":"BadRequestError","param":"max_tokens","code":400}}`, output(2048)},
		{"vllm: too much output of a response, 0.32", VLLM, 400, `{"error":{"message":"max_output_tokens=3000 cannot be greater than max_model_len=2048. Please request fewer output tokens. (parameter=max_output_tokens, value=3000)","type":"BadRequestError","param":"max_output_tokens","code":400}}`, output(2048)},
		{"vllm: model missing, 0.32", VLLM, 404, "{\"error\":{\"message\":\"The model `nope` does not exist. Valid aliases: tiny.\",\"type\":\"NotFoundError\",\"param\":\"model\",\"code\":404}}", is(router.Misconfigured)},
		{"vllm: model missing", VLLM, 404, "{\"error\":{\"message\":\"The model `x` does not exist.\",\"type\":\"NotFoundError\",\"param\":\"model\",\"code\":404}}", is(router.Misconfigured)},
		{"vllm: no such endpoint", VLLM, 404, `{"detail":"Not Found"}`, fits(0)},
		{"vllm: not implemented", VLLM, 501, `{"error":{"message":"tool calls","type":"NotImplementedError","param":null,"code":501}}`, fits(0)},
		{"vllm: no tools", VLLM, 400, `{"error":{"message":"\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set","type":"BadRequestError","param":null,"code":400}}`, fits(0)},
		{"vllm: no images", VLLM, 400, `{"error":{"message":"tiny is not a multimodal model","type":"BadRequestError","param":null,"code":400}}`, fits(0)},
		{"vllm: queue full", VLLM, 503, `{"error":{"message":"The request queue is full. Please retry later.","type":"Service Unavailable","param":null,"code":503}}`, is(router.Overloaded)},
		{"vllm: engine dead", VLLM, 500, `{"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}}`, is(router.Failed)},
		{"vllm: key", VLLM, 401, `{"error":"Unauthorized"}`, is(router.Misconfigured)},
		{"vllm: wrong parameter", VLLM, 400, `{"error":{"message":"temperature must be non-negative, got -1.0.","type":"BadRequestError","param":"temperature","code":400}}`, is(router.ClientError)},

		{"llama.cpp: loading", LlamaCpp, 503, `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`, loading},
		{"llama.cpp: too long", LlamaCpp, 400, `{"error":{"code":400,"message":"request (5000 tokens) exceeds the available context size (2048 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":2048}}`, fits(2048)},
		{"llama.cpp: embeddings too long", LlamaCpp, 500, `{"error":{"code":500,"message":"input (600 tokens) is too large to process. increase the physical batch size (current batch size: 512)","type":"server_error"}}`, fits(512)},
		{"llama.cpp: embeddings off", LlamaCpp, 501, `{"error":{"code":501,"message":"This server does not support embeddings. Start it with --embeddings","type":"not_supported_error"}}`, fits(0)},
		{"llama.cpp: router, unknown model", LlamaCpp, 400, `{"error":{"code":400,"message":"model 'x' not found","type":"invalid_request_error"}}`, is(router.Misconfigured)},
		{"llama.cpp: router, not loaded", LlamaCpp, 400, `{"error":{"code":400,"message":"model is not loaded","type":"invalid_request_error"}}`, is(router.Misconfigured)},
		{"llama.cpp: router, load failed", LlamaCpp, 500, `{"error":{"code":500,"message":"model name=x failed to load","type":"server_error"}}`, is(router.Failed)},
		{"llama.cpp: no slot", LlamaCpp, 503, `{"error":{"code":503,"message":"no slot available","type":"unavailable_error"}}`, is(router.Overloaded)},
		{"llama.cpp: wrong path", LlamaCpp, 404, `{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}`, fits(0)},
		{"llama.cpp: key", LlamaCpp, 401, `{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}`, is(router.Misconfigured)},

		{"openai: key", OpenAI, 401, `{"error":{"message":"Incorrect API key provided: sk-a***z.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`, is(router.Misconfigured)},
		{"openai: model", OpenAI, 404, "{\"error\":{\"message\":\"The model `x` does not exist or you do not have access to it.\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"model_not_found\"}}", is(router.Misconfigured)},
		{"openai: rate", OpenAI, 429, `{"error":{"message":"Rate limit reached for requests per min (RPM): Limit 500. Please try again in 1.5s.","type":"requests","param":null,"code":"rate_limit_exceeded"}}`, after(1500 * time.Millisecond)},
		{"openai: larger than the limit per minute", OpenAI, 429, `{"error":{"message":"Request too large for gpt-4o on tokens per min (TPM): Limit 10000, Requested 20000.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}`, fits(0)},
		{"openai: quota", OpenAI, 429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`, is(router.Misconfigured)},
		{"openai: too long", OpenAI, 400, `{"error":{"message":"This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, fits(128000)},
		{"openai: too much output", OpenAI, 400, `{"error":{"message":"max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.","type":"invalid_request_error","param":"max_tokens","code":"invalid_value"}}`, output(16384)},
		{"openai: too much output after the prompt", OpenAI, 400, `{"error":{"message":"This model's maximum context length is 4097 tokens. However, you requested 5000 tokens (1000 in the messages, 4000 in the completion). Please reduce the length of the messages or completion.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, output(3097)},
		{"openai: parameter not supported", OpenAI, 400, `{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}`, fits(0)},
		{"openai: down", OpenAI, 500, `{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}`, is(router.Failed)},
		{"openai: overloaded", OpenAI, 503, `{"error":{"message":"The engine is currently overloaded, please try again later","type":"server_error"}}`, is(router.Overloaded)},
		{"openai: wrong value", OpenAI, 400, `{"error":{"message":"Invalid 'temperature'","type":"invalid_request_error","param":"temperature","code":"decimal_above_max_value"}}`, is(router.ClientError)},
		{"openai: image policy", OpenAI, 400, `{"error":{"message":"rejected by our safety system","type":"image_generation_user_error","code":"content_policy_violation"}}`, is(router.ClientError)},

		{"azure: key", OpenAI, 401, `{"statusCode":401,"message":"Unauthorized. Access token is missing, invalid, audience is incorrect, or have expired."}`, is(router.Misconfigured)},
		{"azure: deployment", OpenAI, 404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`, is(router.Misconfigured)},
		{"azure: no api-version", OpenAI, 404, `{"error":{"code":"404","message":"Resource not found"}}`, fits(0)},
		{"azure: rate", OpenAI, 429, `{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation have exceeded call rate limit. Please retry after 6 seconds."}}`, after(6 * time.Second)},
		{"azure: content filter", OpenAI, 400, `{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}`, is(router.ClientError)},
		{"azure: wrong operation", OpenAI, 400, `{"error":{"code":"OperationNotSupported","message":"The completion operation does not work with the specified model."}}`, fits(0)},
		{"azure: timeout", OpenAI, 408, `{"error":{"code":"Timeout","message":"The operation was timeout."}}`, is(router.Failed)},

		{"openrouter: credits", OpenAI, 402, `{"error":{"message":"Insufficient credits","code":402}}`, is(router.Misconfigured)},
		{"openrouter: moderated", OpenAI, 403, `{"error":{"message":"Your chosen model requires moderation and your input was flagged","code":403,"metadata":{"reasons":["violence"],"flagged_input":"…"}}}`, is(router.ClientError)},
		{"openrouter: no such model", OpenAI, 400, `{"error":{"message":"foo is not a valid model ID","code":400}}`, is(router.Misconfigured)},
		{"openrouter: no endpoint", OpenAI, 404, `{"error":{"message":"No endpoints found for foo.","code":404}}`, is(router.Misconfigured)},
		{"openrouter: no endpoint with tools", OpenAI, 404, `{"error":{"message":"No endpoints found that support tool use.","code":404}}`, fits(0)},
		{"openrouter: too long", OpenAI, 400, `{"error":{"message":"This endpoint's maximum context length is 32768 tokens. However, you requested about 40000 tokens.","code":400}}`, fits(32768)},

		{"groq: too much output", OpenAI, 400, "{\"error\":{\"message\":\"`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the `context_window` for this model\",\"type\":\"invalid_request_error\",\"param\":\"max_tokens\"}}", output(8192)},
		{"groq: larger than the limit per minute", OpenAI, 413, `{"error":{"message":"Request too large for model on tokens per minute (TPM): Limit 6000, Requested 7500","type":"tokens","code":"rate_limit_exceeded"}}`, fits(0)},
		{"groq: too long", OpenAI, 400, `{"error":{"message":"Please reduce the length of the messages or completion.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, fits(0)},
		{"nginx: believes that the client left", OpenAI, 499, ``, is(router.Failed)},
		{"groq: flex tier full", OpenAI, 498, `{"error":{"message":"flex tier capacity exceeded"}}`, is(router.Overloaded)},
		{"groq: invalid tool call", OpenAI, 400, `{"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"x"}}`, fits(0)},
		{"groq: logprobs", OpenAI, 400, `{"error":{"message":"property 'logprobs' is unsupported","type":"invalid_request_error"}}`, fits(0)},

		{"groq: a name", Groq, 400, `{"error":{"message":"'messages.0' : for 'role:user' the following must be satisfied[('messages.0' : property 'name' is unsupported)]","type":"invalid_request_error"}}`, fits(0)},
		{"groq: several answers", Groq, 400, `{"error":{"message":"'n' : number must be at most 1","type":"invalid_request_error"}}`, fits(0)},
		{"mistral: unknown member", OpenAI, 422, `{"detail":[{"type":"extra_forbidden","loc":["body","user"],"msg":"Extra inputs are not permitted"}]}`, fits(0)},
		{"mistral: wrong value", OpenAI, 422, `{"detail":[{"type":"less_than_equal","loc":["body","temperature"],"msg":"Input should be less than or equal to 1.5"}]}`, is(router.ClientError)},
		{"mistral: model", OpenAI, 400, `{"object":"error","message":"Invalid model: foo","type":"invalid_model","param":null,"code":"1500"}`, is(router.Misconfigured)},
		{"mistral: too long", OpenAI, 400, `{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length","type":"invalid_request_error","param":null,"code":"3051"}`, fits(32768)},
		{"mistral: rate", OpenAI, 429, `{"message":"Requests rate limit exceeded"}`, is(router.Overloaded)},
		{"mistral: key", OpenAI, 401, `{"detail":"Unauthorized"}`, is(router.Misconfigured)},

		{"gemini: too long", OpenAI, 400, `[{"error":{"code":400,"message":"The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}]`, fits(1048576)},
		{"gemini: key", OpenAI, 400, `[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]`, is(router.Misconfigured)},
		{"gemini: model", OpenAI, 404, `[{"error":{"code":404,"message":"models/foo is not found for API version v1main","status":"NOT_FOUND"}}]`, is(router.Misconfigured)},
		{"gemini: rate", OpenAI, 429, `[{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"13s"}]}}]`, after(13 * time.Second)},
		{"gemini: overloaded", OpenAI, 503, `[{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}]`, is(router.Overloaded)},
		{"gemini: location", OpenAI, 400, `[{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}]`, is(router.Misconfigured)},
		{"gemini: internal error", OpenAI, 500, `[{"error":{"code":500,"message":"An internal error has occurred.","status":"INTERNAL"}}]`, is(router.Failed)},
		{"gemini: invalid request", OpenAI, 400, `[{"error":{"code":400,"message":"Invalid JSON payload received.","status":"INVALID_ARGUMENT"}}]`, is(router.ClientError)},

		{"anthropic: overloaded", OpenAI, 529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, is(router.Overloaded)},
		{"anthropic: too long", OpenAI, 400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}`, fits(200000)},
		{"anthropic: too much output", OpenAI, 400, `{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for claude"}}`, output(8192)},
		{"anthropic: too much output after the prompt", OpenAI, 400, "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens`\"}}", output(10000)},
		{"anthropic: billing", OpenAI, 402, `{"type":"error","error":{"type":"billing_error","message":"x"}}`, is(router.Misconfigured)},
		{"deepseek: too much output", OpenAI, 400, `{"error":{"message":"Invalid max_tokens value, the valid range of max_tokens is [1, 8192]","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}`, output(8192)},
		{"deepseek: a schema", DeepSeek, 400, `{"error":{"message":"This response_format type is unavailable now","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}`, fits(0)},
		{"xai: a penalty", XAI, 400, `{"code":"Client specified an invalid argument","error":"Argument not supported on this model: presencePenalty"}`, fits(0)},
		{"xai: key", XAI, 400, `{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***ey. You can obtain an API key from https://console.x.ai."}`, is(router.Misconfigured)},
		{"xai: model", XAI, 404, `{"code":"Some requested entity was not found","error":"The model grok-9 does not exist or your team 1 does not have access to it."}`, is(router.Misconfigured)},
		{"deepseek: balance", OpenAI, 402, `{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}`, is(router.Misconfigured)},

		{"proxy: bad gateway", OpenAI, 502, `<html>502 Bad Gateway</html>`, is(router.Failed)},
		{"proxy: redirect", OpenAI, 302, ``, is(router.Misconfigured)},
		{"llama-swap: too many", OpenAI, 429, `Too many requests`, is(router.Overloaded)},
		{"llama.cpp behind a proxy: loading", OpenAI, 503, `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`, loading},
		{"unknown error", OpenAI, 418, ``, is(router.ClientError)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, test.kind.Classify(test.status, http.Header{}, []byte(test.body)), cmp.AllowUnexported(Finding{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestClassifyEvent classifies errors with status 200.
func TestClassifyEvent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, value string
		want        router.Verdict
	}{
		{"openrouter: provider", `{"message":"Provider returned error","code":502,"metadata":{"provider_name":"x"}}`, router.Failed},
		{"openrouter: rate", `{"message":"Rate limited","code":429}`, router.Overloaded},
		{"openrouter: credits", `{"message":"Insufficient credits","code":402}`, router.Misconfigured},
		{"vllm: engine", `{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}`, router.Failed},
		{"llama.cpp: context", `{"code":400,"message":"x","type":"exceed_context_size_error","n_ctx":2048}`, router.Unsupported},
		{"anthropic: overloaded", `{"type":"overloaded_error","message":"Overloaded"}`, router.Overloaded},
		{"openai: server", `{"message":"The server had an error","type":"server_error","param":null,"code":null}`, router.Failed},
		{"openai: request", `{"message":"x","type":"invalid_request_error","param":null,"code":null}`, router.ClientError},
		{"string", `"something broke"`, router.Failed},
		{"ollama: no tools", `"x does not support tools"`, router.Unsupported},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := OpenAI.ClassifyEvent([]byte(test.value)).Verdict; got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		header http.Header
		body   string
		want   time.Duration
	}{
		{"seconds", http.Header{"Retry-After": {"7"}}, "", 7 * time.Second},
		{"fraction", http.Header{"Retry-After": {"0.5"}}, "", 500 * time.Millisecond},
		{"milliseconds before seconds", http.Header{"Retry-After": {"7"}, "Retry-After-Ms": {"250"}}, "", 250 * time.Millisecond},
		{"date in the past", http.Header{"Retry-After": {"Wed, 21 Oct 2015 07:28:00 GMT"}}, "try again in 3s", 0},
		{"text", nil, `Please try again in 20ms.`, 20 * time.Millisecond},
		{"negative", http.Header{"Retry-After": {"-1"}}, "", 0},
		{"too long", http.Header{"Retry-After": {"1e300"}}, "", 365 * 24 * time.Hour},
		{"no time", nil, "later", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := retryAfter(test.header, []byte(test.body)); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(400, "", `{"error":{"message":"max_tokens: 9 > 8, which is the maximum allowed","type":"x","param":null,"code":400}}`)
	f.Add(429, "", `[{"error":{"details":[{"retryDelay": "13s"}]}}]`)
	f.Add(503, "1e300", `Loading model`)
	f.Fuzz(func(t *testing.T, status int, retryAfter, body string) {
		header := http.Header{"Retry-After": {retryAfter}, "Retry-After-Ms": {retryAfter}}
		for _, k := range Kinds {
			got := k.Classify(status, header, []byte(body))
			k.ClassifyEvent([]byte(body))
			if got.Verdict == router.OK || got.Verdict == router.ClientClosed || got.RetryAfter < 0 || got.ContextWindow < 0 || (got.MaxOutput > 0) != (got.Verdict == router.Adjustable) {
				t.Errorf("%s: %+v", k.Name, got)
			}
		}
	})
}
