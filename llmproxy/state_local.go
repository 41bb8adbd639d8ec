package llmproxy

import (
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
)

// ledgers holds what keeps what was used: the file of this machine by its path, which one process opens once, and shared
// states by their clients. A reload goes on with them.
var ledgers = caddy.NewUsagePool()

// sharedLedger is what the pool holds for a file.
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
	if !h.underWay.afterLast(h.lasting) && h.used != nil {
		h.used.Flush() //nolint:errcheck // was reported
	}
	h.lasting = nil
}

// reportLedger logs when a ledger cannot be used, and when it can be again. The logger is that of the process, because
// ledgers outlive configurations.
func reportLedger(err error) {
	log := caddy.Log().Named("http.handlers.llm_proxy.ledger")
	if err == nil {
		log.Info("usage is written again")
		return
	}
	log.Error("usage waits in memory until this is mended, and is lost if Caddy ends before", zap.Error(err))
}
