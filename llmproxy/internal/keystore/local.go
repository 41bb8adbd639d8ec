package keystore

import (
	"bytes"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
)

// A localDocument is a document in this machine's ledger.
type localDocument struct {
	ledger *ledger.Ledger
	mu     sync.Mutex // one writer
}

const (
	keysBucket = "keys"
	keysEntry  = "all"
)

func (s *localDocument) read() (text []byte, err error) {
	err = s.ledger.Load(keysBucket, func(name string, value []byte) error {
		if name == keysEntry {
			text = bytes.Clone(value)
		}
		return nil
	})
	return text, err
}

func (s *localDocument) replace(old, text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.read()
	if err != nil {
		return err
	}
	if !bytes.Equal(now, old) {
		return errReplaced
	}
	return s.ledger.SaveNow(keysBucket, keysEntry, text)
}
