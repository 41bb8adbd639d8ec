package llmproxy

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// vault takes a reference to where the handler's keys are kept that come and go while Caddy runs: the file of keys, else the
// shared state, else this machine.
func (h *Handler) vault() (*vault, error) {
	name, doc, err := h.document()
	if err != nil {
		return nil, err
	}
	place := any(name)
	if shared, ok := doc.(*sharedKeys); ok {
		place = shared.client // of which there may be several, also for a while when a reload names another server
	}
	value, _, err := vaults.LoadOrNew(place, func() (caddy.Destructor, error) {
		v := newVault(name, doc)
		if shared, ok := doc.(*sharedKeys); ok {
			v.file = shared.recall()
		}
		if _, isFile := doc.(*keysFile); isFile {
			if _, err := v.load(); err != nil {
				return nil, fmt.Errorf("keys_file %s: %w", name, err)
			}
		}
		time.AfterFunc(firstLook, v.watch) // a configuration that is only validated asks nobody
		return v, nil
	})
	if err != nil {
		return nil, err
	}
	h.lasting = append([]func(){func() { vaults.Delete(place) }}, h.lasting...) //nolint:errcheck // Destruct does not fail
	return value.(*vault), nil
}

func (h *Handler) document() (name string, doc document, err error) {
	if h.KeysFile != "" {
		path, err := filepath.Abs(caddy.NewReplacer().ReplaceKnown(h.KeysFile, ""))
		return path, &keysFile{path: path}, err
	}
	client, err := h.redis()
	if err != nil || client != nil {
		return "state", &sharedKeys{client: client, copy: h.remembered("keys")}, err
	}
	return onThisMachine, &savedKeys{ledger: h.ledger()}, nil
}
