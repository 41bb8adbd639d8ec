package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

// refusal is an upstream's error answer for the log. Its own words may quote what the client said, so that only where
// prompts are logged they are, too; and never those about a key, which may quote ours.
func (a *attempt) refusal(status int, body []byte) error {
	if a.c.g.LogPrompts > 0 && status != http.StatusUnauthorized {
		return fmt.Errorf("status %d: %.300q", status, body)
	}
	_, kind, code, _, _ := wire.ErrorOf(body)
	return fmt.Errorf("status %d, type %.60q, code %.60q", status, kind, code)
}

// excerpt is the first n characters of a text, in one line.
func excerpt(text string, n int) string {
	var b strings.Builder
	for _, r := range text {
		if n == 0 {
			break
		}
		if n--; unicode.IsControl(r) {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}
