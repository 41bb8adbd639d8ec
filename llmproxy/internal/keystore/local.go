package keystore

import (
	"bytes"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

const (
	keysBucket = "keys"
	keysEntry  = "all"
)

// OpenLocal returns the store of this machine.
func OpenLocal(c *state.Closer) (*Store, error) {
	embedded := state.Ledger(c)
	return open(c, state.ThisMachine, func() (*Store, error) {
		return newStore(state.ThisMachine, &localDocument{ledger: embedded}), nil
	})
}

// localDocument is a document in the embedded store of this machine, which one process opens at a time.
type localDocument struct {
	ledger *ledger.Ledger
	mu     sync.Mutex // held by the writer
}

func (l *localDocument) exclusive() bool { return true }

func (l *localDocument) read() (text []byte, err error) {
	err = l.ledger.Load(keysBucket, func(name string, value []byte) error {
		if name == keysEntry {
			text = bytes.Clone(value)
		}
		return nil
	})
	return text, err
}

func (l *localDocument) replace(old, text []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := l.read()
	if err != nil {
		return err
	}
	if !bytes.Equal(now, old) {
		return errConflict
	}
	return l.ledger.SaveNow(keysBucket, keysEntry, text)
}
