package check

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// leastVersion is the first version of Caddy that does not cut silent streams.
const leastVersion = "v2.11.7"

func (c *Config) checkVersion() []Finding {
	switch older, ok := olderThan(c.Version, leastVersion); {
	case !ok:
		return []Finding{{Note, "caddy-version", "Caddy", "", "The version of this Caddy is unknown.", "Make sure that it is " + leastVersion + " or newer: older ones cut streams that are silent for a minute."}}
	case older:
		return []Finding{{Error, "caddy-version", "Caddy " + c.Version, "", "This version cuts streams that are silent for a minute.", "Update Caddy to " + leastVersion + " or newer."}}
	}
	return nil
}

// olderThan compares two versions, such as v2.11.7. It returns false for one that cannot be read.
func olderThan(version, than string) (older, ok bool) {
	a, okA := versionNumbers(version)
	b, okB := versionNumbers(than)
	if !okA || !okB {
		return false, false
	}
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i], true
		}
	}
	return false, true
}

func versionNumbers(version string) (numbers [3]int, ok bool) {
	n, _ := fmt.Sscanf(version, "v%d.%d.%d", &numbers[0], &numbers[1], &numbers[2])
	return numbers, n == 3
}

// leastGrace is the shortest grace period that leaves most answers the time to end.
const leastGrace = 10 * time.Second

func (c *Config) checkGracePeriod() []Finding {
	const fix = "Write `grace_period 30s` in the global options, and let the supervisor wait longer."
	switch {
	case c.GracePeriod == 0:
		return []Finding{{Warning, "grace-period", "global options", "", "There is no grace_period: when Caddy is stopped, it waits for open streams, and does not end before the supervisor kills it.", fix}}
	case c.GracePeriod < leastGrace:
		return []Finding{{Warning, "grace-period", "global options", "", fmt.Sprintf("grace_period %s is short: answers that take longer are cut when Caddy is stopped.", short(c.GracePeriod)), fix}}
	}
	return nil
}

func (c *Config) checkAdmin() []Finding {
	if c.Admin == "" || !public(c.Admin) {
		return nil
	}
	return []Finding{{Error, "admin-address", "global options", "", fmt.Sprintf("The admin API listens on %s. Anyone who can reach it can change everything.", c.Admin),
		"Remove `admin`, so that it listens on localhost, or write `admin unix//run/caddy/admin.sock`."}}
}

