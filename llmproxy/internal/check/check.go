// Package check compares a configuration with reality and with what experience recommends for production, and says what to change: servers
// that do not answer, keys that they refuse, models that they do not have, more slots than they have, timeouts that are too short, logs that
// show keys.
//
// Every check is a function of values: what the configuration says, and what the servers said when they were asked. Ask alone sends requests,
// by the functions of upstream, which also the gateway uses. None of them generates, loads a model or costs money. The package knows nothing
// of Caddy: admin and llmproxy make a Config of what Caddy loads. It stands on upstream and router.
package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Severity is how bad a finding is.
type Severity string

// The severities, from the worst on.
const (
	// Error means that requests fail, or that secrets are shown.
	Error Severity = "error"
	// Warning means that it works, but not as it was probably meant, or not under load.
	Warning Severity = "warning"
	// Note is something to know, or an advice.
	Note Severity = "note"
)

// Severities are all severities, from the worst on.
var Severities = []Severity{Error, Warning, Note}

// Names are the names of all checks.
var Names = []string{
	"unreachable", "key-refused", "key-missing", "loading", "wrong-kind", "no-models", "model-missing", "other-model",
	"context", "slots", "slots-unknown", "cache-size", "transport-timeout", "timeouts", "dead-fallback", "same-server",
	"fallback-context", "hidden-model", "no-upstream", "no-keys", "no-rate-limit", "no-tls", "log-credentials", "log-keys",
	"log-query", "log-prompts", "write-timeout", "read-timeout", "grace-period", "admin-address", "no-health", "caddy-version",
	"configuration",
}

// AtLeast reports whether a severity is as bad as another one, or worse.
func (s Severity) AtLeast(other Severity) bool {
	return slices.Index(Severities, s) <= slices.Index(Severities, other)
}

// A Finding is what is wrong, or could be better, and what to do about it.
type Finding struct {
	Severity Severity `json:"severity"`
	// Check is the name of the check that found it.
	Check string `json:"check"`
	// Part is the part of the configuration, such as `upstream "gpu" http://127.0.0.1:11434`.
	Part string `json:"part"`
	// Line is where this part is written, such as Caddyfile:8; empty for a configuration in JSON.
	Line string `json:"line,omitempty"`
	// Problem is what was found, and Fix what to do about it.
	Problem string `json:"problem"`
	Fix     string `json:"fix"`
}

// A Config is a configuration of Caddy, as far as it matters for llm_proxy, with what is known of the machine.
type Config struct {
	// Version is Caddy's, such as v2.11.7; empty if it is unknown.
	Version string
	// GracePeriod is how long requests may go on when Caddy stops; zero means for ever.
	GracePeriod time.Duration
	// Admin is the address of the admin API; empty if it is off.
	Admin   string
	Servers []*Server
	// OllamaParallel is the OLLAMA_NUM_PARALLEL of this machine's Ollama; zero if it was not found.
	OllamaParallel int
}

// A Server is an HTTP server of Caddy's that has llm_proxy.
type Server struct {
	Name   string
	Listen []string
	// Plain means that it serves HTTP without TLS, and Public that other machines can reach it.
	Plain, Public bool
	// ReadTimeout and WriteTimeout bound the whole of a request; zero means that they do not.
	ReadTimeout, WriteTimeout time.Duration
	// LogsCredentials means that access logs show the header Authorization.
	LogsCredentials bool
	Logs            []Log
	Sites           []*Site
}

// A Log is a log of Caddy's that shows requests to a server.
type Log struct {
	// Name is Caddy's name of the log. Errors means that it shows only requests that failed.
	Name   string
	Errors bool
	// Shown are the headers with keys of clients that it shows, and Query means that it shows query strings.
	Shown []string
	Query bool
}

// A Site is one handler llm_proxy.
type Site struct {
	Line      string
	Upstreams []*Upstream
	Models    []Model
	// Discover means that the models that upstreams have are served under their own names.
	Discover bool
	// Optional means that nothing is configured, and the upstreams are those that are found.
	Optional  bool
	LocalOnly bool
	// Keys means that callers need keys, and RateLimit that callers without one are limited.
	Keys, RateLimit bool
	LogPrompts      bool
	Health          string
	Deadline        time.Duration
	// Warnings are what the configuration itself shows.
	Warnings []Remark
}

// A Remark is a warning that Caddy logs, too, when it loads the configuration.
type Remark struct{ Text, Line string }

// An Upstream is an upstream as it is configured, and what its replicas said.
type Upstream struct {
	*upstream.Upstream
	Line string
	// ResponseHeaderTimeout and ReadTimeout are those of a configured transport, which count from when the request was sent, or from the last
	// byte; zero means none.
	ResponseHeaderTimeout, ReadTimeout time.Duration
	// SendsKey means that requests have an API key, in whatever header.
	SendsKey bool
	// Replicas are what the replicas said, in the order of their addresses. They are set by Ask.
	Replicas []*upstream.Inspection
	// Absent means that the upstream is optional, and no server of its kind answers.
	Absent bool
}

// A Model is a name that clients use, and where it leads.
type Model struct {
	Name, Line string
	Plan       *router.Plan
}

// Find returns what is wrong with a configuration whose upstreams were asked, the worst first.
func Find(c *Config) []Finding {
	list := slices.Concat(c.checkVersion(), c.checkGracePeriod(), c.checkAdmin())
	for _, server := range c.Servers {
		list = slices.Concat(list, server.checkTimeouts(), server.checkLogs(), server.checkTLS())
		for _, site := range server.Sites {
			list = slices.Concat(list, site.checkWarnings(), site.checkAccess(server), site.checkOperation())
			for _, u := range site.Upstreams {
				if !u.Absent {
					list = slices.Concat(list, u.checkReplicas(), u.checkKey(), u.checkTimers(site.Deadline), u.checkSlots(c.OllamaParallel), u.checkWarm())
				}
			}
			list = slices.Concat(list, site.checkModels(), site.checkContexts(), site.checkFallbacks(), site.checkNames())
		}
	}
	list = unique(list)
	slices.SortStableFunc(list, func(a, b Finding) int {
		return cmp.Compare(slices.Index(Severities, a.Severity), slices.Index(Severities, b.Severity))
	})
	return list
}

// unique leaves out what was found before: a server may have several handlers, and a handler several models with one target.
func unique(list []Finding) (once []Finding) {
	for _, f := range list {
		if !slices.Contains(once, f) {
			once = append(once, f)
		}
	}
	return once
}

// part names a part of the configuration.
func part(kind, name string) string { return fmt.Sprintf("%s %q", kind, name) }

// short returns a duration without zeros at its end.
func short(d time.Duration) string {
	text := d.Round(time.Millisecond).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if n := len(text) - len(zero); n > 0 && text[n:] == zero {
			text = text[:n+1]
		}
	}
	return text
}
