package llmproxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// A keyAnswer is a key as the admin API shows it: without its digest, from which a weak secret could be guessed.
type keyAnswer struct {
	keys.Entry
	// KeptIn is where the key is kept: the file of keys, "state" for the shared one, "local" for this machine, "configuration".
	KeptIn string `json:"kept_in"`
	// Plain is a new secret, which is shown once.
	Plain string `json:"plain_secret,omitempty"`
}

// inConfiguration is where keys are kept that come and go with it.
const inConfiguration = "configuration"

// maxKeyBody bounds what the admin API reads of a new key.
const maxKeyBody = 1 << 20

var errNoKey = errors.New("no such key is kept here (those of the configuration are changed there)")

// theVaults lists where keys are kept, by name.
func theVaults() (list []*vault) {
	vaults.Range(func(_, value any) bool {
		list = append(list, value.(*vault))
		return true
	})
	slices.SortFunc(list, func(a, b *vault) int { return strings.Compare(a.name, b.name) })
	return list
}

// vaultOf is the one that a request means: the only one, or the one that it names.
func vaultOf(r *http.Request) (*vault, error) {
	list, name := theVaults(), r.URL.Query().Get("kept_in")
	if name != "" {
		list = slices.DeleteFunc(list, func(v *vault) bool { return v.name != name })
	}
	switch len(list) {
	case 1:
		return list[0], nil
	case 0:
		return nil, caddy.APIError{HTTPStatus: http.StatusConflict, Err: errors.New("no site keeps keys there: configure key, keys_file or require_key")}
	}
	var names []string
	for _, v := range list {
		names = append(names, v.name)
	}
	return nil, caddy.APIError{HTTPStatus: http.StatusConflict,
		Err: fmt.Errorf("keys are kept in more than one place: say which with ?kept_in= or --kept-in: %s", strings.Join(names, ", "))}
}

// adminListKeys answers GET /llm_proxy/keys.
func adminListKeys(w http.ResponseWriter, _ *http.Request) error {
	list := []keyAnswer{}
	for _, v := range theVaults() {
		for _, e := range v.configured() {
			one := shownKey(inConfiguration, *e)
			if !slices.ContainsFunc(list, func(k keyAnswer) bool { return reflect.DeepEqual(k, one) }) { // as of sites with one snippet
				list = append(list, one)
			}
		}
	}
	for _, v := range theVaults() {
		for _, e := range v.entries() {
			list = append(list, shownKey(v.name, *e))
		}
	}
	return adminJSON(w, list)
}

func shownKey(place string, e keys.Entry) keyAnswer {
	e.Secret = ""
	return keyAnswer{Entry: e, KeptIn: place}
}

// adminCreateKey answers POST /llm_proxy/keys with a key in its body. Without a digest in it a secret is made, and shown once.
func adminCreateKey(w http.ResponseWriter, r *http.Request) error {
	v, err := vaultOf(r)
	if err != nil {
		return err
	}
	e, err := givenKey(r)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	plain := ""
	if e.Secret == "" {
		plain = keys.NewSecret()
		e.Secret = keys.Digest(plain)
	}
	err = v.change(func(list []*keys.Entry) ([]*keys.Entry, error) { return append(list, e), nil })
	return answerKey(w, v, e, plain, err)
}

// givenKey reads the key in a request's body.
func givenKey(r *http.Request) (*keys.Entry, error) {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxKeyBody+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeyBody {
		return nil, fmt.Errorf("the body is larger than %d bytes", maxKeyBody)
	}
	e, err := keys.ParseEntry(text)
	if err != nil {
		return nil, err
	}
	if e.Secret != "" {
		_, err = keys.ParseDigest(e.Secret)
	}
	return e, err
}

// adminKey answers what is below /llm_proxy/keys/: DELETE NAME revokes a key, POST NAME/rotate gives it another secret.
func adminKey(w http.ResponseWriter, r *http.Request) error {
	name, action, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/llm_proxy/keys/"), "/")
	v, err := vaultOf(r)
	if err != nil {
		return err
	}
	switch {
	case r.Method == http.MethodDelete && action == "":
		err := v.change(func(list []*keys.Entry) ([]*keys.Entry, error) { return without(list, name) })
		return answerKey(w, v, &keys.Entry{Name: name}, "", err)
	case r.Method == http.MethodPost && action == "rotate":
		plain, digest, err := newOrGiven(r)
		if err != nil {
			return err
		}
		changed := new(keys.Entry)
		err = v.change(func(list []*keys.Entry) ([]*keys.Entry, error) { return rotated(list, name, digest, changed) })
		return answerKey(w, v, changed, plain, err)
	}
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("possible are DELETE /llm_proxy/keys/NAME and POST /llm_proxy/keys/NAME/rotate")}
}

// newOrGiven takes the digest that the body holds, or makes a secret.
func newOrGiven(r *http.Request) (plain, digest string, err error) {
	given, err := io.ReadAll(io.LimitReader(r.Body, 1024))
	if err != nil {
		return "", "", caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	if digest = strings.TrimSpace(string(given)); digest != "" {
		if _, err := keys.ParseDigest(digest); err != nil {
			return "", "", caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
		}
		return "", digest, nil
	}
	plain = keys.NewSecret()
	return plain, keys.Digest(plain), nil
}

func without(list []*keys.Entry, name string) ([]*keys.Entry, error) {
	rest := slices.DeleteFunc(list, func(e *keys.Entry) bool { return e.Name == name })
	if len(rest) == len(list) {
		return nil, fmt.Errorf("%w: %.80q", errNoKey, name)
	}
	return rest, nil
}

// rotated gives a key another secret; the one from before is good for nothing from then on.
func rotated(list []*keys.Entry, name, digest string, changed *keys.Entry) ([]*keys.Entry, error) {
	i := slices.IndexFunc(list, func(e *keys.Entry) bool { return e.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("%w: %.80q", errNoKey, name)
	}
	*changed = *list[i]
	changed.Secret = digest
	list[i] = changed
	return list, nil
}

func answerKey(w http.ResponseWriter, v *vault, e *keys.Entry, plain string, err error) error {
	var place placeError
	switch {
	case errors.Is(err, errNoKey):
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	case errors.As(err, &place):
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	case err != nil:
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	}
	answer := shownKey(v.name, *e)
	answer.Plain = plain
	return adminJSON(w, answer)
}

// adminKeys answers /llm_proxy/keys.
func adminKeys(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPost {
		return adminCreateKey(w, r)
	}
	if r.Method != http.MethodGet {
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("possible are GET and POST")}
	}
	return adminListKeys(w, r)
}
