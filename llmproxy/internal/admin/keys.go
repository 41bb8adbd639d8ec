package admin

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
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keystore"
)

// A KeyAnswer is a key as the admin API shows it: without its digest, from which a weak secret could be guessed.
type KeyAnswer struct {
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

// storeOf is the one that a request means: the only one, or the one that it names.
func storeOf(r *http.Request) (*keystore.Store, error) {
	list, name := keystore.All(), r.URL.Query().Get("kept_in")
	if name != "" {
		list = slices.DeleteFunc(list, func(v *keystore.Store) bool { return v.Name() != name })
	}
	switch len(list) {
	case 1:
		return list[0], nil
	case 0:
		return nil, caddy.APIError{HTTPStatus: http.StatusConflict, Err: errors.New("no site keeps keys there; configure key, keys_file or require_key")}
	}
	var names []string
	for _, v := range list {
		names = append(names, v.Name())
	}
	return nil, caddy.APIError{HTTPStatus: http.StatusConflict,
		Err: fmt.Errorf("keys are kept in more than one place; choose one with ?kept_in= or --kept-in: %s", strings.Join(names, ", "))}
}

// listStoredKeys answers GET /llm_proxy/keys.
func listStoredKeys(w http.ResponseWriter, _ *http.Request) error {
	list := []KeyAnswer{}
	for _, v := range keystore.All() {
		for _, e := range v.Configured() {
			one := shownKey(inConfiguration, *e)
			if !slices.ContainsFunc(list, func(k KeyAnswer) bool { return reflect.DeepEqual(k, one) }) { // as of sites with one snippet
				list = append(list, one)
			}
		}
	}
	for _, v := range keystore.All() {
		for _, e := range v.Entries() {
			list = append(list, shownKey(v.Name(), *e))
		}
	}
	return answerJSON(w, list)
}

func shownKey(place string, e keys.Entry) KeyAnswer {
	e.Secret = ""
	return KeyAnswer{Entry: e, KeptIn: place}
}

// createStoredKey answers POST /llm_proxy/keys with a key in its body. Without a digest in it a secret is made, and shown once.
func createStoredKey(w http.ResponseWriter, r *http.Request) error {
	v, err := storeOf(r)
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
	err = v.Change(func(list []*keys.Entry) ([]*keys.Entry, error) { return append(list, e), nil })
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

// serveKey answers what is below /llm_proxy/keys/: DELETE NAME revokes a key, POST NAME/rotate gives it another secret.
func serveKey(w http.ResponseWriter, r *http.Request) error {
	name, action, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/llm_proxy/keys/"), "/")
	v, err := storeOf(r)
	if err != nil {
		return err
	}
	switch {
	case r.Method == http.MethodDelete && action == "":
		err := v.Change(keystore.Without(name))
		return answerKey(w, v, &keys.Entry{Name: name}, "", err)
	case r.Method == http.MethodPost && action == "rotate":
		plain, digest, err := newOrGiven(r)
		if err != nil {
			return err
		}
		changed := new(keys.Entry)
		err = v.Change(keystore.Rotated(name, digest, changed))
		return answerKey(w, v, changed, plain, err)
	}
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method is not allowed; use DELETE /llm_proxy/keys/NAME or POST /llm_proxy/keys/NAME/rotate")}
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

func answerKey(w http.ResponseWriter, v *keystore.Store, e *keys.Entry, plain string, err error) error {
	var place keystore.StoreError
	switch {
	case errors.Is(err, keystore.ErrNoKey):
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	case errors.As(err, &place):
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	case err != nil:
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	}
	answer := shownKey(v.Name(), *e)
	answer.Plain = plain
	return answerJSON(w, answer)
}

// serveKeys answers /llm_proxy/keys.
func serveKeys(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPost {
		return createStoredKey(w, r)
	}
	if r.Method != http.MethodGet {
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s is not allowed; use GET or POST", r.Method)}
	}
	return listStoredKeys(w, r)
}
