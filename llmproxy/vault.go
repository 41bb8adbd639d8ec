package llmproxy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// vaultPoll is how often a vault is asked whether its keys have changed. A key that was revoked elsewhere lives on for so long,
// and for as long as the answer takes: less than 2 s.
const vaultPoll = time.Second

// A document keeps a text: the file of keys, or a place in the state that is shared.
type document interface {
	// read gives the text; nil if there is none.
	read() ([]byte, error)
	// replace puts a text in the place of an old one, and is durable when it returns. It fails with errReplaced if another one
	// stands there.
	replace(old, text []byte) error
}

var errReplaced = errors.New("somebody else has changed the keys at the same time: try again")

// A placeError is what is wrong with the place where keys are kept, and not with the change.
type placeError struct{ error }

// Unwrap gives the reason.
func (e placeError) Unwrap() error { return e.error }

// vaults holds the vaults of all handlers, by their names.
var vaults = caddy.NewUsagePool()

// A vault holds the keys that come and go while Caddy runs. It is shared by all handlers that name the same document.
type vault struct {
	name string
	doc  document
	stop chan struct{}

	mu      sync.Mutex
	text    []byte
	file    *keys.File
	read    bool  // once, at least
	failed  error // of the last reading
	holders []*keyring
}

func newVault(name string, doc document) *vault {
	return &vault{name: name, doc: doc, stop: make(chan struct{}), file: new(keys.File)}
}

// watch asks again and again; the first time at once.
func (v *vault) watch() {
	tick := time.NewTicker(vaultPoll)
	defer tick.Stop()
	for {
		v.refresh()
		if _, alone := v.doc.(*savedKeys); alone {
			if known, _ := v.known(); known {
				return // nobody else writes there
			}
		}
		select {
		case <-tick.C:
		case <-v.stop:
			return
		}
	}
}

// Destruct implements caddy.Destructor.
func (v *vault) Destruct() error {
	close(v.stop)
	return nil
}

// errGone is no reason to let go of keys: a file may be gone for a moment only, until its new text is there.
var errGone = errors.New("it was there, and is gone; without any keys it says {\"keys\": []}")

// load reads the document. A document that is broken, or gone, changes nothing.
func (v *vault) load() (changed bool, err error) {
	text, err := v.doc.read()
	if err != nil {
		return false, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.read && bytes.Equal(text, v.text) {
		return false, nil
	}
	if text == nil && v.text != nil {
		return false, errGone
	}
	file := new(keys.File)
	if text != nil {
		if file, err = keys.ParseFile(text); err != nil {
			return false, err
		}
	}
	v.text, v.file, v.read = text, file, true
	return true, nil
}

// refresh loads the document and tells the handlers. What is wrong with it is said once.
func (v *vault) refresh() {
	known, _ := v.known()
	changed, err := v.load()
	v.mu.Lock()
	before := v.failed
	again := err != nil && before != nil && err.Error() == before.Error()
	v.failed = err
	holders := slices.Clone(v.holders)
	v.mu.Unlock()
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

func (v *vault) entries() []*keys.Entry {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.file.Keys
}

// configured gives the keys that the handlers have of their configurations.
func (v *vault) configured() (list []*keys.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, k := range v.holders {
		list = append(list, k.inline...)
	}
	return list
}

// known tells whether the document was ever read, or at least tried.
func (v *vault) known() (known, asked bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.read, v.read || v.failed != nil
}

func (v *vault) subscribe(k *keyring) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.holders = append(v.holders, k)
}

func (v *vault) unsubscribe(k *keyring) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.holders = slices.DeleteFunc(v.holders, func(h *keyring) bool { return h == k })
}

// changeTries is how often a change is tried anew because somebody else, a command or another Caddy, was faster. Each time
// that one got on, so that this many may change the keys at once.
const changeTries = 100

// change replaces the keys by what edit makes of them, durably, and puts them into force at once.
func (v *vault) change(edit func([]*keys.Entry) ([]*keys.Entry, error)) (err error) {
	for range changeTries {
		if err = v.tryChange(edit); !errors.Is(err, errReplaced) {
			return err
		}
	}
	return err
}

func (v *vault) tryChange(edit func([]*keys.Entry) ([]*keys.Entry, error)) error {
	if _, err := v.load(); err != nil {
		return placeError{fmt.Errorf("the keys of %s cannot be read: %w", v.name, err)}
	}
	v.mu.Lock()
	old, file, holders := v.text, *v.file, slices.Clone(v.holders)
	v.mu.Unlock()
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
	if err := v.doc.replace(old, text); err != nil {
		return placeError{fmt.Errorf("the keys of %s cannot be written: %w", v.name, err)}
	}
	v.refresh()
	return nil
}
