package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// A CacheStatus is a cache as the admin API shows it. Entries, Bytes and Evicted are of memory alone.
type CacheStatus struct {
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

func cacheStatusOf(name string, c *caching.Cache) CacheStatus {
	s := CacheStatus{
		Name: name, Pending: c.Leaders.Pending(), Hits: c.Counts.Hits.Load(), Misses: c.Counts.Misses.Load(), Coalesced: c.Counts.Coalesced.Load(),
		Bypassed: c.Counts.Bypassed.Load(), Stored: c.Counts.Stored.Load(), Saved: c.Counts.Saved.Load(),
	}
	s.Entries, s.Bytes, s.Evicted = c.Usage()
	return s
}

// showCaches answers GET /llm_proxy/cache: what the caches hold, and what happened since they were made.
func showCaches(w http.ResponseWriter, _ *http.Request) error {
	list := []CacheStatus{}
	state.Each(state.Caches, func(name any, c *caching.Cache) { list = append(list, cacheStatusOf(name.(string), c)) })
	slices.SortFunc(list, func(a, b CacheStatus) int { return strings.Compare(a.Name, b.Name) })
	return answerJSON(w, list)
}

// A purgeAnswer tells how many entries were forgotten.
type purgeAnswer struct {
	Purged int `json:"purged"`
}

// A purger forgets the entries of a model, or all.
type purger interface {
	Purge(ctx context.Context, model string) (int, error)
}

// Purge answers POST /llm_proxy/cache/purge?name=&model=: the entries of a model, as clients call it, or all, in the
// cache of that name, or in all.
func Purge(w http.ResponseWriter, r *http.Request) error {
	name, model, err := toPurge(r)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
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
	var answer purgeAnswer
	for _, s := range stores {
		n, err := s.Purge(r.Context(), model)
		answer.Purged += n
		if err != nil {
			return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: fmt.Errorf("%d entries were purged, but not all: %w", answer.Purged, err)}
		}
	}
	return answerJSON(w, answer)
}

// toPurge reads which cache and which model are meant; empty for all. What is mistyped, or a variable of a script that is empty, would
// purge everything, and is refused.
func toPurge(r *http.Request) (name, model string, err error) {
	asked, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("reading the query: %w", err)
	case r.ContentLength != 0:
		return "", "", errors.New("write name and model in the query, not in a body")
	}
	for parameter, values := range asked {
		switch {
		case parameter != "name" && parameter != "model":
			return "", "", fmt.Errorf("unknown parameter %q; use name or model", parameter)
		case len(values) != 1 || values[0] == "":
			return "", "", fmt.Errorf("%s must be given once and must not be empty; without it, everything is purged", parameter)
		}
	}
	return asked.Get("name"), asked.Get("model"), nil
}

func CacheStatsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Shows what the caches hold, and their hits and misses",
		Long:  "Shows what the caches of the running Caddy hold, and their hits and misses since they were made. Entries and bytes are those in memory.",
		Args:  cobra.NoArgs,
	}
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) { return runCacheStats(fl, cmd.OutOrStdout()) })
	adminFlags(cmd)
	return cmd
}

func runCacheStats(fl caddycmd.Flags, out io.Writer) (int, error) {
	var list []CacheStatus
	if err := askJSON(fl, http.MethodGet, "/llm_proxy/cache", &list); err != nil {
		return failed(err)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tENTRIES\tBYTES\tHITS\tMISSES\tCOALESCED\tBYPASSED\tSTORED\tEVICTED\tSAVED TOKENS")
	for _, s := range list {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", cell(s.Name), s.Entries, s.Bytes, s.Hits, s.Misses, s.Coalesced, s.Bypassed, s.Stored, s.Evicted, s.Saved)
	}
	if err := table.Flush(); err != nil {
		return failed(err)
	}
	return caddy.ExitCodeSuccess, nil
}

func CachePurgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge [--model <name>] [--name <name>]",
		Short: "Purges answers: those of a model, or all",
		Long:  "Purges the answers of a model, as clients call it, or all, in the cache of a name, or in all caches of the running Caddy.",
		Args:  cobra.NoArgs,
	}
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) { return runCachePurge(fl, cmd.OutOrStdout()) })
	cmd.Flags().String("model", "", "The model whose answers are purged (default all)")
	cmd.Flags().String("name", "", "The cache to purge (default all)")
	adminFlags(cmd)
	return cmd
}

func runCachePurge(fl caddycmd.Flags, out io.Writer) (int, error) {
	asked := url.Values{}
	for _, name := range []string{"model", "name"} {
		if fl.Changed(name) { // an empty one is refused
			asked.Set(name, fl.String(name))
		}
	}
	var answer purgeAnswer
	if err := askJSON(fl, http.MethodPost, "/llm_proxy/cache/purge?"+asked.Encode(), &answer); err != nil {
		return failed(err)
	}
	fmt.Fprintln(out, answer.Purged, "answers were purged")
	return caddy.ExitCodeSuccess, nil
}

// askJSON reads what the running Caddy says.
func askJSON(fl caddycmd.Flags, method, uri string, into any) error {
	res, err := askAdmin(fl, method, uri, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}
