package guard

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// closings are the ends of quotations, by how they begin.
var closings = map[rune]string{'"': `"`, '`': "`", '“': "”", '„': "“”", '«': "»", '»': "«", '‹': "›", '‘': "'", '\'': "'"}

const (
	stops    = ".!?:;,…)]}。、，！？：；）"
	openings = "([{¿¡（"
)

// quotation gives the inside of what is quoted at the beginning of s. A single quote is an apostrophe unless it stands
// before a word and another one behind one.
func quotation(s string, before rune) (inside, rest string, ok bool) {
	if body, fenced := strings.CutPrefix(s, "```"); fenced {
		if inside, rest, ok = strings.Cut(body, "```"); ok {
			return inside, rest, true
		}
	}
	first, size := utf8.DecodeRuneInString(s)
	ends := closings[first]
	if ends == "" || first == '\'' && (unicode.IsLetter(before) || unicode.IsDigit(before)) {
		return "", s, false
	}
	body := s[size:]
	for i, c := range body {
		if !strings.ContainsRune(ends, c) || i == 0 {
			continue
		}
		rest = body[i+utf8.RuneLen(c):]
		if next, _ := utf8.DecodeRuneInString(rest); c == '\'' && (unicode.IsLetter(next) || unicode.IsDigit(next)) {
			continue
		}
		return body[:i], rest, true
	}
	return "", s, false
}
