package llmproxy

import (
	"fmt"
	"regexp"
	"strings"
)

// hasPlaceholder reports whether a text has a placeholder, whose value is not known before the configuration is loaded.
func hasPlaceholder(text string) bool {
	return strings.Contains(text, "{") && strings.Contains(text, "}")
}

var (
	// otherVariable matches environment variables as shells, LiteLLM, Windows and templates write them.
	otherVariable = regexp.MustCompile(`^(?:os\.environ[/.\[]+["']?|\$\{?|%|env[.:]|\{\{\s*\.?env\.|process\.env\.|\{+\s*\$?(?:env[: ]\s*)?["']?)([A-Za-z_][A-Za-z0-9_]*)["']?\s*[\])}%]*$`)
	// variableName matches the bare name of a variable that may hold a secret.
	variableName = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*_(KEY|TOKEN|SECRET|PASSWORD)$`)
	// notYetFilled matches examples of a secret.
	notYetFilled = regexp.MustCompile(`(?i)^(<.*>|.*\.\.\.|.*…|.*x{6,}|(sk-)?your[-_ ]?.*(key|token|secret).*|changeme|change-me|insert[-_ ].*|replace[-_ ].*)$`)
)

// checkSecret reports text that was meant otherwise than as a secret. The name is that of the option. The error never quotes what
// may be a secret.
func checkSecret(name, text string) error {
	if scheme, _, ok := strings.Cut(text, " "); ok && strings.EqualFold(scheme, "bearer") {
		return fmt.Errorf("%s: write the key alone, without %q, which is added when it is sent", name, scheme)
	}
	switch v := otherVariable.FindStringSubmatch(text); {
	case v != nil:
		return fmt.Errorf("%s: the name of an environment variable is not replaced here; write {env.%s}", name, v[1])
	case variableName.MatchString(text):
		return fmt.Errorf("%s: %s looks like the name of an environment variable; write {env.%[2]s}", name, text)
	case strings.HasPrefix(text, "/") || strings.HasPrefix(text, "./") || strings.HasPrefix(text, "file:"):
		path := strings.TrimPrefix(strings.TrimPrefix(text, "file:"), "//")
		return fmt.Errorf("%s: a path is not read here; write {file.%s}", name, path)
	case strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://"):
		return fmt.Errorf("%s: there is an address where a key is expected; write it on the line of the upstream", name)
	case notYetFilled.MatchString(text) && !hasPlaceholder(text):
		return fmt.Errorf("%s: this is an example; write the real key, or a placeholder such as {env.NAME}", name)
	}
	return nil
}
