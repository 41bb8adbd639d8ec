package gateway

import (
	"net/http"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A Claim says whose request it is.
type Claim uint8

const (
	// NotOurs is a request for the next handler.
	NotOurs Claim = iota
	// IfUnanswered is a request that may be meant for the API. The next handler may have an answer, such as a file or a web UI. If it has
	// none, Serve says what is wrong, because clients take an empty answer for a success.
	IfUnanswered
	// Ours is a request for Serve.
	Ours
)

// Match returns the task of a request, according to its path, and whose it is.
func Match(r *http.Request) (Task, Claim) {
	path := r.URL.Path
	task, ours := TaskOf(path)
	webSocket := isWebSocket(r)
	switch {
	case webSocket && (ours || strings.HasPrefix(path, "/v1/")):
		return Task{upgrade: true}, Ours
	case ours:
		return task, Ours
	case path == "/" && !webSocket && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		return Task{api: dialect.Ollama, info: greeting}, IfUnanswered
	}
	mistake, ok := openai.MistakenPath(path)
	switch {
	case !ok:
		return Task{}, NotOurs
	case webSocket:
		return Task{upgrade: true}, IfUnanswered
	case mistake.Clear && (r.Method == http.MethodPost || strings.HasPrefix(path, "/v1/")):
		return Task{closed: mistake.Why}, Ours
	}
	return Task{closed: mistake.Why}, IfUnanswered
}

// TaskOf returns the task of a path. It reports false if the path is not one of the API.
func TaskOf(path string) (Task, bool) {
	if task, ok := exactTask(path); ok {
		return task, true
	}
	if same := openai.SamePath(path); same != path {
		return exactTask(same)
	}
	return Task{}, false
}

func exactTask(path string) (Task, bool) {
	if e, ok := openai.LookupEndpoint(path); ok {
		task := Task{endpoint: e}
		if e.Foreign {
			task.api = dialect.EndpointOf(e).API
		}
		return task, true
	}
	if info, ok := ollamaInfo[path]; ok {
		return Task{api: dialect.Ollama, info: info}, true
	}
	if id, ok := openai.ModelPath(path); ok {
		return Task{models: true, modelID: id}, true
	}
	if strings.TrimRight(path, "/") == access.QuotaPath {
		return Task{quota: true}, true
	}
	if strings.TrimRight(path, "/") == StatusPath {
		return Task{status: true}, true
	}
	if why, ok := openai.ClosedPath(path); ok {
		task := Task{closed: why}
		if strings.HasPrefix(path, "/api/") {
			task.api = dialect.Ollama
		}
		return task, true
	}
	return Task{}, false
}

// isWebSocket reports whether a request wants to open a WebSocket. Some proxies remove the header Upgrade, but not the others.
func isWebSocket(r *http.Request) bool {
	if r.Header["Sec-Websocket-Key"] != nil || r.Header["Sec-Websocket-Version"] != nil {
		return true
	}
	for _, line := range r.Header["Upgrade"] {
		for protocol := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(protocol), "websocket") {
				return true
			}
		}
	}
	return false
}
