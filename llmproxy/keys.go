package llmproxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// A keyring is the keys of one handler as they are now: the configuration's, and those that a vault holds.
type keyring struct {
	inline, users []*keys.Entry
	vault         *vault
	logger        *zap.Logger
	set           atomic.Pointer[keys.Set]
}

// keyring makes the handler's; nil if anybody may call.
func (h *Handler) keyring() (*keyring, error) {
	if len(h.Keys)+len(h.Users) == 0 && h.KeysFile == "" && !h.RequireKey {
		return nil, nil
	}
	inline, err := hashed(h.Keys)
	if err != nil {
		return nil, err
	}
	v, err := h.vault()
	if err != nil {
		return nil, err
	}
	k := &keyring{inline: inline, users: h.Users, vault: v, logger: h.logger}
	v.subscribe(k)
	h.closers = append(h.closers, func() { v.unsubscribe(k) })
	err = k.renew()
	if known, _ := v.known(); err != nil && !known { // they are only remembered
		err = k.begin(err)
	}
	return k, err
}

// hashed replaces placeholders and keeps only digests of what they stand for. A plain secret can only come by JSON, since one of a
// Caddyfile is hashed when that is adapted, and would be stored and shown by Caddy as it is.
func hashed(configured []*keys.Entry) (list []*keys.Entry, err error) {
	var errs []error
	for _, e := range configured {
		one := *e
		secret := strings.TrimSpace(caddy.NewReplacer().ReplaceKnown(e.Secret, ""))
		switch {
		case secret == "":
			errs = append(errs, fmt.Errorf("key %q: its secret is empty: set what its placeholder stands for", e.Name))
		case keys.IsDigest(secret):
			one.Secret = secret
		case secret == e.Secret:
			errs = append(errs, fmt.Errorf("key %q: its secret stands in the configuration, which Caddy stores and shows: write its digest, sha256:HEX, or a placeholder", e.Name))
		default:
			one.Secret = keys.Digest(secret)
		}
		list = append(list, &one)
	}
	return list, errors.Join(errs...)
}

// all are the entries of the configuration with those of a vault.
func (k *keyring) all(more []*keys.Entry) []*keys.Entry {
	return append(k.inline[:len(k.inline):len(k.inline)], more...)
}

// renew takes over what the vault holds now. If that does not fit the configuration, the keys stay as they are.
func (k *keyring) renew() error {
	set, err := keys.Compile(k.all(k.vault.entries()), k.users)
	if err != nil {
		return err
	}
	k.set.Store(set)
	return nil
}

// unreadable is called by the vault when its document cannot be read, once for each reason.
func (k *keyring) unreadable(err error) {
	k.logger.Error("the keys cannot be read; the ones from before stay in force", zap.String("keys", k.vault.name), zap.Error(err))
}

// readable is called by the vault when its document can be read again, and holds what it held before.
func (k *keyring) readable() {
	k.logger.Info("the keys can be read again, and have not changed", zap.String("keys", k.vault.name))
}

// check tells whether the entries would fit the configuration.
func (k *keyring) check(more []*keys.Entry) error {
	_, err := keys.Compile(k.all(more), k.users)
	return err
}

// changed is called by the vault when it was read for the first time, or anew.
func (k *keyring) changed(first bool) {
	err := k.renew()
	if err != nil && first { // after a start; nothing from before is in force
		err = k.begin(err)
	}
	if err != nil {
		k.logger.Error("the keys have changed and do not fit; the ones from before stay in force", zap.String("keys", k.vault.name), zap.Error(err))
		return
	}
	if first && len(k.vault.entries()) == 0 {
		return
	}
	k.logger.Info("the keys were read", zap.String("keys", k.vault.name), zap.Int("count", len(k.vault.entries())))
}

// begin takes over what fits the configuration of what the vault holds, if that alone is what is wrong: the configuration
// may have got a key of that name or secret while Caddy was down.
func (k *keyring) begin(wrong error) error {
	taken := map[string]bool{}
	for _, e := range k.inline {
		taken[e.Name], taken[strings.ToLower(e.Secret)] = true, true
	}
	fitting := slices.DeleteFunc(slices.Clone(k.vault.entries()), func(e *keys.Entry) bool {
		return taken[e.Name] || taken[strings.ToLower(e.Secret)]
	})
	set, err := keys.Compile(k.all(fitting), k.users)
	if err != nil {
		return err
	}
	k.set.Store(set)
	k.logger.Error("some of the keys do not fit the configuration, and are left out", zap.String("keys", k.vault.name), zap.Error(wrong))
	return nil
}

// current implements what access.Access asks for.
func (k *keyring) current() (*keys.Set, bool) {
	known, asked := k.vault.known()
	if !asked {
		k.vault.refresh() // the first caller is faster than the watch
		known, _ = k.vault.known()
	}
	return k.set.Load(), known
}

// userID is where Caddy's own handlers put who they made sure of, and where its access log looks.
const userID = "http.auth.user.id"

func userOf(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	id, _ := repl.GetString(userID)
	return id
}
