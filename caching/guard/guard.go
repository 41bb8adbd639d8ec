package guard

import (
	"slices"
	"strings"
)

// Agree tells whether two texts have the same numbers and units, names, quotations, identifiers, negations, opposites and
// question words, in the same order, are in the same language, and have the words that they share in the same order. Of other
// words one of them may have more, but where each has one that the other lacks, one was put in the place of another: gold
// for silver. Little words may differ in English, German, French and Spanish, and nothing else in any language but English.
func Agree(a, b string) bool {
	left, right := read(a), read(b)
	if left.language != right.language || left.lacks(right) && right.lacks(left) {
		return false
	}
	return slices.Equal(left.outline(right), right.outline(left))
}

// outline is what of a text must be the same in the other one: its marks, and the plain words that both have, each where it
// stands first.
func (t *text) outline(other *text) []string {
	marks := make([]string, 0, len(t.tokens))
	for _, token := range t.tokens {
		switch {
		case token.kind != word:
			marks = append(marks, token.text)
		case t.names[token.text] || other.names[token.text]:
			marks = append(marks, token.text)
		case t.marked(token.text):
			marks = append(marks, canonical(t.language, token.text))
		case !little(t.language, token.text):
			if stem := stemOf(token.text); other.stems[stem] && !slices.Contains(marks, sharedMark+stem) {
				marks = append(marks, sharedMark+stem)
			}
		}
	}
	return marks
}

// sharedMark keeps a word that only happens to stand in both texts apart from a mark.
const sharedMark = "~"

// marked tells whether a word must be the same in both texts.
func (t *text) marked(w string) bool {
	if len(w) == 1 && !little(t.language, w) {
		return true // a variable, a vitamin, a grade
	}
	if t.language == english {
		_, ok := englishMarks[w]
		return ok
	}
	return !little(t.language, w)
}

// canonical is the one word that stands for all forms of a mark.
func canonical(l *language, w string) string {
	if l == english {
		if mark, ok := englishMarks[w]; ok {
			return mark
		}
	}
	return w
}

// lacks tells whether the other text does not have one of this text's plain words.
func (t *text) lacks(other *text) bool {
	for _, token := range t.tokens {
		w := token.text
		if token.kind == word && !little(t.language, w) && !t.marked(w) && !t.names[w] && !other.names[w] && !other.stems[stemOf(w)] {
			return true
		}
	}
	return false
}

// stemOf takes the commonest endings off a word. That two words may become one only makes them count as less than they are.
func stemOf(w string) string {
	if len(w) > 3 && strings.HasSuffix(w, "s") && !strings.HasSuffix(w, "ss") {
		w = w[:len(w)-1]
	}
	for _, ending := range []string{"ing", "ed", "e"} {
		if root, ok := strings.CutSuffix(w, ending); ok && len(root) > 3 {
			return root
		}
	}
	return w
}
