package llmproxy

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name: "llm-key", Usage: "<command>", Short: "Clients' keys of llm_proxy, and what was used with them",
		CobraFunc: func(cmd *cobra.Command) {
			for _, sub := range keyCommands {
				cmd.AddCommand(sub())
			}
		},
	})
}

// keyCommands make the subcommands of llm-key.
var keyCommands = []func() *cobra.Command{createCommand, listCommand, revokeCommand, rotateCommand, usageCommand}

// adminFlags adds the flags that say where the admin API of the running Caddy is.
func adminFlags(cmd *cobra.Command) {
	cmd.Flags().String("address", "", "The address of the running Caddy's admin API (default localhost:2019, or $CADDY_ADMIN)")
	cmd.Flags().StringP("config", "c", "", "The configuration to take that address from")
	cmd.Flags().StringP("adapter", "a", "", "The adapter of that configuration")
}

// askAdmin sends a request to the running Caddy.
func askAdmin(fl caddycmd.Flags, method, uri string, body io.Reader) (*http.Response, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(fl.String("address"), nil, fl.String("config"), fl.String("adapter"))
	if err != nil {
		return nil, err
	}
	return caddycmd.AdminAPIRequest(address, method, uri, nil, body)
}

// failed ends a command.
func failed(err error) (int, error) { return caddy.ExitCodeFailedQuit, err }
