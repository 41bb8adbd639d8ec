package llmproxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name: "llm-cache", Usage: "<command>", Short: "The response cache of llm_proxy",
		CobraFunc: func(cmd *cobra.Command) { cmd.AddCommand(cacheStatsCommand(), cachePurgeCommand()) },
	})
}

func cacheStatsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Shows what the caches hold, and how often they helped",
		Long:  "Shows what the caches of the running Caddy hold, and how often they helped since they were made. Entries and bytes are those in memory; questions are those that a question in other words can be compared with.",
		Args:  cobra.NoArgs,
	}
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) { return runCacheStats(fl, cmd.OutOrStdout()) })
	adminFlags(cmd)
	return cmd
}

func runCacheStats(fl caddycmd.Flags, out io.Writer) (int, error) {
	var list []cacheStatus
	if err := adminAnswer(fl, http.MethodGet, "/llm_proxy/cache", &list); err != nil {
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

func cachePurgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge [--model <name>] [--name <name>]",
		Short: "Forgets answers: those of a model, or all",
		Long:  "Forgets the answers of a model, as clients call it, or all, in the cache of a name, or in all caches of the running Caddy.",
		Args:  cobra.NoArgs,
	}
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) { return runCachePurge(fl, cmd.OutOrStdout()) })
	cmd.Flags().String("model", "", "The model whose answers go (default all)")
	cmd.Flags().String("name", "", "The cache they go from (default all)")
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
	if err := adminAnswer(fl, http.MethodPost, "/llm_proxy/cache/purge?"+asked.Encode(), &answer); err != nil {
		return failed(err)
	}
	fmt.Fprintln(out, answer.Purged, "answers are gone")
	return caddy.ExitCodeSuccess, nil
}

// adminAnswer reads what the running Caddy says.
func adminAnswer(fl caddycmd.Flags, method, uri string, into any) error {
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
