package llmproxy

import (
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
)

// ledgers holds the file of what was used and saved on this machine, by its path: one process opens it once, and a reload
// goes on with it.
var ledgers = caddy.NewUsagePool()

// sharedLedger is what the pool holds.
type sharedLedger struct{ *ledger.Ledger }

// Destruct implements caddy.Destructor.
func (s sharedLedger) Destruct() error { return s.Close() }

// ledger gives the file below Caddy's data directory. It is opened, and made, when something is first written to it or read
// from it: a configuration that is only validated touches nothing.
func (h *Handler) ledger() *ledger.Ledger {
	if h.local != nil {
		return h.local
	}
	path := filepath.Join(caddy.AppDataDir(), "llm_proxy", "ledger.db")
	value, _ := ledgers.LoadOrStore(path, sharedLedger{ledger.New(ledger.Config{Path: path, Report: reportLedger})})
	h.local = value.(sharedLedger).Ledger
	h.lasting = append(h.lasting, func() { ledgers.Delete(path) }) //nolint:errcheck // was reported
	return h.local
}

// letGo gives back what requests need to their end, when the last one is over. What was used until now is written in any
// case: the process may end before the others do.
func (h *Handler) letGo() {
	if !h.underWay.afterLast(h.lasting) && h.local != nil {
		h.local.Flush() //nolint:errcheck // was reported
	}
	h.lasting = nil
}

// reportLedger logs when the file cannot be used, and when it can be again. The logger is that of the process, because the
// ledger outlives configurations.
func reportLedger(err error) {
	log := caddy.Log().Named("http.handlers.llm_proxy.ledger")
	if err == nil {
		log.Info("usage and keys are written again")
		return
	}
	log.Error("usage waits in memory and is lost with this process, and keys cannot be kept, until this is mended", zap.Error(err))
}
