#!/usr/bin/env bash
# Builds Caddy with this plugin as users do, with xcaddy, but from this clone. Both the version of Caddy and that of xcaddy are
# those in go.mod. A published version of the plugin needs no clone:
#     xcaddy build --with github.com/caddy-llmproxy/caddy-llmproxy
#
# CADDY_VERSION selects another Caddy, not older than go.mod's; XCADDY_OUT is the binary to write, bin/caddy by default.
set -euo pipefail
cd "$(dirname "$0")"

version=${CADDY_VERSION:-$(go list -m -f '{{.Version}}' github.com/caddyserver/caddy/v2)}
out=${XCADDY_OUT:-bin/caddy}
module=github.com/caddy-llmproxy/caddy-llmproxy

mkdir -p "$(dirname "$out")"
# The version @v0.0.0 keeps Go from looking for published versions of a module that is right here.
# xcaddy itself sets the flags of Caddy's releases; those of the Makefile would collide with them.
GOFLAGS=-buildvcs=false go tool xcaddy build "$version" --with "$module@v0.0.0=$PWD" --output "$out"
# Not in a pipe: grep -q stops reading at the first match, and Caddy would fail with a broken pipe.
grep -q '^http.handlers.llm_proxy$' <<<"$("$out" list-modules)"
echo "$out: $("$out" version | cut -d' ' -f1) with llm_proxy"
