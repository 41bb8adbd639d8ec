package llmproxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// A dispenser dispenses the words of one directive. It remembers the line of each subdirective for errors that are only found later.
type dispenser struct {
	*caddyfile.Dispenser
	lines  lines
	place  place          // of the current subdirective
	counts map[string]int // of the subdirectives so far, by block and name
	words  []string       // after the name of the current subdirective, on its line

	matchers []string // the names of all that are defined
}

func newDispenser(d *caddyfile.Dispenser) *dispenser {
	return &dispenser{Dispenser: d, lines: lines{}, counts: map[string]int{}}
}

// enter makes the current token, a subdirective of the block, the current place.
func (d *dispenser) enter(block place, name string) {
	id := string(block) + "/" + name
	d.place = block.in(name, d.counts[id])
	d.counts[id]++
	d.lines[d.place] = d.line()
	rest := *d.Dispenser // a copy, so that the words are not consumed
	d.words = rest.RemainingArgs()
}

// line returns the line of the current token as errors of Caddy show it.
func (d *dispenser) line() string { return d.WrapErr(errors.New("")).Error() }

// subdirectives has the parser of each subdirective of a block. The name of the subdirective is the current token.
type subdirectives[T any] map[string]func(*dispenser, T) error

// parseBlock parses a block into a value. In blocks that may define matchers, they are added to matchers; others pass nil.
func parseBlock[T any](d *dispenser, name string, known subdirectives[T], into T, matchers namedMatchers) error {
	block := d.place
	defer func() { d.place = block }()
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		d.enter(block, d.Val())
		parse := known[d.Val()]
		switch {
		case matchers != nil && strings.HasPrefix(d.Val(), "@"):
			parse = func(d *dispenser, _ T) error { return matchers.parse(d) }
		case parse == nil:
			written, _, _ := strings.Cut(d.Val(), "=") // what follows may be a secret
			return d.Errf("unknown subdirective %.40q of %s; %s", written, name, adviceOn(name, d.Val(), slices.Sorted(maps.Keys(known)), matchers != nil))
		default:
			if err := checkWords(d.Val(), d.words); err != nil {
				return d.WrapErr(err)
			}
		}
		if err := parse(d, into); err != nil {
			return err
		}
	}
	return nil
}

// freeText has the subdirectives whose words may have any characters.
var freeText = []string{"params", "header_up", "transport", "tls_trust_pool", "state"}

// checkWords reports braces and equals signs that were taken for values.
func checkWords(name string, words []string) error {
	if len(words) == 0 || slices.Contains(freeText, name) {
		return nil
	}
	last := words[len(words)-1]
	switch {
	case words[0] == "=" || words[0] == ":":
		return fmt.Errorf("%s: write the value right after the name, without %q", name, words[0])
	case last == "}":
		return fmt.Errorf("%s: write } on a line of its own", name)
	case len(last) > 1 && strings.HasSuffix(last, "{"):
		return fmt.Errorf("%s: the brace belongs to the word before it; write a space before {", name)
	}
	return nil
}

// wrongCount returns the error of a line with too few or too many values. It does not quote them, because they may be secrets.
func (d *dispenser) wrongCount(takes string) error {
	name, _, _ := strings.Cut(string(d.place[strings.LastIndexByte(string(d.place), '/')+1:]), " ")
	switch n := len(d.words); {
	case n == 0:
		return d.Err(name + ": missing value" + d.hintIfFewer(1))
	case takes == "no value":
		return d.Errf("%s takes no value", name)
	case n == 1:
		return d.Errf("%s takes %s", name, takes)
	default:
		return d.Errf("%s takes %s; there are %d, so quote a value that has spaces", name, takes, n)
	}
}

// hintIfFewer returns a hint at variables that are not set if the current line has fewer than n values, or an empty one: Caddy
// replaces {$NAME} before it looks for words.
func (d *dispenser) hintIfFewer(n int) string {
	if len(d.words) < n || slices.Contains(d.words, "") {
		return "; if a value is written as {$NAME}, that environment variable is not set"
	}
	return ""
}

// The functions below parse the arguments of a line; its name is the current token.

func parseString(d *dispenser, to *string) error {
	name := d.Val()
	switch {
	case !d.AllArgs(to):
		return d.wrongCount("one value")
	case *to == "":
		return d.Err(name + ": the value is empty" + d.hintIfFewer(1))
	}
	return nil
}

// parseOptional parses a string that may be left out.
func parseOptional(d *dispenser, to *string) error {
	if d.NextArg() {
		*to = d.Val()
	}
	if d.NextArg() {
		return d.wrongCount("at most one value")
	}
	return nil
}

func parseStrings(d *dispenser, to *[]string) error {
	name, args := d.Val(), d.RemainingArgs()
	if len(args) == 0 {
		return d.wrongCount("at least one value")
	}
	if i := slices.IndexFunc(args, func(arg string) bool { return strings.HasSuffix(arg, ",") }); i >= 0 {
		return d.Errf("%s: %q ends with a comma; separate values with spaces only", name, args[i])
	}
	*to = append(*to, args...)
	return nil
}

func parseOneOf(d *dispenser, to *string, values ...string) error {
	name := d.Val()
	if err := parseString(d, to); err != nil {
		return err
	}
	if !slices.Contains(values, *to) {
		return d.Errf("%s: unknown value %q; use %s", name, *to, strings.Join(values, " or "))
	}
	return nil
}

func parseFlag(d *dispenser, to *bool) error {
	if d.NextArg() {
		return d.wrongCount("no value")
	}
	*to = true
	return nil
}

func parseDuration(d *dispenser, to *caddy.Duration) error {
	name := d.Val()
	var text string
	if err := parseString(d, &text); err != nil {
		if together := strings.Join(d.words, ""); len(d.words) == 2 && isDuration(together) {
			return d.Errf("%s: write %s without spaces", name, together)
		}
		return err
	}
	value, err := caddy.ParseDuration(text)
	if err != nil || value <= 0 {
		return d.Errf("%s: invalid duration %q; use one such as 30s", name, text)
	}
	*to = caddy.Duration(value)
	return nil
}

func isDuration(text string) bool {
	_, err := caddy.ParseDuration(text)
	return err == nil
}

// minBareSize is the smallest size that is accepted without a unit. A smaller number was meant as mebibytes.
const minBareSize = 64 << 10

func parseSize(d *dispenser, to *int64) error {
	name := d.Val()
	var text string
	if err := parseString(d, &text); err != nil {
		return err
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > 1<<50 {
		return d.Errf("%s: invalid size %q; use one such as 32MiB", name, text)
	}
	if _, err := strconv.Atoi(text); err == nil && size < minBareSize {
		return d.Errf("%s: %s without a unit is only %s bytes; write %sMiB, or %sB if you mean bytes", name, text, text, text, text)
	}
	*to = int64(size)
	return nil
}

// parseCount parses a whole number of at least min.
func parseCount(d *dispenser, name, text string, min int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < min {
		return 0, d.Errf("%s: invalid number %q; use a whole number of at least %d", name, text, min)
	}
	return n, nil
}
