package upstream

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// ParseAddress reads an upstream's address and gives the base of its API. Without a scheme it is http, without a path it is
// the usual base, /v1; an address with a path is the base as SDKs know it (https://api.groq.com/openai/v1).
func ParseAddress(address string) (*url.URL, error) {
	if strings.HasPrefix(address, "unix/") || strings.HasPrefix(address, "unix+") {
		return nil, fmt.Errorf("address %q: upstreams are reached by TCP only; have the server listen at 127.0.0.1", address)
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	port, err := strconv.Atoi(cmp.Or(u.Port(), "80"))
	switch {
	case err != nil || port < 1 || port > 65535:
		return nil, fmt.Errorf("address %q: port %s is not one from 1 to 65535", address, u.Port())
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
