#!/usr/bin/env bash
# Compares llm_proxy with other gateways. Without arguments, it installs them into a temporary directory, measures, writes the table
# of docs/performance.md and removes the directory. PEERS=DIR keeps the gateways in DIR instead. `make bench-peers` builds what it needs.
#
#     peers.sh install DIR                     # installs what can be installed, and says what cannot
#     peers.sh list DIR                        # prints the name and version of each that is installed
#     peers.sh run DIR NAME ADDRESS UPSTREAM   # becomes the gateway
#
# Versions: nginx is that of Debian or of this machine; the others are in litellm.txt and portkey.json.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")

compare() {
	local dir=${PEERS:-}
	if [[ -z $dir ]]; then
		dir=$(mktemp -d)
		trap "rm -rf '$dir'" EXIT # it runs after the function, when dir is gone
	fi
	install "$dir"
	cd "$here/../.."
	go run ./bench -peers "$dir" -page docs/performance.md -o bin/bench-peers.json -passes 3 "$@"
}

install() { # DIR
	local name
	mkdir -p "$1"
	for name in nginx portkey litellm; do
		[[ -e $1/$name/.complete ]] && continue
		rm -rf "${1:?}/$name"
		mkdir "$1/$name"
		if "install_$name" "$1/$name" >"$1/$name.log" 2>&1; then
			touch "$1/$name/.complete"
			echo "installed $name"
		else
			rm -rf "${1:?}/$name"
			echo "could not install $name, so it is not compared: $(tail -n 1 "$1/$name.log")"
		fi
	done
}

# install_nginx takes the machine's nginx. Otherwise it unpacks Debian's, without installing it.
install_nginx() {
	if command -v nginx; then
		ln -s "$(command -v nginx)" "$1/nginx"
		return
	fi
	if ! command -v apt-get; then
		echo "install nginx and run this again; without Debian, it cannot be installed from here"
		return 1
	fi
	(cd "$1" && apt-get download nginx && dpkg -x nginx_*.deb . && ln -s usr/sbin/nginx nginx) &&
		"$1/nginx" -v
}

install_portkey() {
	command -v node npm || { echo "install Node.js and npm and run this again"; return 1; }
	cp "$here/portkey.json" "$1/package.json"
	npm install --prefix "$1" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
}

install_litellm() {
	python3 -m venv "$1" || { echo "install Python with venv (Debian: python3-venv) and run this again"; return 1; }
	"$1/bin/pip" install --disable-pip-version-check --only-binary :all: -r "$here/litellm.txt" &&
		"$1/bin/python" -c 'import litellm.proxy.proxy_server'
}

list() { # DIR
	[[ ! -e $1/nginx/.complete ]] || echo "nginx $("$1/nginx/nginx" -v 2>&1 | sed 's|.*/||; s| .*||')"
	[[ ! -e $1/portkey/.complete ]] || echo "Portkey $(sed -n 's/.*"@portkey-ai\/gateway": "\(.*\)".*/\1/p' "$here/portkey.json")"
	[[ ! -e $1/litellm/.complete ]] || echo "LiteLLM $(sed -n 's/^litellm==//p' "$here/litellm.txt")"
}

run() { # DIR NAME ADDRESS UPSTREAM
	local dir=$1/${2,,} port=${3##*:} work
	work=$(mktemp -d)
	case $2 in
	nginx)
		# As for a server that streams: no buffering of answers, connections to the upstream stay open.
		cat >"$work/nginx.conf" <<-EOF
			daemon off;
			worker_processes auto;
			pid $work/pid;
			error_log stderr;
			events { worker_connections 8192; }
			http {
				access_log off;
				client_max_body_size 64m;
				client_body_buffer_size 1m;
				client_body_temp_path $work/body;
				proxy_temp_path $work/proxy;
				fastcgi_temp_path $work/fastcgi;
				uwsgi_temp_path $work/uwsgi;
				scgi_temp_path $work/scgi;
				keepalive_requests 1000000000;
				upstream model {
					server $4;
					keepalive 512;
					keepalive_requests 1000000000;
				}
				server {
					listen $3;
					location / {
						proxy_pass http://model;
						proxy_http_version 1.1;
						proxy_set_header Connection "";
						proxy_set_header Host \$host;
						proxy_buffering off;
					}
				}
			}
		EOF
		exec "$dir/nginx" -p "$work" -e stderr -c "$work/nginx.conf"
		;;
	Portkey)
		# The request names the upstream, in X-Portkey-Custom-Host. Addresses of this machine are allowed only if they are trusted.
		export NODE_ENV=production TRUSTED_CUSTOM_HOSTS=127.0.0.1,localhost
		exec node "$dir/node_modules/@portkey-ai/gateway/build/start-server.js" --headless --port="$port"
		;;
	LiteLLM)
		# As its documentation recommends for production. It needs a key, and has no database here.
		export LITELLM_MASTER_KEY=sk-bench LITELLM_LOG=ERROR LITELLM_LOCAL_MODEL_COST_MAP=True NO_DOCS=True
		cat >"$work/config.yaml" <<-EOF
			model_list:
			  - model_name: m
			    litellm_params: {model: openai/m, api_base: "http://$4/v1", api_key: none}
			litellm_settings: {set_verbose: false, telemetry: false}
		EOF
		exec "$dir/bin/litellm" --config "$work/config.yaml" --host 127.0.0.1 --port "$port" --num_workers 1
		;;
	*)
		echo "unknown gateway: $2" >&2
		exit 2
		;;
	esac
}

case ${1:-} in
install | list | run) "$@" ;;
*) compare "$@" ;;
esac
