# The gateway: Caddy with this plugin, built from this clone.
#
#     docker build -t llm-gateway .
#     docker run -p 8080:8080 llm-gateway
#
# It runs as the user 1000. Mount your own configuration at /etc/caddy/Caddyfile, and volumes at /data (certificates, keys, usage)
# and /config.
FROM --platform=$BUILDPLATFORM caddy:2.11-builder AS builder
COPY . /src
ARG TARGETOS TARGETARCH
# The builder's xcaddy also allows the binary to use the ports 80 and 443 without root.
RUN --mount=type=cache,target=/cache \
	GOMODCACHE=/cache/modules GOCACHE=/cache/build GOOS=$TARGETOS GOARCH=$TARGETARCH CGO_ENABLED=0 GOFLAGS=-buildvcs=false \
	xcaddy build --with github.com/caddy-llmproxy/caddy-llmproxy@v0.0.0=/src --output /usr/bin/caddy

FROM alpine:3.23
# The newest patches are wanted.
# hadolint ignore=DL3018
RUN apk add --no-cache ca-certificates mailcap \
	&& addgroup -S -g 1000 caddy \
	&& adduser -S -D -H -u 1000 -G caddy -h /data caddy \
	&& mkdir -p /config/caddy /data/caddy /etc/caddy \
	&& chown -R caddy:caddy /config /data
COPY --from=builder /usr/bin/caddy /usr/bin/caddy
COPY packaging/container/Caddyfile /etc/caddy/Caddyfile
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
# A site of your own Caddyfile must answer this, or choose another URL. An empty one turns the check off.
ENV HEALTH_URL=http://127.0.0.1:8080/health/live
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
	CMD ["sh", "-c", "test -z \"$HEALTH_URL\" || wget -q -O /dev/null \"$HEALTH_URL\""]
USER 1000:1000
WORKDIR /data
EXPOSE 80 443 443/udp 8080
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
