package openai

import (
	"path"
	"slices"
	"strings"
)

// ModelPath returns the model in a path of the model list. It is empty for /v1/models itself, and may contain slashes, but not at
// its end.
func ModelPath(path string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(path, modelsPath)
	if !ok || rest == "" {
		return "", ok
	}
	id, ok = strings.CutPrefix(rest, "/")
	return strings.TrimRight(id, "/"), ok
}

const modelsPath = apiPrefix + "/models"

// closedPaths are paths of known APIs that are not served. Because all callers share one upstream key, these paths would show a
// caller what another one has stored, or change the server for everybody.
var closedPaths = []struct{ prefix, why string }{
	{"/v1/files", stored}, {"/v1/uploads", stored}, {"/v1/batches", stored}, {"/v1/vector_stores", stored},
	{"/v1/assistants", stored}, {"/v1/threads", stored}, {"/v1/conversations", stored}, {"/v1/containers", stored},
	{"/v1/fine_tuning", stored}, {"/v1/evals", stored}, {"/v1/responses/", stored}, {"/v1/chat/completions/", stored},
	{"/api/pull", manages}, {"/api/push", manages}, {"/api/create", manages}, {"/api/copy", manages},
	{"/api/delete", manages}, {"/api/blobs", manages},
	{"/v1/messages/", stored},
}

const (
	stored = "it names no model, and with the gateway's upstream key it would show one caller what another has stored; " +
		"send the request to the service itself"
	manages      = "it would change the models of the server for everybody; run it on the server itself"
	otherDialect = "this gateway supports OpenAI's, Anthropic's and Ollama's API; use /v1/chat/completions, /v1/embeddings or /v1/models"
)

// ClosedPath reports whether a path belongs to a known API but is not served, and why.
func ClosedPath(path string) (why string, closed bool) {
	for _, c := range closedPaths {
		rest, ok := strings.CutPrefix(path, c.prefix)
		if !ok {
			continue
		}
		if strings.HasSuffix(c.prefix, "/") { // below an endpoint, which may have been taken for the base URL
			misplaced, _ := misplacedPath(path)
			ok = rest != "" && misplaced == ""
		} else {
			ok = rest == "" || rest[0] == '/'
		}
		if ok {
			return c.why, true
		}
	}
	return "", false
}

// SamePath returns the path of the API that is the same as p for Caddy's path matchers, which ignore repeated slashes, dots and case.
// It also ignores slashes and white space at the end. It returns p if there is no such path.
//
// Only these paths are served as if they were spelled correctly. Any other could get round a matcher that protects /v1/*.
func SamePath(p string) string {
	clean := path.Clean("/" + strings.TrimSpace(p))
	lower := strings.ToLower(clean)
	if _, ok := endpointByPath[lower]; ok || isOllamaPath(lower) {
		return lower
	}
	if isModels(lower) {
		return modelsPath + clean[len(modelsPath):] // the case of a model counts
	}
	if _, ok := ClosedPath(lower); ok {
		return lower
	}
	return p
}

func isModels(path string) bool {
	rest, ok := strings.CutPrefix(path, modelsPath)
	return ok && (rest == "" || rest[0] == '/')
}

// A Mistake is a path that is probably meant for the API, but is not one of its paths.
type Mistake struct {
	// Why says why it is not served, and what to do, as the end of a sentence.
	Why string
	// Clear means that the path is not meant for anything else, such as a file or a web UI.
	Clear bool
}

