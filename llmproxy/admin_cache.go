package llmproxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
)

// A cacheStatus is a cache as the admin API shows it. Entries, Bytes and Evicted are of memory alone.
type cacheStatus struct {
	Name      string `json:"name"`
	Entries   int    `json:"entries"`
	Bytes     int64  `json:"bytes"`
	Evicted   uint64 `json:"evicted"`
	Pending   int64  `json:"pending_bytes"`
	Hits      int64  `json:"hits"`
	Misses    int64  `json:"misses"`
	Coalesced int64  `json:"coalesced"`
	Bypassed  int64  `json:"bypassed"`
	Stored    int64  `json:"stored"`
	Saved     int64  `json:"saved_tokens"`
}

func cacheStatusOf(name string, c *caching.Cache) cacheStatus {
	s := cacheStatus{
		Name: name, Pending: c.Flights.Pending(), Hits: c.Counts.Hits.Load(), Misses: c.Counts.Misses.Load(), Coalesced: c.Counts.Coalesced.Load(),
		Bypassed: c.Counts.Bypassed.Load(), Stored: c.Counts.Stored.Load(), Saved: c.Counts.Saved.Load(),
	}
	s.Entries, s.Bytes, s.Evicted = c.Usage()
	return s
}

// adminCache answers GET /llm_proxy/cache: what the caches hold, and what happened since they were made.
func adminCache(w http.ResponseWriter, _ *http.Request) error {
	list := []cacheStatus{}
	caches.Range(func(name, value any) bool {
		list = append(list, cacheStatusOf(name.(string), value.(sharedCache).Cache))
		return true
	})
	slices.SortFunc(list, func(a, b cacheStatus) int { return strings.Compare(a.Name, b.Name) })
	return adminJSON(w, list)
}

// A purgeAnswer tells how many entries were forgotten.
type purgeAnswer struct {
	Purged int `json:"purged"`
}

// A purger forgets the entries of a model, or all.
type purger interface {
	Purge(ctx context.Context, model string) (int, error)
}

// adminPurge answers POST /llm_proxy/cache/purge?name=&model=: the entries of a model, as clients call it, or all, in the
// cache of that name, or in all.
func adminPurge(w http.ResponseWriter, r *http.Request) error {
	name, model, err := toPurge(r)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	var stores []purger
	caches.Range(func(key, value any) bool {
		if name == "" || name == key {
			stores = append(stores, value.(sharedCache).Cache)
		}
		return true
	})
	redisCaches.Range(func(_, value any) bool {
		if store := value.(redisCache); name == "" || name == store.name {
			stores = append(stores, store)
		}
		return true
	})
	var answer purgeAnswer
	for _, s := range stores {
		n, err := s.Purge(r.Context(), model)
		answer.Purged += n
		if err != nil {
			return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: fmt.Errorf("%d entries are gone, but not all: %w", answer.Purged, err)}
		}
	}
	return adminJSON(w, answer)
}

// toPurge reads which cache and which model are meant; empty for all. What is mistyped, or a variable of a script that is empty, would
// purge everything, and is refused.
func toPurge(r *http.Request) (name, model string, err error) {
	asked, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("reading the query: %w", err)
	case r.ContentLength != 0:
		return "", "", errors.New("name and model stand in the query, not in a body")
	}
	for parameter, values := range asked {
		switch {
		case parameter != "name" && parameter != "model":
			return "", "", fmt.Errorf("%q is neither name nor model", parameter)
		case len(values) != 1 || values[0] == "":
			return "", "", fmt.Errorf("%s must be given once and not be empty; without it, all go", parameter)
		}
	}
	return asked.Get("name"), asked.Get("model"), nil
}