// public reports whether other machines can reach an address to listen on.
func public(address string) bool {
	if network, rest, ok := strings.Cut(address, "/"); ok {
		if strings.HasPrefix(network, "unix") || strings.HasPrefix(network, "fd") {
			return false
		}
		address = rest
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return host != "localhost" && !strings.HasSuffix(host, ".localhost") && !isLoopback(host)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// Public reports whether other machines can reach one of some addresses to listen on.
func Public(addresses []string) bool {
	for _, a := range addresses {
		if public(a) {
			return true
		}
	}
	return false
}

// leastUpload is the shortest read timeout that leaves requests with images the time to arrive.
const leastUpload = time.Minute

// defaultFirstToken is how long the last target may take to begin an answer.
const defaultFirstToken = 10 * time.Minute

func (s *Server) checkTimeouts() (list []Finding) {
	longest := s.longestWait()
	if s.WriteTimeout > 0 {
		severity, problem := Warning, "cuts every answer that takes longer, streams too."
		if s.WriteTimeout < longest {
			severity, problem = Error, fmt.Sprintf("ends requests that may wait for up to %s before their first token.", short(longest))
		}
		list = append(list, Finding{severity, "write-timeout", part("server", s.Name), "", fmt.Sprintf("The write timeout of %s %s", short(s.WriteTimeout), problem),
			"Remove `write` from `servers { timeouts { … } }`. The gateway's own timeouts end what makes no progress."})
	}
	if s.ReadTimeout > 0 && s.ReadTimeout < leastUpload {
		list = append(list, Finding{Warning, "read-timeout", part("server", s.Name), "", fmt.Sprintf("The read timeout of %s refuses requests with images that take longer to arrive.", short(s.ReadTimeout)),
			"Remove `read_body` from `servers { timeouts { … } }`: Caddy ends uploads that stall in any case."})
	}
	return list
}

// longestWait returns how long a request may take to its first token: in a queue, and at a server.
func (s *Server) longestWait() (longest time.Duration) {
	for _, site := range s.Sites {
		for _, u := range site.Upstreams {
			wait := u.Timers.FirstToken
			if wait == 0 {
				wait = defaultFirstToken
			}
			longest = max(longest, wait+u.Config.Queue.MaxWait)
		}
	}
	return longest
}

func (s *Server) checkLogs() (list []Finding) {
	if !s.hasKeys() {
		return nil
	}
	if s.LogsCredentials && len(s.Logs) > 0 {
		list = append(list, Finding{Error, "log-credentials", part("server", s.Name), "", "The access log shows the header Authorization, with the keys of clients.", "Remove `log_credentials`."})
	}
	for _, log := range s.Logs {
		what := "The access log"
		if log.Errors {
			what = "The log, which shows requests that failed in another handler,"
		}
		if len(log.Shown) > 0 {
			var lines []string
			for _, name := range log.Shown {
				lines = append(lines, "request>headers>"+name+" delete")
			}
			severity := Error
			if log.Errors {
				severity = Warning
			}
			list = append(list, Finding{severity, "log-keys", part("log", log.Name), "", fmt.Sprintf("%s shows %s, in which clients send their keys.", what, strings.Join(log.Shown, " and ")),
				"Write `format filter` with the lines `" + strings.Join(lines, "` and `") + "`."})
		}
		if log.Query && !log.Errors {
			list = append(list, Finding{Note, "log-query", part("log", log.Name), "", "The access log shows query strings. A client that puts its key there is refused, but the key is in the log.",
				"Write `request>uri query { delete key }` in `format filter`, with a line for each name that your clients may use."})
		}
	}
	return list
}

func (s *Server) hasKeys() bool {
	for _, site := range s.Sites {
		if site.Keys {
			return true
		}
	}
	return false
}

func (s *Server) checkTLS() []Finding {
	if !s.Plain || !s.Public || !s.hasKeys() {
		return nil
	}
	return []Finding{{Note, "no-tls", part("server", s.Name), "", fmt.Sprintf("It listens on %s without TLS: keys and prompts can be read on the way.", strings.Join(s.Listen, ", ")),
		"Write the name of the site, such as llm.example.com, for which Caddy gets a certificate; or let only a proxy with TLS reach this address."}}
}

func (s *Site) checkWarnings() (list []Finding) {
	for _, w := range s.Warnings {
		problem, fix, ok := strings.Cut(w.Text, "; ")
		if !ok {
			fix = "Check this part of the configuration."
		}
		list = append(list, Finding{Warning, "configuration", "llm_proxy", w.Line, sentence(problem), sentence(fix)})
	}
	return list
}

// sentence makes a sentence of a text.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func (s *Site) checkAccess(server *Server) (list []Finding) {
	switch paid := s.paid(); {
	case !server.Public:
	case !s.Keys && paid != "":
		list = append(list, Finding{Error, "no-keys", "llm_proxy", s.Line, fmt.Sprintf("Everybody who reaches the site may use upstream %q, at your cost.", paid), "Write `require_key`, and a key for each person or program: `caddy llm-key create alice`."})
	case !s.Keys:
		list = append(list, Finding{Warning, "no-keys", "llm_proxy", s.Line, "Everybody who reaches the site may use its models.", "Write `require_key`, and a key for each person or program: `caddy llm-key create alice`."})
	case !s.RateLimit:
		list = append(list, Finding{Note, "no-rate-limit", "llm_proxy", s.Line, "Callers may guess keys without limit.", "Write `rate_limit 20/m`, which counts requests without a valid key."})
	}
	return list
}

// paid returns the name of an upstream that costs money, or an empty one.
func (s *Site) paid() string {
	for _, u := range s.Upstreams {
		if u.APIKey != "" && !u.IsLocal() && !u.Absent && !upstream.IsDummyKey(u.APIKey) {
			return u.Name
		}
	}
	return ""
}

func (s *Site) checkOperation() (list []Finding) {
	if s.Health == "" {
		list = append(list, Finding{Note, "no-health", "llm_proxy", s.Line, "There is no health endpoint for a load balancer or a supervisor.", "Write `health /health`."})
	}
	if s.Optional && !slices.ContainsFunc(s.Upstreams, func(u *Upstream) bool { return !u.Absent && !u.Kind.BuiltIn() }) {
		list = append(list, Finding{Warning, "no-upstream", "llm_proxy", s.Line, "No model server answers at the usual addresses of this machine, so that only the built-in echo answers.", "Start a model server, or write an `upstream`. `caddy llm-import detect` helps."})
	}
	if s.LogPrompts {
		list = append(list, Finding{Warning, "log-prompts", "llm_proxy", s.Line, "The log has the beginning of prompts.", "Remove `log_prompts`, unless everybody who reads the log may read prompts."})
	}
	return list
}
