#!/usr/bin/env bash
# Installs what the end-to-end tests need into a cache outside the repository, unless it is there already: Ollama, llama.cpp's
# server, the official SDKs of OpenAI, Anthropic and Ollama for Python and Node, Claude Code, Codex, guidellm, axe, and the test models. Chromium is a package of Debian. The tests find everything under $cache/current.
# Whatever cannot be installed is an error; nothing is skipped.
set -euo pipefail
cd "$(dirname "$0")"

ollama_version=v0.11.4 # the last version whose own CPU engine builds from the Go module alone
claude_code_version=2.1.332
codex_version=0.171.0
axe_version=4.14.1
cache=${LLMPROXY_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/caddy-llmproxy-e2e}

main() {
	../.ci/packages
	mkdir -p "$cache"
	cache=$(cd "$cache" && pwd)
	exec 9>"$cache/lock"
	flock 9 # two concurrent runs would build into the same directories

	# The slowest one first, in parallel with the others.
	provide ollama "$ollama_version" build_ollama 9>&- &
	local ollama=$!
	provide python "$(fingerprint sdk/requirements.txt "$(python3 -VV)")" install_python
	provide node "$(fingerprint sdk/package.json)" install_node
	provide claude-code "$claude_code_version" install_claude_code
	provide codex "$codex_version" install_codex
	provide axe "$axe_version" install_axe
	provide guidellm "$(fingerprint guidellm/requirements.txt "$(python3 -VV)")" install_guidellm
	wait "$ollama"
	provide models "$(fingerprint testmodel/* "$ollama_version")" make_models
}

fingerprint() { # of files and other strings
	local arg
	for arg; do if [[ -f $arg ]]; then cat "$arg"; else echo "$arg"; fi; done | sha256sum | cut -c1-12
}

# provide NAME VERSION COMMAND makes that version the current one. If it is not complete, it runs COMMAND DIR to install it.
provide() {
	local name=$1 dir=$cache/$1-$2 started=$SECONDS
	if [[ ! -e $dir/.complete ]]; then
		rm -rf "$dir"
		mkdir -p "$dir"
		echo "e2e: installing $name into $dir"
		"$3" "$dir"
		touch "$dir/.complete"
		echo "e2e: $name took $((SECONDS - started)) s"
	fi
	mkdir -p "$cache/current"
	ln -sfn "$dir" "$cache/current/$name"
}

build_ollama() {
	# The engine is C++: it must not get the flags that Caddy is built with.
	env -C / GOFLAGS= CGO_ENABLED=1 GOBIN="$1" nice go install "github.com/ollama/ollama@$ollama_version"
	"$1/ollama" --version >/dev/null
}

install_python() {
	python3 -m venv "$1"
	"$1/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r sdk/requirements.txt
	"$1/bin/python" -c 'import agents, anthropic, httpx, langchain_ollama, ollama, openai, xllamacpp; xllamacpp.Server'
}

# install_node installs the SDKs, and the Node that runs them: OpenAI's needs a newer one than Debian has.
install_node() {
	cp sdk/package.json "$1"
	npm install --prefix "$1" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
	ln -s "$(find "$1/node_modules" -path '*/node-linux-*/bin/node' -type f)" "$1/node"
	NODE_PATH=$1/node_modules "$1/node" -e 'require("openai"); require("openai/helpers/zod"); require("@anthropic-ai/sdk"); require("ollama")'
}

# install_claude_code installs the program for this platform, which npm chooses among the optional dependencies. It needs no Node.
install_claude_code() {
	npm install --prefix "$1" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error "@anthropic-ai/claude-code@$claude_code_version"
	ln -s "$(find "$1/node_modules/@anthropic-ai" -path '*/claude-code-*/claude' -type f)" "$1/claude"
	[[ $(HOME=$1 "$1/claude" --version) == "$claude_code_version "* ]]
}

# install_codex installs the program for this platform, as above.
install_codex() {
	npm install --prefix "$1" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error "@openai/codex@$codex_version"
	ln -s "$(find "$1/node_modules/@openai" -path '*/vendor/*/bin/codex' -type f)" "$1/codex"
	[[ $(HOME=$1 "$1/codex" --version) == "codex-cli $codex_version" ]]
}

# install_guidellm takes a minute and downloads 130 MB, most of it for its libraries for data sets and tokenizers.
install_guidellm() {
	python3 -m venv "$1"
	"$1/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-deps -r guidellm/requirements.txt
	HF_HUB_OFFLINE=1 "$1/bin/guidellm" --help >/dev/null
}

# install_axe installs the checks of accessibility, which run inside the page.
install_axe() {
	npm install --prefix "$1" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error "axe-core@$axe_version"
	ln -s node_modules/axe-core/axe.min.js "$1/axe.min.js"
	[[ -s $1/axe.min.js ]]
}

# make_models writes the model files and imports them into Ollama, one of them also under a name with a slash.
make_models() {
	cp testmodel/* "$1"
	(
		cd "$1"
		python3 mktiny.py llama tiny.gguf
		python3 mktiny.py llama tiny-long.gguf --ctx 32768 --name tiny-long
		python3 mktiny.py llama tiny-codex.gguf --ctx 32768 --name tiny-codex --codex
		python3 mktiny.py llama slow.gguf --layers 8 --ffn 16384 --name slow
		python3 mktiny.py bert tiny-embed.gguf --name tiny-embed
		import_into_ollama "$1"
	)
}

import_into_ollama() (
	ollama=$cache/current/ollama/ollama
	free_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	export HOME=$1/home OLLAMA_MODELS=$1/ollama OLLAMA_NOPRUNE=1 OLLAMA_HOST=127.0.0.1:$free_port
	mkdir "$HOME"
	exec 3>&2 >import.log 2>&1
	"$ollama" serve 9>&- &
	trap '(($? == 0)) || cat import.log >&3; kill %1' EXIT
	curl --silent --fail --retry 50 --retry-delay 1 --retry-all-errors --output /dev/null "http://$OLLAMA_HOST/api/version"
	"$ollama" create tiny -f Modelfile.tiny-gotemplate
	"$ollama" create slow -f Modelfile.slow
	"$ollama" create tiny-embed -f Modelfile.tiny-embed
	"$ollama" cp tiny team/tiny:v1
)

main
