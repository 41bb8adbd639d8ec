package upstream

import (
	"bytes"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A Redactor removes from an upstream's words what clients and logs must not see: secrets, addresses, and the text of the prompt.
type Redactor struct {
	// Secrets are those of the request that was sent; see SecretsIn.
	Secrets []string
	// Request is the client's request, or nil.
	Request *openai.Request
	// Model is the model's name at the upstream, which stays.
	Model string
}

// SecretsIn returns what may be secret in the headers of a request: every word of a value, except in headers that are the same for all.
func SecretsIn(h http.Header) (secrets []string) {
	for name, values := range h {
		if name == "Content-Type" || name == "Accept" || name == "Accept-Encoding" || name == "User-Agent" || name == "X-Request-Id" {
			continue
		}
		for _, value := range values {
			for _, word := range strings.Fields(value) {
				if len(word) >= 4 && !strings.EqualFold(word, "bearer") && !strings.EqualFold(word, "basic") {
					secrets = append(secrets, word)
				}
			}
		}
	}
	return secrets
}

// longestReason bounds a reason, in bytes.
const longestReason = 160

// Reason returns what an error response says, in a few words, or "" if it says nothing that can be shown.
func (r *Redactor) Reason(body []byte) string {
	text := firstLine(errorText(body))
	if len(text) > 4*longestReason { // more than what remains of it
		text = strings.ToValidUTF8(text[:4*longestReason], "")
	}
	text = r.withoutPrompt(r.withoutSecrets(text))
	if strings.IndexFunc(text, func(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }) < 0 {
		return ""
	}
	return shorten(strings.TrimRight(text, " .:;,"))
}

// Redact returns a message without secrets and addresses. What it says of the request stays.
func (r *Redactor) Redact(message string) string { return r.withoutSecrets(message) }

// errorText returns the message of an error in JSON, the title of an HTML page, or a plain text.
func errorText(body []byte) string {
	e, _ := openai.ParseError(body)
	if e.Message != "" {
		return e.Message
	}
	if trimmed := bytes.TrimSpace(body); len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') {
		text := ""
		_ = jsonspan.EachMember(trimmed, func(key, value []byte) bool { // without a message, there is only a code
			switch string(key) {
			case "title", "msg", "error_description", "errorMessage", "Message":
				text, _ = jsonspan.String(value)
			}
			return text == ""
		})
		if text == "" {
			text = e.Code
		}
		return text
	}
	if m := htmlTitle.FindSubmatch(body); m != nil {
		return html.UnescapeString(string(m[1]))
	}
	if bytes.ContainsRune(body, '<') || !utf8.Valid(body) {
		return ""
	}
	return string(body)
}

var htmlTitle = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// firstLine returns the first line of a text that has letters, without control characters.
func firstLine(text string) string {
	for line := range strings.Lines(text) {
		line = strings.Join(strings.FieldsFunc(line, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }), " ")
		if line != "" && !strings.HasPrefix(line, "Traceback ") {
			return line
		}
	}
	return ""
}

// shorten cuts a text between two words.
func shorten(text string) string {
	if len(text) <= longestReason {
		return text
	}
	text = strings.ToValidUTF8(text[:longestReason], "")
	if space := strings.LastIndexByte(text, ' '); space > longestReason/2 {
		text = text[:space]
	}
	return strings.TrimRight(text, " .:;,") + "…"
}

const removed = "…"

// secretPatterns match what may be a secret or an address. The group is what stays.
var secretPatterns = []*regexp.Regexp{
	regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>)]*`),
	regexp.MustCompile(`[\w.+-]+@[\w-]+(?:\.[\w-]+)+`),                                                    // an e-mail address
	regexp.MustCompile(`\[[0-9a-fA-F:.%]*:[0-9a-fA-F:.%]*\](?::\d+)?`),                                    // IPv6 in brackets
	regexp.MustCompile(`(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F:.]*|(?:[0-9a-fA-F]{1,4})?::[0-9a-fA-F:.%]+`), // IPv6
	regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b`),                                            // IPv4
	regexp.MustCompile(`(?i)\blocalhost\b(?::\d+)?`),
	regexp.MustCompile(`\b[a-zA-Z][\w.-]*:\d{4,5}\b`), // a host and its port
	regexp.MustCompile(`(?i)\b(?:[a-z0-9_-]+\.)+(?:com|net|org|io|ai|dev|app|cloud|internal|intern|local|localdomain|lan|corp|home|svc|cluster|intranet|private|test|example|invalid|arpa|de|eu|uk|us|fr|cn|jp|ru|nl|ch|at)\b(?::\d+)?`),
	regexp.MustCompile(`(?i)\b(bearer |basic )\S+`),
	regexp.MustCompile(`(?i)\b((?:api[-_ ]?key|access[-_ ]?key|token|secret|password|passwd|authorization)["']?\s*[:=]\s*)\S+`),
	regexp.MustCompile(`\b(?:sk|pk|rk|gsk|xai|hf|ghp|nvapi|pplx|org|proj|acct|user|sess|key)[-_][A-Za-z0-9_-]{6,}`),
	regexp.MustCompile(`\b(?:AIza|AKIA|eyJ)[\w.-]{10,}`),
	regexp.MustCompile(`[\w-]*\*{3,}[\w*-]*`),              // a masked key
	regexp.MustCompile(`(?:^|[\s"'=(])(?:/[\w.@+-]+){2,}`), // a file
}

