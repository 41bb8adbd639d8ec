package state

import (
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
)

// FirstUse is how long after Provision anything outside of the process is first touched: a configuration that is only
// validated, or that fails to load, opens no file and dials nobody.
const FirstUse = 250 * time.Millisecond

// A UsageLedger sums up what was used: in a file of this machine, or in the state that several Caddys share.
type UsageLedger interface {
	Add(ledger.Use)
	Query(ledger.Query) ([]ledger.Row, error)
	Flush() error
}

// Ledger returns the embedded store below Caddy's data directory, which one process opens once. It is opened, and made, when
// something is first written to it or read from it.
func Ledger(c *Closer) *ledger.Ledger {
	path := filepath.Join(caddy.AppDataDir(), "llm_proxy", "ledger.db")
	l, _ := Acquire(Ledgers, path, func() (UsageLedger, error) { // building it cannot fail
		return ledger.New(ledger.Config{Path: path, Report: reportLedger}), nil
	}, closeLedger)
	c.AddLasting(func() { Ledgers.Release(path) })
	return l.(*ledger.Ledger)
}

// SharedLedger returns the ledger of a shared state.
func SharedLedger(c *Closer, client redis.UniversalClient) UsageLedger {
	l, _ := Acquire(Ledgers, client, func() (UsageLedger, error) { // building it cannot fail
		return ledger.NewShared(client, reportLedger), nil
	}, closeLedger)
	c.AddLasting(func() { Ledgers.Release(client) })
	return l
}

func closeLedger(l UsageLedger) error { return l.(interface{ Close() error }).Close() }

// reportLedger logs when a ledger cannot be used, and when it can be again. The logger is that of the process, because
// ledgers outlive configurations.
func reportLedger(err error) {
	log := caddy.Log().Named("http.handlers.llm_proxy.ledger")
	if err == nil {
		log.Info("usage is written again")
		return
	}
	log.Error("usage cannot be written; it waits in memory, and is lost if Caddy ends before this is repaired", zap.Error(err))
}
