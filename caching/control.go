package caching

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Control is what a client says about the cache, in the words of HTTP (RFC 9111 §5.2.1).
type Control struct {
	NoStore      bool // neither look nor keep
	NoCache      bool // do not look, but keep
	OnlyIfCached bool // do not generate
	MaxAge       time.Duration
	HasMaxAge    bool
	TTL          time.Duration // how long to keep the answer
	HasTTL       bool
}

// ParseControl reads the values of Cache-Control, and of X-LLM-Cache-TTL (seconds, or a duration such as 10m). What
// Cache-Control says besides means nothing here; a TTL that cannot be read is an error.
func ParseControl(cacheControl []string, ttl string) (c Control, err error) {
	for _, line := range cacheControl {
		for directive := range strings.SplitSeq(line, ",") {
			c.directive(strings.ToLower(strings.TrimSpace(directive)))
		}
	}
	if ttl = strings.TrimSpace(ttl); ttl != "" {
		if c.TTL, err = parseTTL(ttl); err != nil {
			return c, err
		}
		c.HasTTL = true
	}
	return c, nil
}

func (c *Control) directive(d string) {
	switch d {
	case "no-store":
		c.NoStore = true
	case "no-cache":
		c.NoCache = true
	case "only-if-cached":
		c.OnlyIfCached = true
	}
	if text, ok := strings.CutPrefix(d, "max-age="); ok {
		seconds, err := strconv.ParseUint(strings.Trim(text, `"`), 10, 31)
		if err != nil {
			seconds = 0 // RFC 9111 §4.2.1: what cannot be read is stale
		}
		c.MaxAge, c.HasMaxAge = time.Duration(seconds)*time.Second, true
	}
}

const longestTTL = 10 * 365 * 24 * time.Hour

func parseTTL(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if seconds, atoi := strconv.ParseUint(text, 10, 31); atoi == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is neither a number of seconds nor a duration such as 10m", text)
	}
	return min(d, longestTTL), nil
}

// Looks tells whether an answer that was kept may be given at all.
func (c *Control) Looks() bool {
	return !c.NoStore && !c.NoCache && !(c.HasMaxAge && c.MaxAge == 0)
}

// Takes tells whether an answer of this age may be given.
func (c *Control) Takes(age time.Duration) bool {
	return c.Looks() && (!c.HasMaxAge || age <= c.MaxAge)
}

// Keep is how long to keep the answer: the usual time, unless the client says otherwise, at most the longest.
func (c *Control) Keep(usual, longest time.Duration) time.Duration {
	switch {
	case c.NoStore:
		return 0
	case c.HasTTL:
		return min(c.TTL, max(longest, usual))
	}
	return usual
}
