package caching

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Control is what a client asks of the cache in its headers: Cache-Control (RFC 9111 §5.2.1) and X-LLM-Cache-TTL.
type Control struct {
	NoStore      bool          // do not use a stored answer, and do not store the new one
	NoCache      bool          // do not use a stored answer, but store the new one
	OnlyIfCached bool          // do not ask an upstream
	MaxAge       time.Duration // the maximum age of a stored answer
	HasMaxAge    bool
	TTL          time.Duration // how long to store the answer
	HasTTL       bool
}

// ParseControl parses the values of Cache-Control, and of X-LLM-Cache-TTL, which is a number of seconds or a duration such
// as 10m. Unknown directives are ignored; an invalid TTL is an error.
func ParseControl(cacheControl []string, ttl string) (c Control, err error) {
	for _, line := range cacheControl {
		for directive := range strings.SplitSeq(line, ",") {
			c.apply(strings.ToLower(strings.TrimSpace(directive)))
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

func (c *Control) apply(directive string) {
	switch directive {
	case "no-store":
		c.NoStore = true
	case "no-cache":
		c.NoCache = true
	case "only-if-cached":
		c.OnlyIfCached = true
	}
	if text, ok := strings.CutPrefix(directive, "max-age="); ok {
		seconds, err := strconv.ParseUint(strings.Trim(text, `"`), 10, 31)
		if err != nil {
			seconds = 0 // RFC 9111 §4.2.1 encourages treating an invalid max-age as stale
		}
		c.MaxAge, c.HasMaxAge = time.Duration(seconds)*time.Second, true
	}
}

const maxTTL = 10 * 365 * 24 * time.Hour

func parseTTL(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if seconds, atoi := strconv.ParseUint(text, 10, 31); atoi == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("invalid value %q; use a number of seconds or a duration such as 10m", text)
	}
	return min(d, maxTTL), nil
}

// AllowsStored reports whether a stored answer may be used at all.
func (c *Control) AllowsStored() bool {
	return !c.NoStore && !c.NoCache && !(c.HasMaxAge && c.MaxAge == 0)
}

// AcceptsAge reports whether a stored answer of that age may be used.
func (c *Control) AcceptsAge(age time.Duration) bool {
	return c.AllowsStored() && (!c.HasMaxAge || age <= c.MaxAge)
}

// StoreFor returns how long to store the answer: the usual duration, or the one that the client asks for, up to longest. The
// answer is not stored if it is zero.
func (c *Control) StoreFor(usual, longest time.Duration) time.Duration {
	switch {
	case c.NoStore:
		return 0
	case c.HasTTL:
		return min(c.TTL, max(longest, usual))
	}
	return usual
}
