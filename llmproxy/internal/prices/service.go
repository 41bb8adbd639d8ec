package prices

import "strings"

// services are the hosts of hosted services, and what tables call these.
var services = map[string]string{
	"api.openai.com":                    "openai",
	"api.anthropic.com":                 "anthropic",
	"generativelanguage.googleapis.com": "gemini",
	"api.mistral.ai":                    "mistral",
	"codestral.mistral.ai":              "mistral",
	"api.deepseek.com":                  "deepseek",
	"api.groq.com":                      "groq",
	"api.x.ai":                          "xai",
	"api.together.xyz":                  "together_ai",
	"api.together.ai":                   "together_ai",
	"api.fireworks.ai":                  "fireworks_ai",
	"api.cerebras.ai":                   "cerebras",
	"api.perplexity.ai":                 "perplexity",
	"openrouter.ai":                     "openrouter",
}

// Service is the hosted service at a host, by the name that tables call it; empty if it is none that is known.
func Service(host string) string {
	if strings.HasSuffix(host, ".openai.azure.com") || strings.HasSuffix(host, ".services.ai.azure.com") {
		return "azure"
	}
	return services[host]
}
