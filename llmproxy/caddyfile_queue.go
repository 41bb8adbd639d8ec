package llmproxy

import (
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// defaultPlaces is the size of a waiting room that nobody configured. Each place may hold a request's body in memory.
const defaultPlaces = 64

func (u *Upstream) parseMaxConcurrent(d *caddyfile.Dispenser) error {
	var text string
	if !d.AllArgs(&text) {
		return d.ArgErr()
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return d.Errf("max_concurrent: %q is not a whole number of at least 1", text)
	}
	u.MaxConcurrent = n
	return nil
}

func (u *Upstream) parseQueue(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.ArgErr()
	}
	places, err := strconv.Atoi(args[0])
	if err != nil || places < 0 {
		return d.Errf("queue: %q is not a number of places", args[0])
	}
	u.Queue = &Queue{Places: places}
	if len(args) == 1 {
		return nil
	}
	wait, err := caddy.ParseDuration(args[1])
	if err != nil || wait <= 0 {
		return d.Errf("queue: %q is not a duration such as 30s", args[1])
	}
	u.Queue.LongestWait = caddy.Duration(wait)
	return nil
}

func (u *Upstream) room() router.Room {
	if u.Queue == nil {
		return router.Room{Places: defaultPlaces}
	}
	return router.Room{Places: u.Queue.Places, Wait: time.Duration(u.Queue.LongestWait)}
}
