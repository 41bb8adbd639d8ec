package llmproxy

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// replicas holds what is known of each address: shared by all handlers, kept over reloads. It holds facts, never rules, so
// that a configuration that fails to load has changed nothing.
var replicas = caddy.NewUsagePool()

// conversations holds which rule each conversation got, under one key: kept over reloads. It holds names of rules only; where
// one is gone the next request is decided anew.
var conversations = caddy.NewUsagePool()

type sharedPins struct{ gateway.Affinity }

// Destruct implements caddy.Destructor.
func (*sharedPins) Destruct() error { return nil }

// pins takes a reference to the conversations; Cleanup gives it back.
func (h *Handler) pins() *gateway.Affinity {
	fresh := new(sharedPins)
	value, loaded := conversations.LoadOrStore("pins", fresh)
	h.closers = append(h.closers, func() { conversations.Delete("pins") }) //nolint:errcheck // Destruct does not fail
	if loaded {
		return &value.(*sharedPins).Affinity
	}
	return &fresh.Affinity
}

// sharedReplica is what the pool holds.
type sharedReplica struct{ router.Replica }

// Destruct implements caddy.Destructor.
func (*sharedReplica) Destruct() error { return nil }

// replica takes a reference to an address; release gives all of them back.
func (h *Handler) replica(address string) *router.Replica {
	fresh := &sharedReplica{}
	fresh.Address = address
	value, loaded := replicas.LoadOrStore(address, fresh)
	h.acquired = append(h.acquired, address)
	if loaded {
		return &value.(*sharedReplica).Replica
	}
	return &fresh.Replica
}

func (h *Handler) release() {
	for _, address := range h.acquired {
		replicas.Delete(address) //nolint:errcheck // Destruct does not fail
	}
	h.acquired = nil
}
