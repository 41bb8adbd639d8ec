package upstream

import (
	"fmt"
	"net/url"
	"strings"
)

// ParseAddress reads an upstream's address and gives the base of its API. Without a scheme it is http, without a path it is
// the usual base, /v1; an address with a path is the base as SDKs know it (https://api.groq.com/openai/v1).
func ParseAddress(address string) (*url.URL, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("address %q: scheme %q is not http or https", address, u.Scheme)
	case u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("address %q has no host", address)
	case u.User != nil:
		return nil, fmt.Errorf("the address of host %s holds a password: use api_key or header_up", u.Host)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("address %q: a base has no query and no fragment", address)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if u.Path == "" {
		u.Path = "/v1"
	}
	u.RawPath = ""
	return u, nil
}
