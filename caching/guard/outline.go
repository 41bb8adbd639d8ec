package guard

import "strings"

// Outline gives what of a text must be the same in another one: its language, and in their order its words but for the little
// ones, numbers, units, quotations, code, paths and so on. Spelling does not matter where it says nothing: case, plurals,
// punctuation, 3 or three, km or kilometers, "isn't" or "is not". It is empty if nothing is left.
//
// Which words are little is known of English, German, French and Spanish. In any other language none is.
func Outline(s string) string {
	t := read(s)
	var b strings.Builder
	before := ""
	for _, token := range t.tokens {
		w := token.text
		silent := token.kind == word && (t.language.little[w] || b.Len() == 0 && t.language.opening[w] || t.language == english && englishAddressed[w][before])
		if before = w; silent {
			continue
		}
		switch {
		case token.kind == name && t.language.knows(w):
			w = nameMark + w
		case token.kind != fixed:
			w = t.language.same(w)
		}
		if b.Len() == 0 {
			b.WriteString(t.language.name)
		}
		b.WriteByte('\n') // in no token: what is quoted has it escaped
		b.WriteString(w)
	}
	return b.String()
}

// nameMark keeps a name apart from the word that is like it: US.
const nameMark = "="

// same gives the one spelling that stands for several.
func (l *language) same(w string) string {
	if l != english {
		return w
	}
	if one, ok := englishForms[w]; ok {
		return one
	}
	return stemOf(w)
}

// stemOf takes the commonest endings off an English word. That two words may become one only makes their difference count as
// none.
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
