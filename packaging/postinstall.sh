#!/bin/sh
# After the installation of the Debian or RPM package: the user caddy, and the service. An update restarts the service.
set -e

if ! getent group caddy >/dev/null; then
	groupadd --system caddy
fi
if ! getent passwd caddy >/dev/null; then
	useradd --system --gid caddy --home-dir /var/lib/caddy --shell /usr/sbin/nologin --comment "Caddy web server" caddy
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	if systemctl is-active --quiet caddy; then
		systemctl restart caddy
	else
		echo "Edit /etc/caddy/Caddyfile, then: systemctl enable --now caddy"
	fi
fi
