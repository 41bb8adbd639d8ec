package state

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// placeholder is one that may stand in an address.
var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// ExpandAddress replaces the placeholders of an address. What they give is a part of the address, or all of it; but for a
// user, a password and options, where any character may stand, it is the value itself.
func ExpandAddress(r *caddy.Replacer, address string) string {
	// No character within a placeholder means anything to the address.
	shape := placeholder.ReplaceAllStringFunc(address, func(p string) string { return strings.Repeat("x", len(p)) })
	from := strings.Index(shape, "://") + len("://")
	if from < len("://") {
		return r.ReplaceKnown(address, "")
	}
	options := len(shape)
	if i := strings.IndexByte(shape[from:], '?'); i >= 0 {
		options = from + i
	}
	host := from + strings.LastIndexByte(shape[from:options], '@') + 1
	return r.ReplaceKnown(address[:from], "") + escaped(r, address[from:host]) +
		r.ReplaceKnown(address[host:options], "") + escaped(r, address[options:])
}

// escaped replaces placeholders by what stands for their values in an address.
func escaped(r *caddy.Replacer, text string) string {
	text, _ = r.ReplaceFunc(text, func(_ string, value any) (any, error) { // it fails only as the function does
		return strings.ReplaceAll(url.QueryEscape(fmt.Sprint(value)), "+", "%20"), nil
	})
	return text
}

// PlainPassword reports whether a password, or a part of one, is written in an address itself.
func PlainPassword(address string) bool {
	u, err := url.Parse(placeholder.ReplaceAllString(address, ""))
	if err != nil {
		return false
	}
	password, _ := u.User.Password()
	return password != "" || u.Query().Get("password") != ""
}
