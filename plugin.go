// Package plugin registers the Caddy module http.handlers.llm_proxy, so that this is all a user types:
//
//	xcaddy build --with github.com/caddy-llmproxy/caddy-llmproxy
//
// It decides nothing; the module is in package llmproxy.
package plugin

import _ "github.com/caddy-llmproxy/caddy-llmproxy/llmproxy" // registers the module
