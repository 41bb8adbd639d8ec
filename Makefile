# The targets are explained in CONTRIBUTING.md.
# These are the flags of xcaddy, so that all builds and tests share one cache: a cold build of Caddy takes minutes.
TAGS := nobadger,nomysql,nopgx
export GOFLAGS := -buildvcs=false -trimpath -tags=$(TAGS)
export CGO_ENABLED := 0

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
CONFIG := $(firstword $(wildcard Caddyfile) Caddyfile.example)
# A count, because a fuzz run that ends by time may fail with "context deadline exceeded" (golang/go#75804).
FUZZTIME ?= 300000x

.PHONY: help run build test race redis soak simulate e2e monitoring bench bench-peers fuzz golden check deployment release-dry

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "%-11s %s\n", $$1, $$2}' Makefile

run: build ## serve http://localhost:8080 with Caddyfile, or else with Caddyfile.example
	bin/caddy run --adapter caddyfile --config $(CONFIG)

build: ## build bin/caddy: Caddy with this plugin
	go build -ldflags '-w -s' -o bin/caddy ./llmproxy/cmd/caddy

test: ## run the tests
	go test ./...

race: ## run the tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race ./...

e2e: ## test against a real Ollama, a real llama.cpp, the official SDKs, Claude Code and Codex, which it installs
	XCADDY_OUT=bin/caddy-xcaddy ./xcaddy.sh
	e2e/install.sh
	cd e2e && CADDY=../bin/caddy-xcaddy go test -count=1 -timeout 20m ./...

monitoring: ## evaluate the dashboard and the alerts of examples/monitoring with a real Prometheus (needs prometheus and promtool)
	go vet -tags=$(TAGS),prometheus ./llmproxy
	go test -tags=$(TAGS),prometheus -count=1 -run Monitoring ./llmproxy

soak: ## for a minute, send requests to an upstream that keeps failing and coming back
	go test -count 1 -run TestFlappingUpstream -v ./llmproxy/internal/gateway -soak 60s

simulate: ## print how long requests wait in the admission queue, against simpler ones, and draw docs/queue.svg
	go test -count 1 -timeout 1h -run TestSimulation -v ./router/admission -simulate 20000 -picture $(CURDIR)/docs/queue.svg

redis: ## run the tests of shared state with the race detector (needs redis-server and valkey-server)
	for p in $$(grep -rl --include='*_test.go' '^//go:build redis' . | xargs -n1 dirname | sort -u); do \
	  go vet -tags=$(TAGS),redis $$p && CGO_ENABLED=1 go test -race -tags=$(TAGS),redis -count=1 $$p || exit 1; \
	done

bench: build ## compare with reverse_proxy (15 min); a part of it: make bench BENCH='-short -scenario ^1k-16'
	go build -o bin/fakellm ./llmproxy/internal/fakellm/cmd/fakellm
	go run ./bench $(BENCH)

bench-peers: build ## compare with other gateways, which it installs and removes, and write the table of docs/performance.md (20 min)
	go build -o bin/fakellm ./llmproxy/internal/fakellm/cmd/fakellm
	bench/peers/peers.sh

fuzz: ## fuzz every parser of untrusted input, FUZZTIME each
	@for p in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
	    go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
	  done; \
	done

golden: ## rewrite the golden files and docs/json.md; read the diff before you commit it
	go test ./llmproxy -run 'Adapt|JSONReference' -update

check: ## check formatting, vet, staticcheck, go.mod
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	go vet ./...
	go mod tidy -diff
	go run $(STATICCHECK) ./...
	cd e2e && go vet ./... && go run $(STATICCHECK) ./...

deployment: ## lint the Dockerfile, compose files, workflows, Kubernetes manifest and systemd unit (needs Python and systemd-analyze)
	.ci/deployment

release-dry: ## build everything of a release that needs no secrets into dist/ (20 min; PLATFORMS=linux/amd64 for one platform)
	./release.sh Unreleased
