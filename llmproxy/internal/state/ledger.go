package state

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
)

// StartDelay is how long after Provision background work begins: a configuration that is only validated, or that fails to
// load, opens no file and dials no server.
const StartDelay = 250 * time.Millisecond

// A UsageLedger adds up usage, on this machine or in the shared state.
type UsageLedger interface {
	Add(ledger.Usage)
	Query(ledger.Query) ([]ledger.Row, error)
	Flush() error
	Close() error
}

// Ledger returns the embedded store in Caddy's data directory. The file is created and opened when it is first used.
func Ledger(c *Closer) *ledger.Ledger {
	path := filepath.Join(caddy.AppDataDir(), "llm_proxy", "ledger.db")
	l, _ := Acquire(c.AddLasting, Ledgers, path, func() (UsageLedger, error) { // building it cannot fail
		return ledger.New(ledger.Config{Path: path, Report: logLedger}), nil
	})
	return l.(*ledger.Ledger)
}

// SharedLedger returns the usage ledger of the shared state.
func SharedLedger(c *Closer, client redis.UniversalClient) UsageLedger {
	l, _ := Acquire(c.AddLasting, Ledgers, client, func() (UsageLedger, error) { // building it cannot fail
		return ledger.NewShared(client, logLedger), nil
	})
	return l
}

// QueryUsage merges the usage of all ledgers: handlers may share different states.
func QueryUsage(q ledger.Query) ([]ledger.Row, error) {
	var all []UsageLedger
	Each(Ledgers, func(_ any, l UsageLedger) { all = append(all, l) })
	if len(all) == 0 {
		return nil, errors.New("no llm_proxy is configured")
	}
	var results [][]ledger.Row
	for _, l := range all {
		rows, err := l.Query(q)
		if err != nil {
			return nil, err
		}
		results = append(results, rows)
	}
	return ledger.Merge(results...), nil
}

// logLedger logs that a ledger cannot be written, and with nil that it can be written again. Ledgers outlive configurations,
// so it uses the logger of the process.
func logLedger(err error) {
	log := caddy.Log().Named("http.handlers.llm_proxy.ledger")
	if err == nil {
		log.Info("usage can be written again")
		return
	}
	log.Error("cannot write usage; it is kept in memory and is lost if Caddy exits before the problem is fixed", zap.Error(err))
}
