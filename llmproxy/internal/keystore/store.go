// Package keystore holds the clients' keys that change while Caddy runs: in a file, in the shared state, or on this machine. It
// reads them again when they change, changes them durably, and puts them into force at once beside those of the configuration.
//
// It never holds a secret, only digests, and it decides nothing about a request: access does. It stands above state and below
// admin and llmproxy.
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

// pollEvery is how often a store is asked whether its keys have changed. A key that was revoked elsewhere stays in force for so
// long, and for as long as the answer takes: less than 2 s.
const pollEvery = time.Second

// A document keeps a text: the file of keys, or a place in the state that is shared.
type document interface {
	// read gives the text; nil if there is none.
	read() ([]byte, error)
	// replace puts a text in the place of an old one, and is durable when it returns. It fails with errReplaced if another one
	// stands there.
	replace(old, text []byte) error
}

var errReplaced = errors.New("the keys were changed at the same time; try again")

// A StoreError is a failure of the place where keys are kept, and not of the change.
type StoreError struct{ error }

// Unwrap returns the reason.
func (e StoreError) Unwrap() error { return e.error }

// A Store holds the keys that come and go while Caddy runs. It is shared by all handlers that name the same document.
type Store struct {
	name string
	doc  document
	stop chan struct{}

	mu      sync.Mutex
	text    []byte
	file    *keys.File
	read    bool  // once, at least
	failed  error // of the last reading
	holders []*Keyring
}

func newStore(name string, doc document) *Store {
	return &Store{name: name, doc: doc, stop: make(chan struct{}), file: new(keys.File)}
}

// watch asks again and again; the first time at once.
func (s *Store) watch() {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		s.Refresh()
		if _, alone := s.doc.(*localDocument); alone {
			if known, _ := s.Known(); known {
				return // nobody else writes there
			}
		}
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
	}
}

// close ends the watching.
func (s *Store) close() error {
	close(s.stop)
	return nil
}

// errGone does not drop the keys: a file may be missing for a moment only, until its new text is there.
var errGone = errors.New("the file is missing; a file without keys says {\"keys\": []}")

// load reads the document. A document that is broken, or gone, changes nothing.
func (s *Store) load() (changed bool, err error) {
	text, err := s.doc.read()
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read && bytes.Equal(text, s.text) {
		return false, nil
	}
	if text == nil && s.text != nil {
		return false, errGone
	}
	file := new(keys.File)
	if text != nil {
		if file, err = keys.ParseFile(text); err != nil {
			return false, err
		}
	}
	s.text, s.file, s.read = text, file, true
	return true, nil
}

// Refresh reads the document again and tells the handlers. What is wrong with it is logged once.
func (s *Store) Refresh() {
	known, _ := s.Known()
	changed, err := s.load()
	s.mu.Lock()
	before := s.failed
	again := err != nil && before != nil && err.Error() == before.Error()
	s.failed = err
	holders := slices.Clone(s.holders)
	s.mu.Unlock()
	for i, k := range holders {
		switch {
		case changed:
			k.changed(!known)
		case i > 0:
		case err != nil && !again:
			k.unreadable(err)
		case err == nil && before != nil:
			k.readable()
		}
	}
}

// Entries returns the keys that the store holds now.
func (s *Store) Entries() []*keys.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.Keys
}

// Configured returns the keys of the configurations of all handlers that use the store.
func (s *Store) Configured() (list []*keys.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.holders {
		list = append(list, k.inline...)
	}
	return list
}

// Known reports whether the document was ever read, or at least tried.
func (s *Store) Known() (known, asked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read, s.read || s.failed != nil
}

func (s *Store) subscribe(k *Keyring) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holders = append(s.holders, k)
}

func (s *Store) unsubscribe(k *Keyring) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holders = slices.DeleteFunc(s.holders, func(h *Keyring) bool { return h == k })
}

// changeTries is how often a change is tried again because another writer, a command or another Caddy, was faster. One writer
// gets on each time, so that this many may change the keys at once.
const changeTries = 100

// Change replaces the keys by what edit makes of them, durably, and puts them into force at once. A failure of the place where
// they are kept is a StoreError.
func (s *Store) Change(edit func([]*keys.Entry) ([]*keys.Entry, error)) (err error) {
	for range changeTries {
		if err = s.tryChange(edit); !errors.Is(err, errReplaced) {
			return err
		}
	}
	return err
}

func (s *Store) tryChange(edit func([]*keys.Entry) ([]*keys.Entry, error)) error {
	if _, err := s.load(); err != nil {
		return StoreError{fmt.Errorf("the keys of %s cannot be read: %w", s.name, err)}
	}
	s.mu.Lock()
	old, file, holders := s.text, *s.file, slices.Clone(s.holders)
	s.mu.Unlock()
	list, err := edit(slices.Clone(file.Keys))
	if err != nil {
		return err
	}
	if _, err := keys.Compile(list, nil); err != nil { // a command has no handler whose keys it could be checked with
		return err
	}
	for _, k := range holders {
		if err := k.check(list); err != nil {
			return err
		}
	}
	file.Keys = list
	text, err := file.JSON()
	if err != nil {
		return err
	}
	if err := s.doc.replace(old, text); err != nil {
		return StoreError{fmt.Errorf("the keys of %s cannot be written: %w", s.name, err)}
	}
	s.Refresh()
	return nil
}

// Name returns where the keys are kept: the path of a file, "state" or "local".
func (s *Store) Name() string { return s.name }

// All returns the stores that handlers use, by name.
func All() (list []*Store) {
	state.Each(state.KeyStores, func(_ any, s *Store) { list = append(list, s) })
	slices.SortFunc(list, func(a, b *Store) int { return strings.Compare(a.name, b.name) })
	return list
}

// ErrNoKey means that a change is about a key that the store does not hold.
var ErrNoKey = errors.New("no such key is kept here (those of the configuration are changed there)")

// Without is a change that removes a key.
func Without(name string) func([]*keys.Entry) ([]*keys.Entry, error) {
	return func(list []*keys.Entry) ([]*keys.Entry, error) {
		rest := slices.DeleteFunc(list, func(e *keys.Entry) bool { return e.Name == name })
		if len(rest) == len(list) {
			return nil, fmt.Errorf("%w: %.80q", ErrNoKey, name)
		}
		return rest, nil
	}
}

// Rotated is a change that gives a key another secret, of which it has the digest; the old secret is not valid any more.
// Changed becomes the key.
func Rotated(name, digest string, changed *keys.Entry) func([]*keys.Entry) ([]*keys.Entry, error) {
	return func(list []*keys.Entry) ([]*keys.Entry, error) {
		i := slices.IndexFunc(list, func(e *keys.Entry) bool { return e.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%w: %.80q", ErrNoKey, name)
		}
		*changed = *list[i]
		changed.Secret = digest
		list[i] = changed
		return list, nil
	}
}

// Read reads the document of a store that no handler uses. A file that does not exist is an error.
func (s *Store) Read() error {
	if _, err := s.load(); err != nil {
		return err
	}
	if s.text == nil {
		return fmt.Errorf("there is no file %s", s.name)
	}
	return nil
}
