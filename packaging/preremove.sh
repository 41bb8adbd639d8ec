#!/bin/sh
# Before the removal of the Debian or RPM package. An update (dpkg: "upgrade", RPM: 1 package is left) keeps the service running.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now caddy
	fi
	;;
esac
