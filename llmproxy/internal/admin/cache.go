package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// A Cache is a cache as the admin API shows it: its size in memory, and what happened since it was created.
type Cache struct {
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

func newCache(name string, c *caching.Cache) Cache {
	shown := Cache{
		Name: name, Pending: c.Leaders.PendingBytes(), Hits: c.Counts.Hits.Load(), Misses: c.Counts.Misses.Load(), Coalesced: c.Counts.Coalesced.Load(),
		Bypassed: c.Counts.Bypassed.Load(), Stored: c.Counts.Stored.Load(), Saved: c.Counts.SavedTokens.Load(),
	}
	shown.Entries, shown.Bytes, shown.Evicted = c.Size()
	return shown
}

// listCaches answers GET /llm_proxy/cache.
func listCaches(w http.ResponseWriter, _ *http.Request) error {
	list := []Cache{}
	state.Each(state.Caches, func(name any, c *caching.Cache) { list = append(list, newCache(name.(string), c)) })
	slices.SortFunc(list, func(a, b Cache) int { return strings.Compare(a.Name, b.Name) })
	return writeJSON(w, list)
}

// purged is the answer to a purge.
type purged struct {
	// Purged is the number of deleted entries.
	Purged int `json:"purged"`
}

// A purger deletes the entries of a model, or all entries if the model is empty.
type purger interface {
	Purge(ctx context.Context, model string) (int, error)
}

// purgeCaches answers POST /llm_proxy/cache/purge?name=&model=. It deletes the entries of a model, by the name that clients use,
// or of all models; in the cache of that name, or in all caches.
func purgeCaches(w http.ResponseWriter, r *http.Request) error {
	name, model, err := purgeParameters(r)
	if err != nil {
		return apiError(http.StatusBadRequest, err)
	}
	var stores []purger
	state.Each(state.Caches, func(key any, c *caching.Cache) {
		if name == "" || name == key {
			stores = append(stores, c)
		}
	})
	state.Each(state.CacheServers, func(key any, c *caching.Redis) {
		if name == "" || name == key.(state.CacheServer).Cache {
			stores = append(stores, c)
		}
	})
	var answer purged
	for _, s := range stores {
		n, err := s.Purge(r.Context(), model)
		answer.Purged += n
		if err != nil {
			return apiError(http.StatusServiceUnavailable, fmt.Errorf("%d entries were purged, but not all: %w", answer.Purged, err))
		}
	}
	return writeJSON(w, answer)
}

// purgeParameters returns the cache and the model to purge; an empty name means all. Because that is the default, it rejects
// misspelled parameters, and empty ones, which a script with an unset variable sends.
func purgeParameters(r *http.Request) (name, model string, err error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("reading the query: %w", err)
	case r.ContentLength != 0:
		return "", "", errors.New("write name and model in the query, not in a body")
	}
	for parameter, values := range query {
		switch {
		case parameter != "name" && parameter != "model":
			return "", "", fmt.Errorf("unknown parameter %q; use name or model", parameter)
		case len(values) != 1 || values[0] == "":
			return "", "", fmt.Errorf("%s must be given once and must not be empty; without it, everything is purged", parameter)
		}
	}
	return query.Get("name"), query.Get("model"), nil
}

func cacheStatsCommand() *cobra.Command {
	return newCommand(&cobra.Command{
		Use:   "stats",
		Short: "Shows the size of the caches, and their hits and misses",
		Long:  "Shows the size of the running Caddy's caches, and their hits and misses since they were created. Entries and bytes are those in memory.",
		Args:  cobra.NoArgs,
	}, func(fl caddycmd.Flags, out io.Writer) error {
		var list []Cache
		if err := requestJSON(fl, http.MethodGet, "/llm_proxy/cache", &list); err != nil {
			return err
		}
		rows := [][]any{{"NAME", "ENTRIES", "BYTES", "HITS", "MISSES", "COALESCED", "BYPASSED", "STORED", "EVICTED", "SAVED TOKENS"}}
		for _, c := range list {
			rows = append(rows, []any{c.Name, c.Entries, c.Bytes, c.Hits, c.Misses, c.Coalesced, c.Bypassed, c.Stored, c.Evicted, c.Saved})
		}
		return printTable(out, rows)
	})
}

func cachePurgeCommand() *cobra.Command {
	cmd := newCommand(&cobra.Command{
		Use:   "purge [--model <name>] [--name <name>]",
		Short: "Deletes cached answers of one model or of all",
		Long:  "Deletes the cached answers of one model or of all models, in one cache or in all caches of the running Caddy.",
		Args:  cobra.NoArgs,
	}, func(fl caddycmd.Flags, out io.Writer) error {
		query := url.Values{}
		for _, name := range []string{"model", "name"} {
			if fl.Changed(name) { // the server rejects an empty one
				query.Set(name, fl.String(name))
			}
		}
		var answer purged
		if err := requestJSON(fl, http.MethodPost, "/llm_proxy/cache/purge?"+query.Encode(), &answer); err != nil {
			return err
		}
		fmt.Fprintln(out, answer.Purged, "answers purged")
		return nil
	})
	cmd.Flags().String("model", "", "The model to purge, by the name that clients use (default all)")
	cmd.Flags().String("name", "", "The cache to purge (default all)")
	return cmd
}
