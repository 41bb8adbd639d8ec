package litellm

import (
	"net/url"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// A service is what a prefix of LiteLLM's models is here.
type service struct {
	kind string // of the upstream; empty if no kind of ours has its API
	// address is that of the service if the configuration names none. Empty for kinds that know it, and for servers of one's own.
	address string
	// variables hold the API key if the configuration has none. LiteLLM reads the first one that is set.
	variables []string
	// why says why the kind is empty, or what is different.
	why string
}

// hosted are the services by the prefix of their models.
var hosted = map[string]service{
	"openai":                 {kind: "openai", variables: []string{"OPENAI_API_KEY"}},
	"text-completion-openai": {kind: "openai", variables: []string{"OPENAI_API_KEY"}},
	"custom_openai":          {kind: "openai", variables: []string{"OPENAI_API_KEY"}},
	"openai_like":            {kind: "openai"},
	"aiohttp_openai":         {kind: "openai", variables: []string{"OPENAI_API_KEY"}},
	"anthropic":              {kind: "anthropic", variables: []string{"ANTHROPIC_API_KEY"}},
	"anthropic_text":         {kind: "anthropic", variables: []string{"ANTHROPIC_API_KEY"}},
	"azure":                  {kind: "azure", variables: []string{"AZURE_API_KEY"}},
	"azure_text":             {kind: "azure", variables: []string{"AZURE_API_KEY"}},
	"azure_ai":               {kind: "openai", variables: []string{"AZURE_AI_API_KEY"}},
	"gemini":                 {kind: "gemini", variables: []string{"GEMINI_API_KEY"}},
	"groq":                   {kind: "groq", variables: []string{"GROQ_API_KEY"}},
	"mistral":                {kind: "mistral", variables: []string{"MISTRAL_API_KEY"}},
	"codestral":              {kind: "mistral", address: "https://codestral.mistral.ai/v1", variables: []string{"CODESTRAL_API_KEY"}},
	"openrouter":             {kind: "openrouter", variables: []string{"OPENROUTER_API_KEY"}},
	"together_ai":            {kind: "together", variables: []string{"TOGETHER_API_KEY", "TOGETHERAI_API_KEY"}},
	"deepseek":               {kind: "deepseek", variables: []string{"DEEPSEEK_API_KEY"}},
	"xai":                    {kind: "xai", variables: []string{"XAI_API_KEY"}},
	"fireworks_ai":           {kind: "fireworks", variables: []string{"FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY"}},
	"cerebras":               {kind: "cerebras", variables: []string{"CEREBRAS_API_KEY"}},

	"ollama":        {kind: "ollama", address: "http://localhost:11434"},
	"ollama_chat":   {kind: "ollama", address: "http://localhost:11434"},
	"hosted_vllm":   {kind: "vllm"},
	"vllm":          {kind: "vllm"},
	"llamafile":     {kind: "llamacpp", address: "http://127.0.0.1:8080/v1"},
	"lm_studio":     {kind: "openai", address: "http://localhost:1234/v1"},
	"litellm_proxy": {kind: "openai", variables: []string{"LITELLM_PROXY_API_KEY"}},
	"xinference":    {kind: "openai", address: "http://127.0.0.1:9997/v1"},
	"infinity":      {kind: "openai"},
	"databricks":    {kind: "openai", variables: []string{"DATABRICKS_API_KEY"}},

	"perplexity":        {kind: "openai", address: "https://api.perplexity.ai", variables: []string{"PERPLEXITYAI_API_KEY"}},
	"nvidia_nim":        {kind: "openai", address: "https://integrate.api.nvidia.com/v1", variables: []string{"NVIDIA_NIM_API_KEY"}},
	"deepinfra":         {kind: "openai", address: "https://api.deepinfra.com/v1/openai", variables: []string{"DEEPINFRA_API_KEY"}},
	"sambanova":         {kind: "openai", address: "https://api.sambanova.ai/v1", variables: []string{"SAMBANOVA_API_KEY"}},
	"meta_llama":        {kind: "openai", address: "https://api.llama.com/compat/v1", variables: []string{"LLAMA_API_KEY"}},
	"volcengine":        {kind: "openai", address: "https://ark.cn-beijing.volces.com/api/v3", variables: []string{"VOLCENGINE_API_KEY"}},
	"ai21_chat":         {kind: "openai", address: "https://api.ai21.com/studio/v1", variables: []string{"AI21_API_KEY"}},
	"moonshot":          {kind: "openai", address: "https://api.moonshot.ai/v1", variables: []string{"MOONSHOT_API_KEY"}},
	"dashscope":         {kind: "openai", address: "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", variables: []string{"DASHSCOPE_API_KEY"}},
	"hyperbolic":        {kind: "openai", address: "https://api.hyperbolic.xyz/v1", variables: []string{"HYPERBOLIC_API_KEY"}},
	"lambda_ai":         {kind: "openai", address: "https://api.lambda.ai/v1", variables: []string{"LAMBDA_API_KEY"}},
	"nebius":            {kind: "openai", address: "https://api.studio.nebius.ai/v1", variables: []string{"NEBIUS_API_KEY"}},
	"nscale":            {kind: "openai", address: "https://inference.api.nscale.com/v1", variables: []string{"NSCALE_API_KEY"}},
	"featherless_ai":    {kind: "openai", address: "https://api.featherless.ai/v1", variables: []string{"FEATHERLESS_AI_API_KEY"}},
	"friendliai":        {kind: "openai", address: "https://api.friendli.ai/serverless/v1", variables: []string{"FRIENDLIAI_API_KEY", "FRIENDLI_TOKEN"}},
	"github":            {kind: "openai", address: "https://models.inference.ai.azure.com", variables: []string{"GITHUB_API_KEY"}},
	"huggingface":       {kind: "openai", address: "https://router.huggingface.co/v1", variables: []string{"HUGGINGFACE_API_KEY"}},
	"novita":            {kind: "openai", address: "https://api.novita.ai/v3/openai", variables: []string{"NOVITA_API_KEY"}},
	"vercel_ai_gateway": {kind: "openai", address: "https://ai-gateway.vercel.sh/v1", variables: []string{"VERCEL_AI_GATEWAY_API_KEY"}},
	"minimax":           {kind: "openai", address: "https://api.minimax.io/v1", variables: []string{"MINIMAX_API_KEY"}},
	"jina_ai":           {kind: "openai", address: "https://api.jina.ai/v1", variables: []string{"JINA_AI_API_KEY"}},
	"voyage":            {kind: "openai", address: "https://api.voyageai.com/v1", variables: []string{"VOYAGE_API_KEY"}},
	"cohere": {kind: "openai", address: "https://api.cohere.ai/compatibility/v1", variables: []string{"COHERE_API_KEY"},
		why: "it is reached by Cohere's OpenAI-compatible API, which has chat and embeddings only"},
	"cohere_chat": {kind: "openai", address: "https://api.cohere.ai/compatibility/v1", variables: []string{"COHERE_API_KEY"},
		why: "it is reached by Cohere's OpenAI-compatible API, which has chat and embeddings only"},

	"bedrock":        {why: "llm_proxy does not sign requests for AWS; put a gateway with OpenAI's API before Bedrock, and write it as an upstream of the kind openai"},
	"sagemaker":      {why: "llm_proxy does not sign requests for AWS"},
	"sagemaker_chat": {why: "llm_proxy does not sign requests for AWS"},
	"vertex_ai":      {why: "llm_proxy does not sign requests for Google Cloud; the kind gemini reaches the same models with a key of Google AI Studio"},
	"vertex_ai_beta": {why: "llm_proxy does not sign requests for Google Cloud; the kind gemini reaches the same models with a key of Google AI Studio"},
	"palm":           {why: "the service has ended"},
	"watsonx":        {why: "llm_proxy does not have this API"},
	"replicate":      {why: "llm_proxy does not have this API"},
	"snowflake":      {why: "llm_proxy does not have this API"},
	"cloudflare":     {why: "llm_proxy does not have this API; Cloudflare also has OpenAI's, for which the kind is openai"},
	"oobabooga":      {why: "llm_proxy does not have this API; the server also has OpenAI's, for which the kind is openai"},
	"triton":         {why: "llm_proxy does not have this API"},
	"petals":         {why: "llm_proxy does not have this API"},
	"nlp_cloud":      {why: "llm_proxy does not have this API"},
	"aleph_alpha":    {why: "llm_proxy does not have this API"},
	"baseten":        {why: "llm_proxy does not have this API"},
	"predibase":      {why: "llm_proxy does not have this API"},
	"assemblyai":     {why: "llm_proxy does not have this API"},
	"deepgram":       {why: "llm_proxy does not have this API"},
	"elevenlabs":     {why: "llm_proxy does not have this API"},
	"recraft":        {why: "llm_proxy does not have this API"},
	"topaz":          {why: "llm_proxy does not have this API"},
	"github_copilot": {why: "llm_proxy does not log in for its users"},
	"custom":         {why: "llm_proxy runs no code of yours"},
	"auto_router":    {why: "write routes with matchers instead"},
}

// guessed are the beginnings of names by which LiteLLM knows a model without a prefix.
var guessed = []struct{ prefix, service string }{
	{"gpt-", "openai"}, {"chatgpt-", "openai"}, {"o1", "openai"}, {"o3", "openai"}, {"o4", "openai"}, {"codex-", "openai"}, {"computer-use-", "openai"}, {"ft:gpt-", "openai"},
	{"text-embedding-3", "openai"}, {"text-embedding-ada", "openai"}, {"text-moderation-", "openai"}, {"omni-moderation-", "openai"}, {"dall-e-", "openai"}, {"whisper-", "openai"},
	{"tts-", "openai"}, {"davinci-", "openai"}, {"babbage-", "openai"}, {"claude-", "anthropic"}, {"command-", "cohere"}, {"gemini-", "vertex_ai"}, {"mistral-embed", "mistral"},
}

// byHost are the services of addresses by which LiteLLM knows a model without a prefix.
var byHost = map[string]string{
	"api.perplexity.ai": "perplexity", "api.deepinfra.com": "deepinfra", "api.mistral.ai": "mistral", "codestral.mistral.ai": "codestral", "api.groq.com": "groq",
	"integrate.api.nvidia.com": "nvidia_nim", "api.deepseek.com": "deepseek", "api.together.xyz": "together_ai", "api.x.ai": "xai", "api.cerebras.ai": "cerebras",
	"openrouter.ai": "openrouter", "api.fireworks.ai": "fireworks_ai", "api.sambanova.ai": "sambanova", "api.llama.com": "meta_llama", "api.moonshot.ai": "moonshot",
}

// serviceOf returns the prefix of a model's service and the model's name there. The prefix is empty if LiteLLM could not tell the service either.
func serviceOf(model, provider, base string) (prefix, name string) {
	before, after, slash := strings.Cut(model, "/")
	if provider != "" {
		if before == provider && slash {
			return provider, after
		}
		return provider, model
	}
	if _, known := hosted[before]; known && slash {
		return before, after
	}
	if u, err := url.Parse(base); err == nil && byHost[u.Hostname()] != "" {
		return byHost[u.Hostname()], model
	}
	if model == "*" {
		return "openai", model
	}
	for _, g := range guessed {
		if strings.HasPrefix(model, g.prefix) {
			return g.service, model
		}
	}
	return "", model
}

// addressFor returns a base URL of LiteLLM as the address of an upstream, and what is different there.
func (s service) addressFor(base string) (address, different string) {
	if base == "" || strings.HasPrefix(base, "{env.") {
		return base, ""
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return base, ""
	}
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		u.RawQuery, u.Fragment, u.User = "", "", nil
		different = "the query, the fragment or the password in the address is left out"
	}
	path := strings.TrimRight(u.Path, "/")
	for _, endpoint := range []string{"/chat/completions", "/completions", "/embeddings", "/messages", "/responses", "/rerank", "/audio/transcriptions", "/audio/speech", "/images/generations"} {
		path = strings.TrimSuffix(path, endpoint)
	}
	switch s.kind {
	case "azure":
		for _, api := range []string{"/openai", "/models", "/anthropic"} {
			path, _, _ = strings.Cut(path, api)
		}
	case "ollama":
		path = strings.TrimSuffix(strings.TrimSuffix(path, "/api"), "/v1")
	case "anthropic":
		if path != "" && !strings.HasSuffix(path, "/v1") {
			path += "/v1" // LiteLLM appends /v1/messages
		}
	case "openai":
		if path == "" && different == "" && !isService(u.Hostname()) {
			different = "LiteLLM asks this address without `/v1`; llm_proxy asks it below `/v1`, which an address without a path stands for"
		}
	}
	u.Path, u.RawPath = path, ""
	return u.String(), different
}

// isService reports whether a host is that of a service whose base URL llm_proxy knows.
func isService(host string) bool {
	base, err := upstream.OpenAI.ParseAddress(host)
	return err == nil && base.Scheme == "https"
}
