// Package prices computes what a request costs, from the configuration, a price file in LiteLLM's format and a small built-in
// table, in this order. A price that none of them has is unknown, never zero.
//
// It counts no tokens and enforces no budget: given usage, it returns US dollars. It stands on router, whose patterns it uses, and tokens.
package prices

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Line is a price of the configuration.
type Line struct {
	// For is a target, "upstream/model", or a model's name at its upstream; both may be patterns.
	For   string
	Price Price
	// InsteadOf names the model or target whose price is compared with; empty for none.
	InsteadOf string
}

// A Place is where a model runs, as far as its price depends on it.
type Place struct {
	// Service is the name of the hosted service in the price tables, or "" if the service is unknown. See Service.
	Service string
	// Local is set where requests cost nothing.
	Local bool
	// Size and Quality are those of a requested image, as the request spells them; empty if it does not.
	Size, Quality string
}

// A Book finds the price of a target. It is immutable. With a nil Book, local targets are free and all others unknown.
type Book struct {
	lines  []Line
	tables []Table
}

// A LineError is a mistake in the line with that index.
type LineError struct {
	Err   error
	Index int
}

// Error implements error.
func (e *LineError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake without its place.
func (e *LineError) Unwrap() error { return e.Err }

// New returns a book of lines, where the first match wins, and of tables, searched in order. Its errors are LineErrors.
func New(lines []Line, tables ...Table) (*Book, error) {
	b := &Book{lines: lines, tables: tables}
	var errs []error
	for i := range b.lines {
		l := &b.lines[i]
		if l.InsteadOf == "" {
			continue
		}
		if l.Price.InsteadOf = b.named(l.InsteadOf); l.Price.InsteadOf == nil {
			errs = append(errs, &LineError{fmt.Errorf("price of %q: instead_of: unknown price of %q; add a price line for it", l.For, l.InsteadOf), i})
		}
	}
	return b, errors.Join(errs...)
}

// free is the price of a local target that nobody gave another one.
var free Price

// Find returns the price of a target, written "upstream/model", or nil if it is unknown.
func (b *Book) Find(at Place, target string) *Price {
	if b != nil {
		if p := b.line(target); p != nil {
			return p
		}
	}
	if at.Local {
		return &free
	}
	if b == nil {
		return nil
	}
	if p := b.listed(at, target); p != nil {
		return p
	}
	if undated, dated := cutDate(target); dated {
		return b.listed(at, undated)
	}
	return nil
}

func (b *Book) listed(at Place, target string) *Price {
	_, model, _ := strings.Cut(target, "/")
	for _, t := range b.tables {
		if at.Size != "" {
			if p := t.findImage(at, model); p != nil {
				return p
			}
		}
		if p := t.find(at.Service, target, model); p != nil {
			return p
		}
	}
	return nil
}

func (b *Book) line(target string) *Price {
	_, model, _ := strings.Cut(target, "/")
	for i := range b.lines {
		if l := &b.lines[i]; router.Match(l.For, target) || router.Match(l.For, model) {
			return &l.Price
		}
	}
	return nil
}

// named finds the price of a model that is compared with: it runs nowhere here, so that its name alone must do.
func (b *Book) named(name string) *Price {
	for i := range b.lines {
		if l := &b.lines[i]; router.Match(l.For, name) {
			return &l.Price
		}
	}
	for _, t := range b.tables {
		if e, ok := t[name]; ok {
			return &e.Price
		}
	}
	_, model, found := strings.Cut(name, "/")
	if !found {
		return nil
	}
	return b.named(model)
}
