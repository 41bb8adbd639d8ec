package llmproxy

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
)

// A place is a part of a handler's configuration, such as "upstream 0/api_key 0": names of subdirectives, each with its number
// among those of the same name in its block. The empty place is the whole handler.
type place string

// in returns the place of the nth subdirective of a name in the block at p.
func (p place) in(name string, n int) place {
	inner := place(fmt.Sprint(name, " ", n))
	if p == "" {
		return inner
	}
	return p + "/" + inner
}

// A placedError is an error at a place.
type placedError struct {
	at  place
	err error
}

// Error implements error.
func (e *placedError) Error() string { return e.err.Error() }

// Unwrap returns the error without its place.
func (e *placedError) Unwrap() error { return e.err }

// at says where an error is. Nil stays nil.
func at(p place, err error) error {
	if err == nil {
		return nil
	}
	return &placedError{p, err}
}

// errorf is fmt.Errorf with a place.
func (p place) errorf(format string, args ...any) error { return at(p, fmt.Errorf(format, args...)) }

// lines are the lines of a Caddyfile that the parts of a handler came from, written as in errors of Caddy: ", at Caddyfile:8".
// They are empty for a handler that was configured in JSON.
type lines map[place]string

// of returns the line of a place, or of the closest block around it that has one.
func (l lines) of(p place) string {
	for {
		if line, ok := l[p]; ok || p == "" {
			return line
		}
		p = p[:max(strings.LastIndexByte(string(p), '/'), 0)]
	}
}

// locate appends to each error its line.
func (l lines) locate(err error) error {
	if err == nil {
		return nil
	}
	var located []error
	for _, e := range flatten(err) {
		located = append(located, fmt.Errorf("%w%s", e, l.of(placeOf(e))))
	}
	return errors.Join(located...)
}

// flatten returns the errors that errors.Join joined, in any depth. An error that wraps joined ones is given to each of them only
// as their place.
func flatten(err error) (list []error) {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			list = append(list, flatten(inner)...)
		}
		return list
	case *placedError:
		if inner := flatten(e.err); len(inner) > 1 {
			for _, each := range inner {
				list = append(list, at(e.at, each))
			}
			return list
		}
	}
	return []error{err}
}

// placeOf returns the innermost place of an error.
func placeOf(err error) (p place) {
	for placed := (*placedError)(nil); errors.As(err, &placed); err = placed.err {
		p = placed.at
	}
	return p
}

// A lineTable remembers where the handlers of Caddyfiles were written until they are provisioned. The JSON in between, which
// operators see, has no place for lines. It knows only handlers that this process adapted: not those that `caddy reload` adapts.
type lineTable struct {
	mu     sync.Mutex
	byHash map[[sha256.Size]byte]packedLines
	order  [][sha256.Size]byte // the oldest first
}

// maxRemembered bounds the table. Caddy provisions a configuration right after it was adapted, so that only its own handlers count.
const maxRemembered = 256

var adaptedLines lineTable

// remember adds the lines of a handler that was parsed from a Caddyfile.
func (t *lineTable) remember(handler any, l lines) {
	hash, err := hashOf(handler)
	if err != nil {
		return // encoding it to JSON will fail, too, and report it
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byHash == nil {
		t.byHash = map[[sha256.Size]byte]packedLines{}
	}
	if _, known := t.byHash[hash]; !known {
		t.order = append(t.order, hash)
	}
	t.byHash[hash] = l.pack()
	if len(t.order) > maxRemembered {
		delete(t.byHash, t.order[0])
		t.order = t.order[1:]
	}
}

// recall returns the lines of a handler, or nil if they are not known. It must be called before modules are loaded.
func (t *lineTable) recall(handler any) lines {
	hash, err := hashOf(handler)
	if err != nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byHash[hash].unpack()
}

// packedLines are lines in one string, each place and each line with a zero byte after it. They take a quarter of the memory: for 10,000
// models, 0.4 MB instead of 1.8.
type packedLines string

func (l lines) pack() packedLines {
	var b strings.Builder
	for p, line := range l {
		b.WriteString(string(p) + "\x00" + line + "\x00")
	}
	return packedLines(strings.Clone(b.String()))
}

// unpack returns nil if there are no lines.
func (packed packedLines) unpack() lines {
	if packed == "" {
		return nil
	}
	l, rest := lines{}, string(packed)
	for rest != "" {
		var p, line string
		p, rest, _ = strings.Cut(rest, "\x00")
		line, rest, _ = strings.Cut(rest, "\x00")
		l[place(p)] = line
	}
	return l
}

func hashOf(handler any) (hash [sha256.Size]byte, err error) {
	text, err := json.Marshal(handler)
	if err != nil {
		return hash, err
	}
	return sha256.Sum256(text), nil
}

func upstreamPlace(i int) place { return place("").in("upstream", i) }

func modelPlace(i int) place { return place("").in("model", i) }

// placeKeys adds the places of keys and users to errors about them. Configured is the number of keys in the configuration.
func placeKeys(err error, configured int) error {
	var errs []error
	for _, e := range flatten(err) {
		var wrong *keys.EntryError
		switch {
		case !errors.As(e, &wrong):
		case wrong.User:
			e = at(place("").in("user", wrong.Index), e)
		case wrong.Index < configured: // and not a stored key
			e = at(place("").in("key", wrong.Index), e)
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

func pricePlace(i int) place { return place("").in("price", i) }

// placePrices adds the places of price lines to errors about them.
func placePrices(err error) error {
	var errs []error
	for _, e := range flatten(err) {
		var wrong *prices.LineError
		if errors.As(e, &wrong) {
			e = at(pricePlace(wrong.Index), e)
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}
