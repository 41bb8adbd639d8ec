#!/usr/bin/env bash
# Builds Caddy with this plugin as its users do, with xcaddy; here from this clone, with the xcaddy that go.mod pins.
#
# With a published version nothing of this clone is needed:
#     xcaddy build v2.11.9 --with github.com/caddy-llmproxy/caddy-llmproxy@v0.1.0
#
# CADDY_VERSION chooses another Caddy (2.11.7 or later), XCADDY_OUT another place for the binary.
set -euo pipefail
cd "$(dirname "$0")"

version=${CADDY_VERSION:-v2.11.9}
out=${XCADDY_OUT:-bin/caddy}
module=github.com/caddy-llmproxy/caddy-llmproxy

mkdir -p "$(dirname "$out")"
# The version @v0.0.0 keeps Go from asking for the published versions of a module that stands right here.
# xcaddy sets the flags of Caddy's own releases itself; those of the Makefile would only collide.
GOFLAGS=-buildvcs=false go tool xcaddy build "$version" --with "$module@v0.0.0=$PWD" --output "$out"
# Not by a pipe: grep -q stops reading at its match, and Caddy would die of that.
grep -q '^http.handlers.llm_proxy$' <<<"$("$out" list-modules)"
echo "$out: $("$out" version | cut -d' ' -f1) with llm_proxy"
