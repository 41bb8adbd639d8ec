// Package llmproxy is the Caddy module http.handlers.llm_proxy: its configuration in JSON and Caddyfile, its life from
// Provision to Cleanup, and what it writes to Caddy's log and placeholders.
//
// It decides nothing about requests: gateway does, with the upstreams and models that are made here. It stands on the
// highest floor, and it and its commands are the only packages that import Caddy.
package llmproxy
