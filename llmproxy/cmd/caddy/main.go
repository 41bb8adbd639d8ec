// Command caddy is Caddy with its standard modules and this plugin, for those who want a binary without xcaddy.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-llmproxy/caddy-llmproxy"
)

func main() { caddycmd.Main() }
