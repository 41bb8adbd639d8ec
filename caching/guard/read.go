package guard

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A text is what was read of one.
type text struct {
	language *language
	tokens   []token
}

// A token is a part of a text. Words are folded to lower case.
type token struct {
	kind kind
	text string
}

type kind uint8

const (
	word  kind = iota
	name       // a word that is not little, even if there is a little one like it: US, IT
	fixed      // a number, a quotation, an identifier: what is no word of a language
)

func read(s string) *text {
	t := &text{}
	r := reader{text: t, opens: true}
	r.read(strings.ReplaceAll(s, "’", "'"))
	t.language = languageOf(t.tokens)
	t.tokens = withoutGreetings(t.tokens)
	if t.language == english {
		t.tokens = joinNumbers(t.tokens)
	}
	return t
}

// A reader takes a text apart.
type reader struct {
	*text
	opens bool // a sentence begins
}

func (r *reader) read(s string) {
	before := ' '
	for s != "" {
		if rest := strings.TrimLeftFunc(s, unicode.IsSpace); len(rest) < len(s) {
			r.space(s[:len(s)-len(rest)], rest == "")
			before, s = ' ', rest
			continue
		}
		if inside, rest, ok := quotation(s, before); ok {
			r.fix(strconv.Quote(inside)) // white space may be what a program hangs on
			r.opens, before, s = false, '"', rest
			continue
		}
		end := chunkEnd(s)
		r.chunk(s[:end])
		before, _ = utf8.DecodeLastRuneInString(s[:end])
		s = s[end:]
	}
}

// space notes what white space says: that a line begins, and how far it is indented, as in a program.
func (r *reader) space(s string, last bool) {
	line := strings.LastIndexByte(s, '\n')
	r.opens = r.opens || line >= 0
	if indent := s[line+1:]; line >= 0 && indent != "" && !last {
		r.fix(strconv.Quote(indent))
	}
}

// chunkEnd is where a run of what is neither white space nor a quotation's beginning ends.
func chunkEnd(s string) int {
	for i, c := range s {
		if i > 0 && (unicode.IsSpace(c) || closings[c] != "" && c != '\'') {
			return i
		}
	}
	return len(s)
}

// closings are the ends of quotations, by how they begin.
var closings = map[rune]string{'"': `"`, '`': "`", '“': "”", '„': "“”", '«': "»", '»': "«", '‹': "›", '‘': "'", '\'': "'"}

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

const (
	stops    = ".!?:;,…–—()[]{}\"'`“”„‘«»‹›¿¡。、，！？：；（）"
	openings = "([{¿¡'\"`“„‘«‹（*_"
)

// chunk reads a run without white space: a word, several with hyphens, or something technical.
func (r *reader) chunk(s string) {
	inner := strings.TrimLeft(s, openings)
	r.nested(s[:len(s)-len(inner)])
	body := strings.TrimRight(inner, stops+"*")
	behind := inner[len(body):]
	ended := strings.ContainsAny(behind, ".!?:…。！？")
	defer func() {
		if strings.HasPrefix(behind, "!") && strings.TrimRight(body, "0123456789") != body {
			r.fix("!") // a factorial
		}
		r.nested(behind)
		r.opens = ended || r.opens && body == ""
	}()
	switch {
	case body == "":
	case strings.ContainsFunc(body, unicode.IsDigit):
		r.number(body)
	case strings.ContainsFunc(strings.Trim(body, "-'"), notInWord) || strings.HasPrefix(body, "-"):
		r.fix(folded(body))
	default:
		for part := range strings.SplitSeq(body, "-") {
			if part != "" {
				r.word(part)
				r.opens = false
			}
		}
	}
}

// nested adds the brackets of what stands around a chunk: they are what a formula hangs on.
func (r *reader) nested(around string) {
	for _, c := range around {
		if strings.ContainsRune("()[]{}", c) {
			r.fix(string(c))
		}
	}
}

// notInWord tells of a rune that stands in no word but in paths, addresses, operators and the like.
func notInWord(c rune) bool {
	return !unicode.IsLetter(c) && !unicode.IsMark(c) && c != '\'' && c != '-'
}

// folded is a technical token in lower case, but for options and variables, where case matters.
func folded(s string) string {
	if s[0] == '-' || s[0] == '$' {
		return s
	}
	return strings.ToLower(s)
}

func (r *reader) fix(s string) { r.tokens = append(r.tokens, token{fixed, s}) }

// word adds a word of letters and apostrophes.
func (r *reader) word(s string) {
	s = strings.Trim(s, "'")
	root := s
	lower := strings.ToLower(s)
	negated := strings.HasSuffix(lower, "n't")
	if i := strings.IndexByte(s, '\''); i >= 0 && !negated {
		if root = s[:i]; len(root) == 1 && !strings.EqualFold(root, "i") { // l'eau, d'or
			root = s[i+1:]
		}
	}
	if root == "" {
		return
	}
	folded := strings.ToLower(root)
	switch {
	case negated:
		r.fix(notMark)
	default:
		r.tokens = append(r.tokens, token{r.kindOf(root, folded), folded})
	}
}

// kindOf tells what a word is by its capitals. At the beginning of a sentence, and of "I", the first one says nothing.
func (r *reader) kindOf(s, folded string) kind {
	_, size := utf8.DecodeRuneInString(s)
	switch {
	case s == folded || folded == "i":
		return word
	case s[size:] == folded[min(size, len(folded)):]:
		if r.opens {
			return word
		}
		return name
	case s == strings.ToUpper(s):
		return name
	}
	return fixed // getUsers
}
