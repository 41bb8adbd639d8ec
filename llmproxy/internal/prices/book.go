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
	// Service is the hosted service by the name that tables call it; empty if it is none that is known. See Service.
	Service string
	// Local tells that nobody is paid for a request.
	Local bool
}

// A Book finds the price of a target. It never changes once made. A nil Book knows that a local target costs nothing.
type Book struct {
	lines  []Line
	tables []Table
}

// New makes a book of lines, the first that matches counts, and of tables, which are asked in their order.
func New(lines []Line, tables ...Table) (*Book, error) {
	b := &Book{lines: lines, tables: tables}
	var errs []error
	for i := range b.lines {
		l := &b.lines[i]
		if l.InsteadOf == "" {
			continue
		}
		if l.Price.InsteadOf = b.named(l.InsteadOf); l.Price.InsteadOf == nil {
			errs = append(errs, fmt.Errorf("price of %q: no price is known of %q, which it is compared with", l.For, l.InsteadOf))
		}
	}
	return b, errors.Join(errs...)
}

// free is the price of a local target that nobody gave another one.
var free Price

// Find gives the price of a target, written "upstream/model"; nil if it is unknown.
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
	if p := b.listed(at.Service, target); p != nil {
		return p
	}
	if undated, dated := cutDate(target); dated {
		return b.listed(at.Service, undated)
	}
	return nil
}

func (b *Book) listed(service, target string) *Price {
	_, model, _ := strings.Cut(target, "/")
	for _, t := range b.tables {
		if p := t.find(service, target, model); p != nil {
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
