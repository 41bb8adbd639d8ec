module github.com/caddy-llmproxy/caddy-llmproxy/e2e

go 1.26