// longToken matches what is a secret if it has letters and digits.
var longToken = regexp.MustCompile(`[A-Za-z0-9]{20,}|[A-Za-z0-9+/_=]{32,}`)

func (r *Redactor) withoutSecrets(text string) string {
	for _, secret := range r.Secrets {
		text = strings.ReplaceAll(text, secret, removed)
	}
	for _, pattern := range secretPatterns {
		text = pattern.ReplaceAllStringFunc(text, func(match string) string {
			trimmed := strings.TrimLeft(match, " \t\"'=(")
			if strings.Contains(match, r.Model) && r.Model != "" || strings.HasPrefix(trimmed, "/v1/") || strings.HasPrefix(trimmed, "/api/") {
				return match
			}
			keep := match[:len(match)-len(trimmed)]
			if m := pattern.FindStringSubmatch(match); len(m) > 1 {
				keep = m[1]
			}
			return keep + removed
		})
	}
	return longToken.ReplaceAllStringFunc(text, func(match string) string {
		if match == r.Model || !strings.ContainsAny(match, "0123456789") || strings.IndexFunc(match, unicode.IsLetter) < 0 {
			return match
		}
		return removed
	})
}

// How much of a text may agree with the request by chance.
const (
	minQuoted = 3  // characters between quotes
	minWords  = 4  // words in a row
	minRun    = 16 // characters of these
)

// maxCompared bounds how much of a request a reason is compared with, in bytes.
const maxCompared = 4 << 20

// quotedText matches a text between quotes. It is cut at the end of a message that was cut.
var quotedText = regexp.MustCompile("\"[^\"]*(?:\"|$)|`[^`]*(?:`|$)|(?:^|[\\s(\\[{=:,])'[^']*(?:'|$)|“[^”]*(?:”|$)")

// withoutPrompt removes from a text what it repeats of the request: everything in quotes that is not the name of a member or the model,
// and any longer run of words.
func (r *Redactor) withoutPrompt(text string) string {
	if r.Request == nil || text == "" {
		return text
	}
	body := r.Request.Body[:min(len(r.Request.Body), maxCompared)]
	prompt := string(jsonspan.Unescape(body))
	if content := strings.TrimSpace(r.Request.Signals().Content()); len(content) > minQuoted {
		text = strings.ReplaceAll(text, content, removed)
	}
	text = quotedText.ReplaceAllStringFunc(text, func(match string) string {
		start := strings.IndexAny(match, "\"'`“")
		_, width := utf8.DecodeRuneInString(match[start:])
		inner := strings.TrimRight(match[start+width:], "\"'`”.…")
		switch {
		case len(inner) < minQuoted, inner == r.Model, inner == r.Request.Model:
			return match
		case bytes.Contains(body, []byte(`"`+inner+`":`)), !strings.Contains(prompt, inner): // a member; not of the request
			return match
		}
		return match[:start+width] + removed + match[start+width+len(inner):]
	})
	return withoutRuns(text, prompt)
}

// withoutRuns removes runs of words that a text has in common with the prompt.
func withoutRuns(text, prompt string) string {
	words := strings.Split(text, " ")
	for i := 0; i+minWords <= len(words); i++ {
		end := i
		for j := i + minWords; j <= len(words) && strings.Contains(prompt, strings.Trim(strings.Join(words[i:j], " "), "\"'`.,:;()")); j++ {
			end = j
		}
		if end > i && len(strings.Join(words[i:end], " ")) >= minRun {
			words = slices.Replace(words, i, end, removed)
		}
	}
	return strings.Join(words, " ")
}
