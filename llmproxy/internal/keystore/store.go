// Package keystore holds the clients' keys that change while Caddy runs: in a file, in the shared state, or on this machine.
// It detects changes, writes changes durably, and applies both at once, together with the keys of the configuration.
//
// It stores digests, never secrets, and decides nothing about a request; access does that. It stands above state, and below admin
// and llmproxy.
package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// pollInterval is how often a store looks for changes. A key that was revoked elsewhere stays valid for this long, plus the
// time that reading takes: less than 2 s.
const pollInterval = time.Second

// A Store holds the keys of one document: a file, or a value in a database. All handlers that name the same document share it.
type Store struct {
	name string
	doc  document
	stop chan struct{}

	mu       sync.Mutex
	text     []byte
	file     *keys.File
	loaded   bool  // at least once
	lastErr  error // of the last load
	keyrings []*Keyring
}

// A document is where the text of a store is kept.
type document interface {
	// read returns the text, or nil if the document does not exist.
	read() ([]byte, error)
	// replace durably replaces the old text with a new one. It fails with errConflict if the document has another text than old.
	replace(old, text []byte) error
	// exclusive reports whether only this process writes the document.
	exclusive() bool
}

var (
	errConflict = errors.New("the keys were changed at the same time; try again")
	// errMissing keeps the keys: a file may be missing only for a moment, while an editor replaces it.
	errMissing = errors.New("the file is missing; to delete all keys, write {\"keys\": []}")
)

// ErrNoKey means that the store does not have the key to change.
var ErrNoKey = errors.New("no such key here; keys of the configuration are changed in the configuration")

// A StoreError means that the document cannot be read or written.
type StoreError struct{ error }

// Unwrap returns the cause.
func (e StoreError) Unwrap() error { return e.error }

func newStore(name string, doc document) *Store {
	return &Store{name: name, doc: doc, stop: make(chan struct{}), file: new(keys.File)}
}

// open returns the store of a document, which it shares with all handlers that use the same key of the pool.
func open(c *state.Closer, key any, build func() (*Store, error)) (*Store, error) {
	return state.Acquire(c.AddLasting, state.KeyStores, key, func() (*Store, error) {
		s, err := build()
		if err != nil {
			return nil, err
		}
		time.AfterFunc(state.StartDelay, s.watch)
		return s, nil
	})
}

// All returns the stores of all handlers, in the order of their names.
func All() (list []*Store) {
	state.Each(state.KeyStores, func(_ any, s *Store) { list = append(list, s) })
	slices.SortFunc(list, func(a, b *Store) int { return strings.Compare(a.name, b.name) })
	return list
}

// watch refreshes the store until Close. A document that no other process writes is read only once.
func (s *Store) watch() {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		s.Refresh()
		if loaded, _ := s.Loaded(); loaded && s.doc.exclusive() {
			return
		}
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
	}
}

// Close ends watch.
func (s *Store) Close() error {
	close(s.stop)
	return nil
}

// Name returns where the keys are kept: the path of a file, "state" or "local".
func (s *Store) Name() string { return s.name }

// Entries returns the keys.
func (s *Store) Entries() []*keys.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.Keys
}

// Configured returns the keys in the configurations of the handlers that share the store.
func (s *Store) Configured() (list []*keys.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keyrings {
		list = append(list, k.inline...)
	}
	return list
}

// Loaded reports whether the document was ever read, and whether that was at least tried.
func (s *Store) Loaded() (loaded, tried bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded, s.loaded || s.lastErr != nil
}

// Refresh reads the document and applies its changes. It logs an error only when it first occurs, and when it is over.
func (s *Store) Refresh() {
	loaded, _ := s.Loaded()
	changed, err := s.load()
	s.mu.Lock()
	before := s.lastErr
	s.lastErr = err
	keyrings := slices.Clone(s.keyrings)
	s.mu.Unlock()
	sameErr := err != nil && before != nil && err.Error() == before.Error()
	switch {
	case changed:
		for _, k := range keyrings {
			k.apply(!loaded)
		}
	case len(keyrings) == 0:
	case err != nil && !sameErr:
		keyrings[0].logUnreadable(err)
	case err == nil && before != nil:
		keyrings[0].logReadable()
	}
}

