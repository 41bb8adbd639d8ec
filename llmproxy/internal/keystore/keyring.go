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

// A Keyring is the keys of one handler as they are now: the configuration's, and those that a store holds.
type Keyring struct {
	inline, users []*keys.Entry
	store         *Store
	logger        *zap.Logger
	set           atomic.Pointer[keys.Set]
}

// NewKeyring returns the keys of one handler: the configuration's, which must be hashed, with those of a store. Users are those
// that other handlers authenticate.
func NewKeyring(c *state.Closer, s *Store, inline, users []*keys.Entry, logger *zap.Logger) (*Keyring, error) {
	k := &Keyring{inline: inline, users: users, store: s, logger: logger}
	s.subscribe(k)
	c.Add(func() { s.unsubscribe(k) })
	err := k.renew()
	if known, _ := s.Known(); err != nil && !known { // they are only remembered
		err = k.begin(err)
	}
	return k, err
}

// Hashed replaces placeholders and keeps only digests of what they stand for. A plain secret can only come by JSON, since one of a
// Caddyfile is hashed when that is adapted, and would be stored and shown by Caddy as it is.
func Hashed(configured []*keys.Entry) (list []*keys.Entry, err error) {
	var errs []error
	for _, e := range configured {
		one := *e
		secret := strings.TrimSpace(caddy.NewReplacer().ReplaceKnown(e.Secret, ""))
		switch {
		case secret == "":
			errs = append(errs, fmt.Errorf("key %q: the secret is empty; set what its placeholder stands for", e.Name))
		case keys.IsDigest(secret):
			one.Secret = secret
		case secret == e.Secret:
			errs = append(errs, fmt.Errorf("key %q: the secret is written in the configuration, which Caddy stores and shows; write its digest, sha256:HEX, or a placeholder", e.Name))
		default:
			one.Secret = keys.Digest(secret)
		}
		list = append(list, &one)
	}
	return list, errors.Join(errs...)
}

// all returns the entries of the configuration with those of a store.
func (k *Keyring) all(more []*keys.Entry) []*keys.Entry {
	return append(k.inline[:len(k.inline):len(k.inline)], more...)
}

// renew takes over what the store holds now. If that does not fit the configuration, the keys stay as they are.
func (k *Keyring) renew() error {
	set, err := keys.Compile(k.all(k.store.Entries()), k.users)
	if err != nil {
		return err
	}
	k.set.Store(set)
	return nil
}

// unreadable is called by the store when its document cannot be read, once for each reason.
func (k *Keyring) unreadable(err error) {
	k.logger.Error("keys cannot be read; the previous keys stay in force", zap.String("keys", k.store.name), zap.Error(err))
}

// readable is called by the store when its document can be read again, and holds what it held before.
func (k *Keyring) readable() {
	k.logger.Info("keys can be read again; they have not changed", zap.String("keys", k.store.name))
}

// check reports whether the entries would fit the configuration.
func (k *Keyring) check(more []*keys.Entry) error {
	_, err := keys.Compile(k.all(more), k.users)
	return err
}

// changed is called by the store when it was read for the first time, or anew.
func (k *Keyring) changed(first bool) {
	err := k.renew()
	if err != nil && first { // after a start; nothing from before is in force
		err = k.begin(err)
	}
	if err != nil {
		k.logger.Error("the changed keys do not fit the configuration; the previous keys stay in force", zap.String("keys", k.store.name), zap.Error(err))
		return
	}
	if first && len(k.store.Entries()) == 0 {
		return
	}
	k.logger.Info("keys were read", zap.String("keys", k.store.name), zap.Int("count", len(k.store.Entries())))
}

// begin takes over what fits the configuration of what the store holds, if that alone is what is wrong: the configuration
// may have got a key of that name or secret while Caddy was down.
func (k *Keyring) begin(wrong error) error {
	taken := map[string]bool{}
	for _, e := range k.inline {
		taken[e.Name], taken[strings.ToLower(e.Secret)] = true, true
	}
	fitting := slices.DeleteFunc(slices.Clone(k.store.Entries()), func(e *keys.Entry) bool {
		return taken[e.Name] || taken[strings.ToLower(e.Secret)]
	})
	set, err := keys.Compile(k.all(fitting), k.users)
	if err != nil {
		return err
	}
	k.set.Store(set)
	k.logger.Error("some keys do not fit the configuration and are left out", zap.String("keys", k.store.name), zap.Error(wrong))
	return nil
}

// Current returns the keys, and whether these are all: it implements what access.Access asks for.
func (k *Keyring) Current() (*keys.Set, bool) {
	known, asked := k.store.Known()
	if !asked {
		k.store.Refresh() // the first caller is faster than the watch
		known, _ = k.store.Known()
	}
	return k.set.Load(), known
}
