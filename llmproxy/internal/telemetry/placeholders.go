package telemetry

import (
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// Placeholders returns the values of the placeholders {llm.*}, which read the record when they are used.
func Placeholders(rec *exchange.Record) func(key string) (any, bool) {
	return func(key string) (any, bool) {
		name, ok := strings.CutPrefix(key, "llm.")
		if !ok {
			return nil, false
		}
		if value, ok := recordPlaceholders[name]; ok {
			return value(rec), true
		}
		if value, ok := requestPlaceholders[name]; ok {
			return value(rec.Signals()), true
		}
		return nil, false
	}
}

// recordPlaceholders are known at the end of a request, some of them earlier.
var recordPlaceholders = map[string]func(*exchange.Record) any{
	"request_id":       func(r *exchange.Record) any { return r.ID },
	"key":              func(r *exchange.Record) any { return r.Key },
	"priority":         func(r *exchange.Record) any { return r.Priority.String() },
	"endpoint":         func(r *exchange.Record) any { return r.Endpoint },
	"model":            func(r *exchange.Record) any { return r.Model },
	"stream":           func(r *exchange.Record) any { return r.Stream },
	"target":           func(r *exchange.Record) any { return r.Target },
	"upstream":         func(r *exchange.Record) any { u, _, _ := strings.Cut(r.Target, "/"); return u },
	"route":            func(r *exchange.Record) any { return r.Route },
	"shadow":           func(r *exchange.Record) any { return r.Shadow },
	"local_only":       func(r *exchange.Record) any { return r.LocalOnly },
	"attempts":         func(r *exchange.Record) any { return len(r.Attempts) },
	"cache":            func(r *exchange.Record) any { return r.Cache },
	"status":           func(r *exchange.Record) any { return r.Status },
	"verdict":          func(r *exchange.Record) any { return r.Verdict.String() },
	"warning":          func(r *exchange.Record) any { return r.Warning },
	"tokens.input":     func(r *exchange.Record) any { return r.Usage.Input },
	"tokens.output":    func(r *exchange.Record) any { return r.Usage.Output },
	"tokens.cached":    func(r *exchange.Record) any { return r.Usage.Cached },
	"tokens.reasoning": func(r *exchange.Record) any { return r.Usage.Reasoning },
	"cost_usd":         func(r *exchange.Record) any { return r.Cost },
	"queue_ms":         func(r *exchange.Record) any { return r.Queue.Milliseconds() },
	"ttft_ms":          func(r *exchange.Record) any { return r.FirstContent.Milliseconds() },
	"duration_ms":      func(r *exchange.Record) any { return r.Duration.Milliseconds() },
	"error.code":       func(r *exchange.Record) any { return clientError(r).Code },
	"error.type":       func(r *exchange.Record) any { return clientError(r).Type },
	"error.message":    func(r *exchange.Record) any { return clientError(r).Message },
}

// requestPlaceholders are known once the body has been read. The matchers of routes can use them.
var requestPlaceholders = map[string]func(*openai.Signals) any{
	"prompt_tokens": func(s *openai.Signals) any { return s.PromptTokens },
	"messages":      func(s *openai.Signals) any { return s.Messages },
	"tools":         func(s *openai.Signals) any { return s.Tools },
	"images":        func(s *openai.Signals) any { return s.Images },
	"audio":         func(s *openai.Signals) any { return s.Audio },
	"files":         func(s *openai.Signals) any { return s.Files },
	"json_schema":   func(s *openai.Signals) any { return s.JSONSchema },
	"max_tokens":    func(s *openai.Signals) any { return s.MaxTokens },
	"content":       func(s *openai.Signals) any { return s.Content() },
}

// clientError returns the error that the client got, if any.
func clientError(rec *exchange.Record) openai.Error {
	if rec.Err == nil {
		return openai.Error{}
	}
	return *rec.Err
}
