package telemetry

import (
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
)

// Placeholders answers {llm.*} from the record.
func Placeholders(rec *exchange.Record) func(string) (any, bool) {
	return func(key string) (any, bool) {
		name, ours := strings.CutPrefix(key, "llm.")
		if !ours {
			return nil, false
		}
		switch name {
		case "request_id":
			return rec.ID, true
		case "key":
			return rec.Key, true
		case "priority":
			return rec.Priority.String(), true
		case "endpoint":
			return rec.Endpoint, true
		case "model":
			return rec.Model, true
		case "stream":
			return rec.Stream, true
		case "target":
			return rec.Target, true
		case "upstream":
			u, _, _ := strings.Cut(rec.Target, "/")
			return u, true
		case "route":
			return rec.Route, true
		case "attempts":
			return len(rec.Attempts), true
		case "cache":
			return rec.Cache, true
		case "status":
			return rec.Status, true
		case "verdict":
			return rec.Verdict.String(), true
		case "cost_usd":
			return rec.Cost, true
		case "queue_ms":
			return rec.Queue.Milliseconds(), true
		case "ttft_ms":
			return rec.FirstContent.Milliseconds(), true
		case "duration_ms":
			return rec.Duration.Milliseconds(), true
		}
		if tokens, ok := strings.CutPrefix(name, "tokens."); ok {
			return tokenCount(rec, tokens)
		}
		if value, ok := signal(rec, name); ok {
			return value, true
		}
		return errorPart(rec, name)
	}
}

func tokenCount(rec *exchange.Record, name string) (any, bool) {
	switch name {
	case "input":
		return rec.Usage.Input, true
	case "output":
		return rec.Usage.Output, true
	case "cached":
		return rec.Usage.Cached, true
	case "reasoning":
		return rec.Usage.Reasoning, true
	}
	return nil, false
}

// signal is what the request says of itself. These are there for the matchers of rules already.
func signal(rec *exchange.Record, name string) (any, bool) {
	switch name {
	case "prompt_tokens":
		return rec.Signals().PromptTokens, true
	case "messages":
		return rec.Signals().Messages, true
	case "tools":
		return rec.Signals().Tools, true
	case "images":
		return rec.Signals().Images, true
	case "audio":
		return rec.Signals().Audio, true
	case "files":
		return rec.Signals().Files, true
	case "json_schema":
		return rec.Signals().JSONSchema, true
	case "max_tokens":
		return rec.Signals().MaxTokens, true
	case "content":
		return rec.Signals().Content(), true
	case "shadow":
		return rec.Shadow, true
	case "local_only":
		return rec.LocalOnly, true
	case "warning":
		return rec.Warning, true
	}
	return nil, false
}

func errorPart(rec *exchange.Record, name string) (any, bool) {
	part, ok := strings.CutPrefix(name, "error.")
	if !ok {
		return nil, false
	}
	if rec.Err == nil {
		return "", part == "code" || part == "type" || part == "message"
	}
	switch part {
	case "code":
		return rec.Err.Code, true
	case "type":
		return rec.Err.Type, true
	case "message":
		return rec.Err.Message, true
	}
	return nil, false
}
