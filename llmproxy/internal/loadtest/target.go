package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A Dialect is the API in which requests are sent.
type Dialect string

// The dialects.
const (
	OpenAI    Dialect = "openai"    // POST /v1/chat/completions
	Anthropic Dialect = "anthropic" // POST /v1/messages
	Ollama    Dialect = "ollama"    // POST /api/chat
)

// Dialects returns all dialects.
func Dialects() []Dialect { return []Dialect{OpenAI, Anthropic, Ollama} }

// A Target is what is measured.
type Target struct {
	// URL is the server's base, as the SDKs of the dialect know it. For OpenAI's, an address without a path gets /v1.
	URL     string
	Dialect Dialect
	// Model is the first that the server lists if it is empty.
	Model string
	// Key is sent as the dialect's SDKs send it, unless it is empty.
	Key string
}

const (
	maxModelList = 8 << 20
	listTimeout  = 30 * time.Second
)

// Find checks the address and returns the target with its base and its model.
func (t Target) Find(ctx context.Context) (Target, error) {
	u, err := url.Parse(t.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return t, fmt.Errorf("%q is not an address; it must look like http://localhost:8080", t.URL)
	case u.User != nil:
		return t, errors.New("the address must not contain a user or a password; give the key with --key")
	case u.RawQuery != "" || u.Fragment != "":
		return t, fmt.Errorf("the address %s must end with its path", t.URL)
	case !slices.Contains(Dialects(), t.Dialect):
		return t, fmt.Errorf("dialect %q: must be one of openai, anthropic, ollama", t.Dialect)
	}
	t.URL = strings.TrimRight(t.URL, "/")
	switch {
	case t.Dialect == OpenAI && strings.Trim(u.Path, "/") == "":
		t.URL += "/v1"
	case t.Dialect == Anthropic: // its SDKs add /v1 themselves
		t.URL = strings.TrimSuffix(t.URL, "/v1")
	}
	if t.Model != "" {
		return t, nil
	}
	models, err := t.Models(ctx)
	if err != nil {
		return t, listError(t.URL, "--model", "--key", err)
	}
	// The first one may be of another sort: a list says nothing of that in any form that all servers share.
	i := slices.IndexFunc(models, func(name string) bool { return !strings.Contains(strings.ToLower(name), "embed") })
	if i < 0 {
		return t, fmt.Errorf("%s lists no model that can chat; give one with --model", t.URL)
	}
	t.Model = models[i]
	return t, nil
}

// listError says what to do about a list of models that could not be read.
func listError(address, modelFlag, keyFlag string, err error) error {
	var f *Failure
	switch {
	case errors.As(err, &f) && f.Class == Unreachable:
		return fmt.Errorf("%s does not answer: %w", address, err)
	case errors.As(err, &f) && f.Status == http.StatusUnauthorized:
		return fmt.Errorf("%s wants another key (%s): %w", address, keyFlag, err)
	}
	return fmt.Errorf("listing the models of %s: %w; give the model with %s", address, err, modelFlag)
}

// FindLike is Find for a server that is compared with another one. Without a model it takes the same one, or the only one that it lists.
func (t Target) FindLike(ctx context.Context, model string) (Target, error) {
	chosen := t.Model
	t.Model = model // so that Find lists none
	t, err := t.Find(ctx)
	if err != nil || chosen != "" {
		t.Model = chosen
		return t, err
	}
	models, err := t.Models(ctx)
	switch {
	case err != nil:
		return t, listError(t.URL, "--compare-model", "--compare-key", err)
	case slices.Contains(models, model):
	case len(models) == 1:
		t.Model = models[0]
	default:
		return t, fmt.Errorf("%s does not list the model %q; give one of these with --compare-model: %s", t.URL, model, Printable(strings.Join(models, ", ")))
	}
	return t, nil
}

// Models returns the names of the models that the server lists.
func (t Target) Models(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	path := map[Dialect]string{OpenAI: "/models", Anthropic: "/v1/models", Ollama: "/api/tags"}[t.Dialect]
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL+path, nil)
	if err != nil {
		return nil, err
	}
	t.authorize(req.Header)
	res, err := newHTTPClient(http.DefaultTransport).Do(req)
	if err != nil {
		return nil, classify(err, t.Key)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxModelList))
	if err != nil {
		return nil, classify(err, t.Key)
	}
	if res.StatusCode != http.StatusOK {
		return nil, classify(&statusError{res.StatusCode, body}, t.Key)
	}
	return modelNames(body), nil
}

// modelNames reads a list of models: OpenAI's and Anthropic's data, or Ollama's models.
func modelNames(body []byte) (names []string) {
	_ = jsonspan.EachMember(body, func(key, list []byte) bool { // what is no list has no names
		if string(key) != "data" && string(key) != "models" {
			return true
		}
		_ = jsonspan.EachElement(list, func(entry []byte) bool {
			var id, name string
			_ = jsonspan.EachMember(entry, func(key, value []byte) bool {
				switch string(key) {
				case "id":
					id, _ = jsonspan.String(value)
				case "name":
					name, _ = jsonspan.String(value)
				}
				return true
			})
			if id == "" {
				id = name
			}
			if id != "" {
				names = append(names, id)
			}
			return true
		})
		return len(names) == 0 // llama.cpp has both
	})
	return names
}

// authorize adds the key as the SDKs of the dialect do.
func (t Target) authorize(h http.Header) {
	switch {
	case t.Dialect == Anthropic:
		h.Set("Anthropic-Version", "2023-06-01")
		if t.Key != "" {
			h.Set("X-Api-Key", t.Key)
		}
	case t.Key != "":
		h.Set("Authorization", "Bearer "+t.Key)
	}
}
