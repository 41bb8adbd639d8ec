package guard

import "strings"

// longestSymbol is the length of the longest symbol of a unit, in bytes.
const longestSymbol = 3

// Outline gives what of a text must be the same in another one: all of it, as it would be put most plainly. It is empty if
// nothing is left.
//
// Case does not matter where it says nothing, nor does punctuation at the end, nor how a number or a unit is spelled, nor what
// is drawn together: 3 or three, km or kilometers, "isn't" or "is not". How questions are put is known of English; of other
// languages only how they are ended.
func Outline(s string) string {
	var b strings.Builder
	number := false
	for _, t := range plainly(read(s)) {
		w := t.text
		if one, ok := units[t.raw]; ok && number {
			w = one
		} else if number && t.kind == name && len(t.raw) <= longestSymbol {
			w = t.raw // mW, MW
		} else if one, ok := synonyms[w]; ok && t.kind != fixed {
			w = one
		}
		number = t.kind == fixed && strings.HasPrefix(w, numberMark) && !strings.HasPrefix(w, ordinalMark)
		b.WriteByte('\n') // in no token: what is quoted has it escaped
		b.WriteString(w)
	}
	return b.String()
}