// MistakenPath reports whether a path is probably meant for the API: the base URL lacks /v1 or has it twice, has another prefix, or is
// that of an endpoint; the path is misspelled; or it is that of another API.
func MistakenPath(p string) (m Mistake, ok bool) {
	lower := strings.ToLower(path.Clean("/" + strings.TrimSpace(p)))
	belowV1 := lower == apiPrefix || strings.HasPrefix(lower, apiPrefix+"/")
	meant, clear := misplacedPath(lower)
	switch {
	case meant != "" && strings.Contains(lower, "/deployments/"): // Azure's
		return Mistake{Why: "use " + meant + ", with the name of the deployment as \"model\""}, true
	case isOllamaPath(meant):
		return Mistake{"use " + meant + "; the base URL of a client of Ollama's API is that of the site, without " + apiPrefix + " or another prefix", belowV1}, true
	case meant != "" && belowV1:
		return Mistake{"use " + meant + "; the base URL of the client must end with a single " + apiPrefix, true}, true
	case meant != "":
		return Mistake{"use " + meant + "; the base URL of the client must end with " + apiPrefix + ", without another prefix", clear}, true
	case strings.HasPrefix(lower, "/v1beta/"): // Gemini's
		return Mistake{Why: otherDialect}, true
	}
	if why, ok := misplacedClosedPath(lower); ok {
		return Mistake{why, belowV1}, true
	}
	if !belowV1 {
		return Mistake{}, false
	}
	if similar := similarPath(lower); similar != "" {
		return Mistake{Why: "you probably mean " + similar}, true
	}
	return Mistake{Why: "it is not a path of the API; see /v1/chat/completions, /v1/responses, /v1/embeddings and /v1/models"}, true
}

// misplacedPath returns the path of the API that a path, in lower case, ends with, after something else or without /v1. It returns ""
// without such an end. Clear means that nothing precedes it, and that it has several segments: /chat/completions.
func misplacedPath(lower string) (meant string, clear bool) {
	known := true // what precedes it may be a base URL
	for tail := lower; len(tail) > 1; {
		whole := withPrefix(tail)
		long := strings.Count(tail, "/") > 1
		switch _, isEndpoint := endpointByPath[whole]; {
		case isOllamaPath(tail) && tail != lower && known:
			return tail, false
		case whole == lower:
		case isEndpoint && (known || long):
			return whole, long && len(tail) == len(lower)
		case isModels(whole) && (known || whole == tail):
			return whole, false
		}
		known, tail = known && inBaseURL(tail), withoutFirst(tail)
	}
	return "", false
}

// misplacedClosedPath is like misplacedPath for paths that are not served, and returns why not.
func misplacedClosedPath(lower string) (why string, ok bool) {
	for tail := lower; len(tail) > 1; tail = withoutFirst(tail) {
		for _, path := range [...]string{tail, withPrefix(tail)} {
			if why, ok := ClosedPath(path); ok {
				return why, true
			}
		}
		if !inBaseURL(tail) {
			break
		}
	}
	return "", false
}

func withPrefix(path string) string {
	if strings.HasPrefix(path, apiPrefix+"/") {
		return path
	}
	return apiPrefix + path
}

// baseSegments are the segments that clients put into base URLs, also by mistake.
var baseSegments = []string{"v1", "api", "openai", "ollama", "chat", "completions", "responses", "embeddings"}

// inBaseURL reports whether the first segment of a path may belong to a base URL.
func inBaseURL(path string) bool {
	first, _, _ := strings.Cut(path[1:], "/")
	return slices.Contains(baseSegments, first)
}

// withoutFirst removes the first segment of a path.
func withoutFirst(path string) string {
	_, rest, _ := strings.Cut(path[1:], "/")
	return "/" + rest
}

// similarPath returns the endpoint that a path below /v1 is a misspelling or the beginning of, or "".
func similarPath(lower string) (similar string) {
	const longest = 64
	if len(lower) > longest {
		return ""
	}
	best := 4 // as many changes are another word
	for _, e := range append(slices.Clone(endpoints), &Endpoint{Path: "/models"}) {
		full := apiPrefix + e.Path
		if lower != apiPrefix && strings.HasPrefix(full, lower+"/") {
			return full
		}
		if d := distance(lower, full); d < best {
			best, similar = d, full
		}
	}
	return similar
}

// distance returns how many characters must be changed, added or removed to make b from a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal, row[j+1] = row[j+1], min(changed, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
