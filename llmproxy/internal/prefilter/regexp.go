// Package prefilter decides whether a regular expression matches a text. Most texts lack every word that the expression needs, such as those
// of customer|password, and a search for words is far faster than the expression itself. So it looks for the words first, and asks
// package regexp only about texts that have one of them.
//
// It never decides otherwise than package regexp would. It stands on the lowest floor.
package prefilter

import (
	"regexp"
	"regexp/syntax"
	"unicode/utf8"
)

// A Regexp is a compiled regular expression. It is safe for concurrent use.
type Regexp struct {
	expression *regexp.Regexp
	needed     *words // nil if there is no word that the expression needs
}

// Compile parses a regular expression in the syntax of package regexp.
func Compile(expression string) (*Regexp, error) {
	compiled, err := regexp.Compile(expression)
	if err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, err
	}
	return &Regexp{compiled, newWords(needed(tree))}, nil
}

// Match reports whether the text contains any match of the expression.
func (r *Regexp) Match(text []byte) bool {
	return (r.needed == nil || r.needed.in(text)) && r.expression.Match(text)
}

const (
	// maxNeeded bounds the words of an expression, because every candidate in a text is compared with all of them.
	maxNeeded = 64
	// shortest is the length in bytes of the shortest word that is worth looking for.
	shortest = 2
)

// needed returns words such that every text that the expression matches has one of them. It returns nil if it finds no such words. Letters of the words may be of
// either case.
func needed(tree *syntax.Regexp) []string {
	switch tree.Op {
	case syntax.OpLiteral:
		if word := longestWord(tree); len(word) >= shortest {
			return []string{word}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return needed(tree.Sub[0])
	case syntax.OpRepeat:
		if tree.Min > 0 {
			return needed(tree.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, part := range tree.Sub {
			if list := needed(part); minLength(list) > minLength(best) {
				best = list
			}
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, alternative := range tree.Sub {
			list := needed(alternative)
			if list == nil || len(all)+len(list) > maxNeeded {
				return nil
			}
			all = append(all, list...)
		}
		return all
	}
	return nil
}

// longestWord returns the longest part of a literal that is the same bytes in every text that it matches, but for the case of ASCII letters.
// If case does not matter, that excludes k and s, which also stand for the Kelvin sign and the long s, and all that is not ASCII.
func longestWord(literal *syntax.Regexp) string {
	longest, current := "", ""
	for _, r := range literal.Rune {
		switch {
		case literal.Flags&syntax.FoldCase == 0:
			if r == utf8.RuneError { // it also matches bytes that are not UTF-8
				current = ""
				continue
			}
		case r >= utf8.RuneSelf || r|0x20 == 'k' || r|0x20 == 's':
			current = ""
			continue
		}
		if current += string(r); len(current) > len(longest) {
			longest = current
		}
	}
	return longest
}

// minLength returns the length of the shortest word.
func minLength(list []string) int {
	if len(list) == 0 {
		return 0
	}
	shortest := len(list[0])
	for _, word := range list[1:] {
		shortest = min(shortest, len(word))
	}
	return shortest
}
