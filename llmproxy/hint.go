package llmproxy

import (
	"fmt"
	"slices"
	"strings"
)

// otherNames are what other programs call a subdirective.
var otherNames = map[string]string{
	"addr": "upstream", "address": "upstream", "alias": "model", "allow": "models", "allowed_models": "models", "api_base": "upstream",
	"api_keys": "key", "apikey": "api_key", "auth": "require_key", "authorization": "api_key", "backend": "upstream", "balance": "lb_policy",
	"base_url": "upstream", "bearer": "api_key", "body_limit": "max_body", "concurrency": "max_concurrent", "connect_timeout": "dial_timeout",
	"context_length": "context", "context_window": "context", "cost": "price", "cost_limit": "budget", "endpoint": "upstream", "expiry": "expires",
	"header": "header_up", "headers": "header_up", "health_check": "health", "health_path": "health", "host": "upstream", "lb": "lb_policy",
	"load_balance": "lb_policy", "max_budget": "budget", "max_parallel": "max_concurrent", "max_parallel_requests": "concurrent",
	"max_request_body": "max_body", "num_ctx": "context", "num_parallel": "max_concurrent", "parallel": "max_concurrent", "policy": "lb_policy",
	"pricing": "price", "provider": "upstream", "read_timeout": "idle_timeout", "redis": "state", "request_body": "max_body",
	"request_timeout": "timeout", "routes": "route", "rpm": "rate", "server": "upstream", "size": "max_size", "slots": "max_concurrent",
	"strategy": "lb_policy", "stream_timeout": "idle_timeout", "target": "to", "targets": "to", "token": "api_key", "tpm": "tokens",
	"ttft": "first_token_timeout", "url": "upstream", "valid_until": "expires", "weights": "weight",
}

// elsewhere are what belongs to another part of Caddy, or to no part.
var elsewhere = map[string]string{
	"log": "it is a directive of the site, outside of llm_proxy", "tls": "it is a directive of the site, outside of llm_proxy",
	"encode": "it is a directive of the site, outside of llm_proxy", "header_down": "use the directive header of the site",
	"metrics": "it is a global option of Caddy, and a directive of a site; see the page on metrics",
	"retries": "the number of attempts is fixed; see the page on failover", "max_retries": "the number of attempts is fixed; see the page on failover",
	"health_uri": "servers are probed as their kind requires, without configuration", "handle": "it is a directive of the site, outside of llm_proxy",
	"//": "a comment begins with #", "{": "write the brace at the end of the line before",
}

// subdirectiveNames has the names of the subdirectives of each block. It is set once, by registerDirective: the parsers that
// return its errors are themselves in the tables that it is made from.
var subdirectiveNames map[string][]string

// blockOrder is the order in which blocks are searched for a name that is not known in its own.
var blockOrder = []string{"llm_proxy", "upstream", "model", "key", "cache", "limit", "state", "route"}

// adviceOn returns what to write instead of an unknown subdirective of a block.
func adviceOn(block, name string, known []string, matchers bool) string {
	if block == "upstream" && strings.HasPrefix(name, "tls") {
		return "write it in a block `transport http`"
	}
	if advice, ok := elsewhere[name]; ok {
		return advice
	}
	if strings.HasPrefix(name, "//") {
		return elsewhere["//"]
	}
	if strings.HasPrefix(name, "@") {
		return "a matcher is defined in the block of llm_proxy or of a model"
	}
	bare, _, _ := strings.Cut(name, "=")
	bare = strings.ReplaceAll(strings.ToLower(strings.TrimRight(bare, ":,;{")), "-", "_")
	if slices.Contains(known, bare) {
		switch {
		case strings.HasSuffix(name, "{"):
			return "write a space before {"
		case strings.ContainsAny(name, "=:,;"):
			return fmt.Sprintf("write %s and its value with a space between them", bare)
		}
		return fmt.Sprintf("did you mean %s?", bare)
	}
	usual := bare
	if other, ok := otherNames[bare]; ok {
		usual = other
	}
	switch {
	case slices.Contains(known, usual):
		return fmt.Sprintf("did you mean %s?", usual)
	case usual == "upstream":
		return "write the address on the line of the upstream, such as upstream gpu ollama http://127.0.0.1:11434"
	}
	if near := nearest(bare, known); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	for _, block := range blockOrder {
		if slices.Contains(subdirectiveNames[block], usual) {
			return fmt.Sprintf("%s belongs in %s", usual, blockTitle(block))
		}
	}
	expected := "use " + strings.Join(known, ", ")
	if matchers {
		expected += ", or a matcher such as @hard"
	}
	return expected
}

func blockTitle(block string) string {
	switch block {
	case "llm_proxy":
		return "the block of llm_proxy itself"
	case "key":
		return "the block of a key or user"
	case "upstream":
		return "the block of an upstream"
	}
	return "the block of a " + block
}

// nearest returns the name that differs from a misspelled word by the fewest letters, or "" if none is near.
func nearest(word string, names []string) (best string) {
	least := 2 // for short words
	if len(word) > 4 {
		least = 3
	}
	for _, name := range names {
		if d := editDistance(word, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// nearestEndpoint returns the endpoint that was meant by a misspelled name, or by a path such as /v1/chat/completions, or "".
func nearestEndpoint(name string, known []string) string {
	bare := strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(name), "/"), "v1/")
	if near := nearest(bare, known); near != "" {
		return near
	}
	if strings.HasPrefix(bare, "chat") {
		return "chat"
	}
	return ""
}

// editDistance returns how many letters must be inserted, deleted, replaced or exchanged with the next one to turn a into b.
func editDistance(a, b string) int {
	var before, above []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, above, row = above, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			changed := above[j]
			if a[i] != b[j] {
				changed++
			}
			row[j+1] = min(changed, above[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// adviceOnModel says what could be written instead of a name or pattern that no model has.
func adviceOnModel(name string, models []*Model) string {
	var names []string
	for _, m := range models {
		names = append(names, m.Name)
	}
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "the models are " + strings.Join(names, ", ")
}
