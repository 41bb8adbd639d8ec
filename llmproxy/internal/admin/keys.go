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

// A Key is a key as the admin API shows it: without its digest, from which a weak secret could be guessed.
type Key struct {
	keys.Entry
	// KeptIn is where the key is kept: the path of a file, "state", "local" or "configuration".
	KeptIn string `json:"kept_in"`
	// Plain is the secret, if it is new. It is not stored.
	Plain string `json:"plain_secret,omitempty"`
}

func newKey(keptIn string, e keys.Entry) Key {
	e.Secret = ""
	return Key{Entry: e, KeptIn: keptIn}
}

const (
	maxKeyBody    = 1 << 20
	maxDigestBody = 1 << 10
)

// ServeKeys answers requests at /keys and below it as the admin API does at /llm_proxy/keys. It returns the status and an error for a request
// that failed.
func ServeKeys(w http.ResponseWriter, r *http.Request) (status int, err error) {
	if r.URL.Path == "/keys" {
		err = serveKeys(w, r)
	} else {
		err = serveKey(w, r)
	}
	var failed caddy.APIError
	if errors.As(err, &failed) {
		return failed.HTTPStatus, failed.Err
	}
	return http.StatusInternalServerError, err
}

// serveKeys answers /llm_proxy/keys: GET lists the keys, POST creates one.
func serveKeys(w http.ResponseWriter, r *http.Request) error {
	switch r.Method {
	case http.MethodGet:
		return writeJSON(w, allKeys())
	case http.MethodPost:
		return createKey(w, r)
	}
	return methodNotAllowed(r, "GET or POST")
}

// serveKey answers /llm_proxy/keys/NAME: DELETE revokes the key, and POST to .../rotate replaces its secret.
func serveKey(w http.ResponseWriter, r *http.Request) error {
	name, action, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/llm_proxy"), "/keys/"), "/")
	switch {
	case r.Method == http.MethodDelete && action == "":
		return changeKey(w, r, keystore.Remove(name), &keys.Entry{Name: name}, "")
	case r.Method == http.MethodPost && action == "rotate":
		secret, digest, err := newOrGivenSecret(r)
		if err != nil {
			return apiError(http.StatusBadRequest, err)
		}
		rotated := new(keys.Entry)
		return changeKey(w, r, keystore.Rotate(name, digest, rotated), rotated, secret)
	}
	return methodNotAllowed(r, "DELETE /llm_proxy/keys/NAME or POST /llm_proxy/keys/NAME/rotate")
}

func allKeys() []Key {
	list := []Key{}
	for _, s := range keystore.All() {
		for _, e := range s.Configured() {
			k := newKey("configuration", *e)
			if !slices.ContainsFunc(list, func(other Key) bool { return reflect.DeepEqual(other, k) }) { // several sites may import one snippet
				list = append(list, k)
			}
		}
	}
	for _, s := range keystore.All() {
		for _, e := range s.Entries() {
			list = append(list, newKey(s.Name(), *e))
		}
	}
	return list
}

// createKey creates the key in the body. Without a digest in the body, it makes a secret.
func createKey(w http.ResponseWriter, r *http.Request) error {
	text, err := readBody(r, maxKeyBody)
	if err != nil {
		return apiError(http.StatusBadRequest, err)
	}
	e, err := keys.ParseEntry(text)
	if err == nil && e.Secret != "" {
		_, err = keys.ParseDigest(e.Secret)
	}
	if err != nil {
		return apiError(http.StatusBadRequest, err)
	}
	secret := ""
	if e.Secret == "" {
		secret = keys.NewSecret()
		e.Secret = keys.Digest(secret)
	}
	return changeKey(w, r, keystore.Add(e), e, secret)
}

// newOrGivenSecret returns the digest in the body. Without one, it makes a secret.
func newOrGivenSecret(r *http.Request) (secret, digest string, err error) {
	text, err := readBody(r, maxDigestBody)
	if err != nil {
		return "", "", err
	}
	if digest = strings.TrimSpace(string(text)); digest != "" {
		_, err = keys.ParseDigest(digest)
		return "", digest, err
	}
	secret = keys.NewSecret()
	return secret, keys.Digest(secret), nil
}

func readBody(r *http.Request, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("the body is larger than %d bytes", limit)
	}
	return text, err
}

// changeKey applies an edit to the store that the request selects, and answers with the changed key.
func changeKey(w http.ResponseWriter, r *http.Request, edit keystore.Edit, changed *keys.Entry, secret string) error {
	store, err := selectStore(r)
	if err != nil {
		return apiError(http.StatusConflict, err)
	}
	var storeErr keystore.StoreError
	switch err := store.Change(edit); {
	case errors.Is(err, keystore.ErrNoKey):
		return apiError(http.StatusNotFound, err)
	case errors.As(err, &storeErr):
		return apiError(http.StatusServiceUnavailable, err)
	case err != nil:
		return apiError(http.StatusConflict, err)
	}
	answer := newKey(store.Name(), *changed)
	answer.Plain = secret
	return writeJSON(w, answer)
}

// selectStore returns the store that the parameter kept_in names, or the only one.
func selectStore(r *http.Request) (*keystore.Store, error) {
	stores, name := keystore.All(), r.URL.Query().Get("kept_in")
	if name != "" {
		stores = slices.DeleteFunc(stores, func(s *keystore.Store) bool { return s.Name() != name })
	}
	switch len(stores) {
	case 0:
		return nil, errors.New("no site stores keys there; configure key, keys_file or require_key")
	case 1:
		return stores[0], nil
	}
	var names []string
	for _, s := range stores {
		names = append(names, s.Name())
	}
	return nil, fmt.Errorf("keys are stored in more than one place; select one with ?kept_in= or --kept-in: %s", strings.Join(names, ", "))
}
