package keystore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// A Keyring has all keys of one handler: those of its configuration, and the current ones of a store.
type Keyring struct {
	inline, users []*keys.Entry
	store         *Store
	logger        *zap.Logger
	set           atomic.Pointer[keys.Set]
}

// NewKeyring returns a keyring of the keys of a configuration, as HashSecrets returns them, and those of a store. Users are
// authenticated by other handlers.
func NewKeyring(c *state.Closer, s *Store, inline, users []*keys.Entry, logger *zap.Logger) (*Keyring, error) {
	k := &Keyring{inline: inline, users: users, store: s, logger: logger}
	s.subscribe(k)
	c.Add(func() { s.unsubscribe(k) })
	err := k.useAll()
	if loaded, _ := s.Loaded(); err != nil && !loaded { // the keys come from a snapshot
		err = k.useNonConflicting(err)
	}
	return k, err
}

// HashSecrets returns keys with their placeholders replaced and their secrets hashed. A plain secret is an error: it can only
// come from JSON, which Caddy stores and shows as it is, because the secrets of a Caddyfile are hashed when it is adapted.
func HashSecrets(configured []*keys.Entry) (list []*keys.Entry, err error) {
	var errs []error
	for i, e := range configured {
		hashed, err := hashSecret(e)
		if err != nil {
			errs = append(errs, &keys.EntryError{Err: fmt.Errorf("key %.80q: %w", e.Name, err), Index: i})
		}
		list = append(list, hashed)
	}
	return list, errors.Join(errs...)
}

func hashSecret(e *keys.Entry) (*keys.Entry, error) {
	hashed := *e
	secret := strings.TrimSpace(state.WithoutMark(caddy.NewReplacer().ReplaceKnown(e.Secret, "")))
	switch {
	case secret == "":
		return nil, fmt.Errorf("the secret is empty; set the value of %s in Caddy's environment", e.Secret)
	case keys.IsDigest(secret):
		hashed.Secret = secret
	case secret == e.Secret:
		return nil, errors.New("the secret is written in plain text in the configuration, which Caddy stores and shows; use its digest, sha256:HEX, or a placeholder")
	case len(secret) < keys.MinSecret:
		return nil, fmt.Errorf("the secret has only %d characters; use at least %d, or create one with `caddy llm-key create`", len(secret), keys.MinSecret)
	default:
		hashed.Secret = keys.Digest(secret)
	}
	return &hashed, nil
}

// Current returns the keys. Complete is false as long as the store could not be read: a key that is not in the set may exist.
func (k *Keyring) Current() (set *keys.Set, complete bool) {
	complete, tried := k.store.Loaded()
	if !tried {
		k.store.Refresh() // the first request arrived before the first poll
		complete, _ = k.store.Loaded()
	}
	return k.set.Load(), complete
}

// compile returns the set of the configured keys and others.
func (k *Keyring) compile(more []*keys.Entry) (*keys.Set, error) {
	return keys.Compile(append(slices.Clip(k.inline), more...), k.users)
}

// use makes a set of keys the current one. If they conflict, the current one stays.
func (k *Keyring) use(more []*keys.Entry) error {
	set, err := k.compile(more)
	if err == nil {
		k.set.Store(set)
	}
	return err
}

func (k *Keyring) useAll() error { return k.use(k.store.Entries()) }

// useNonConflicting uses the store's keys except those that conflict with the configuration, which may have gained a key of the
// same name or secret while Caddy was down. It fails if that is not the cause of the conflict.
func (k *Keyring) useNonConflicting(conflict error) error {
	taken := map[string]bool{}
	for _, e := range k.inline {
		taken[e.Name], taken[strings.ToLower(e.Secret)] = true, true
	}
	fitting := slices.DeleteFunc(slices.Clone(k.store.Entries()), func(e *keys.Entry) bool {
		return taken[e.Name] || taken[strings.ToLower(e.Secret)]
	})
	if err := k.use(fitting); err != nil {
		return err
	}
	k.logger.Error("some stored keys conflict with the configuration and are ignored; revoke them or change the configuration", zap.String("keys", k.store.name), zap.Error(conflict))
	return nil
}

// apply uses the changed keys of the store; first means that they were loaded for the first time.
func (k *Keyring) apply(first bool) {
	err := k.useAll()
	if err != nil && first { // there are no previous keys to keep
		err = k.useNonConflicting(err)
	}
	count := len(k.store.Entries())
	switch {
	case err != nil:
		k.logger.Error("changed keys conflict with the configuration and are not applied; the previous keys stay valid", zap.String("keys", k.store.name), zap.Error(err))
	case count > 0 || !first:
		k.logger.Info("keys loaded", zap.String("keys", k.store.name), zap.Int("count", count))
	}
}

func (k *Keyring) logUnreadable(err error) {
	message := "cannot read keys; the previous keys stay valid"
	if loaded, _ := k.store.Loaded(); !loaded {
		message = "cannot read the stored keys; the keys of the configuration are valid, and requests with any other key get status 503 until this is fixed"
	}
	k.logger.Error(message, zap.String("keys", k.store.name), zap.Error(err))
}

func (k *Keyring) logReadable() {
	k.logger.Info("keys can be read again and have not changed", zap.String("keys", k.store.name))
}
