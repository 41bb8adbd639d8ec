package llmproxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// A Semantic compares a chat's last message, by its embedding, with those that were answered in the same conversation: it
// must be the user's and text alone, and everything else of the request the same.
type Semantic struct {
	// The target that embeds: an upstream and its model there, "upstream/model". Required.
	Embed string `json:"embed,omitempty"`

	// How similar two messages must be: the cosine of their embeddings, above 0 and at most 1. What is right depends on the
	// model that embeds. Default: 0.95.
	Threshold float64 `json:"threshold,omitempty"`

	// How many messages are kept to compare with, over all conversations; of more, the oldest go. Each takes its text, 320 bytes
	// and, once it was compared, four bytes for every dimension of its embedding. Default: 10000.
	MaxEntries int `json:"max_entries,omitempty"`

	// How long the embedding may take; what takes longer is a miss. Default: 500ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`
}

// The defaults of a Semantic.
const (
	defaultThreshold       = 0.95
	defaultSemanticEntries = 10_000
	defaultEmbedTimeout    = 500 * time.Millisecond
)

func (s *Semantic) check() error {
	if s == nil {
		return nil
	}
	switch name, model, _ := strings.Cut(s.Embed, "/"); {
	case name == "" || model == "":
		return fmt.Errorf("semantic: embed %q is no target: write the upstream and its model there, such as gpu/nomic-embed-text", s.Embed)
	case s.Threshold < 0 || s.Threshold > 1:
		return fmt.Errorf("semantic: threshold %v is not above 0 and at most 1", s.Threshold)
	case s.MaxEntries < 0 || s.Timeout < 0:
		return errors.New("semantic: max_entries and timeout must not be below zero")
	}
	return nil
}

// semantic makes the rules; nil without them.
func (h *Handler) semantic(upstreams []*upstream.Upstream) (*gateway.Semantic, error) {
	s := h.Cache.Semantic
	if s == nil {
		return nil, nil
	}
	name, model, _ := strings.Cut(s.Embed, "/")
	at := slices.IndexFunc(upstreams, func(u *upstream.Upstream) bool { return u.Name == name })
	if at < 0 {
		return nil, fmt.Errorf("cache: semantic: embed: there is no upstream %q", name)
	}
	rules, err := gateway.NewSemantic(upstreams[at], model)
	if err != nil {
		return nil, fmt.Errorf("cache: semantic: %w", err)
	}
	rules.Threshold, rules.MaxEntries = or(s.Threshold, defaultThreshold), or(s.MaxEntries, defaultSemanticEntries)
	rules.Timeout = time.Duration(or(s.Timeout, caddy.Duration(defaultEmbedTimeout)))
	rules.Failed = h.embedderFails(s.Embed)
	return rules, nil
}

// warnEvery is how often the log says that an embedder fails.
const warnEvery = time.Minute

func (h *Handler) embedderFails(target string) func(error) {
	var last atomic.Int64
	return func(err error) {
		now, before := time.Now().UnixNano(), last.Load()
		if now-before >= int64(warnEvery) && last.CompareAndSwap(before, now) {
			h.logger.Warn("questions are not embedded: those in other words are misses", zap.String("embed", target), zap.Error(err))
		}
	}
}