// load reads the document. If it is missing or invalid, the store keeps its keys.
func (s *Store) load() (changed bool, err error) {
	text, err := s.doc.read()
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded && bytes.Equal(text, s.text) {
		return false, nil
	}
	if text == nil && s.text != nil {
		return false, errMissing
	}
	file := new(keys.File)
	if text != nil {
		if file, err = keys.ParseFile(text); err != nil {
			return false, err
		}
	}
	s.text, s.file, s.loaded = text, file, true
	return true, nil
}

// Read reads the document for a command. A document that does not exist is an error.
func (s *Store) Read() error {
	if _, err := s.load(); err != nil {
		return err
	}
	if s.text == nil {
		return fmt.Errorf("file %s does not exist", s.name)
	}
	return nil
}

// An Edit returns the keys that replace a list, which it may modify.
type Edit func([]*keys.Entry) ([]*keys.Entry, error)

// Add returns an edit that adds a key.
func Add(e *keys.Entry) Edit {
	return func(list []*keys.Entry) ([]*keys.Entry, error) { return append(list, e), nil }
}

// Remove returns an edit that removes a key.
func Remove(name string) Edit {
	return func(list []*keys.Entry) ([]*keys.Entry, error) {
		rest := slices.DeleteFunc(list, func(e *keys.Entry) bool { return e.Name == name })
		if len(rest) == len(list) {
			return nil, fmt.Errorf("%.80q: %w", name, ErrNoKey)
		}
		return rest, nil
	}
}

// Rotate returns an edit that replaces the secret of a key, given by its digest. The edit copies the key to rotated.
func Rotate(name, digest string, rotated *keys.Entry) Edit {
	return func(list []*keys.Entry) ([]*keys.Entry, error) {
		i := slices.IndexFunc(list, func(e *keys.Entry) bool { return e.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%.80q: %w", name, ErrNoKey)
		}
		*rotated = *list[i]
		rotated.Secret = digest
		list[i] = rotated
		return list, nil
	}
}

// maxConflicts is how often a change is retried after a conflict with a command or another Caddy. Each conflict means that one of
// them succeeded, so this many may change the keys at once.
const maxConflicts = 100

// Change edits the keys durably and applies the result at once. It fails with a StoreError if the document cannot be read or
// written. It may call edit more than once.
func (s *Store) Change(edit Edit) (err error) {
	for range maxConflicts {
		if err = s.tryChange(edit); !errors.Is(err, errConflict) {
			return err
		}
	}
	return err
}

func (s *Store) tryChange(edit Edit) error {
	if _, err := s.load(); err != nil {
		return StoreError{fmt.Errorf("reading the keys of %s: %w", s.name, err)}
	}
	s.mu.Lock()
	old, file, keyrings := s.text, *s.file, slices.Clone(s.keyrings)
	s.mu.Unlock()
	list, err := edit(slices.Clone(file.Keys))
	if err != nil {
		return err
	}
	if _, err := keys.Compile(list, nil); err != nil { // a command has no keyring to check the keys with
		return err
	}
	for _, k := range keyrings {
		if _, err := k.compile(list); err != nil {
			return err
		}
	}
	file.Keys = list
	text, err := file.JSON()
	if err != nil {
		return err
	}
	if err := s.doc.replace(old, text); err != nil {
		return StoreError{fmt.Errorf("writing the keys of %s: %w", s.name, err)}
	}
	s.Refresh()
	return nil
}

func (s *Store) subscribe(k *Keyring) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keyrings = append(s.keyrings, k)
}

func (s *Store) unsubscribe(k *Keyring) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keyrings = slices.DeleteFunc(s.keyrings, func(other *Keyring) bool { return other == k })
}
