package guard

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A token is a part of a text.
type token struct {
	kind kind
	text string // of words: folded to lower case
	raw  string // as it is spelled
}

type kind uint8

const (
	word  kind = iota
	name       // a word with capitals that say something: US, IT, Paris
	fixed      // a number, a quotation, an identifier: what is no word of a language
	sign       // a comma, a stop
)

// read takes a text apart.
func read(s string) []token {
	r := reader{opens: true, tokens: make([]token, 0, len(s)/4+1)}
	r.read(strings.ReplaceAll(s, "’", "'"))
	return r.tokens
}

type reader struct {
	tokens []token
	opens  bool // a sentence begins
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

// chunkEnd is where a run of what is neither white space nor a quotation's beginning ends. Behind a digit a quotation mark
// stands for feet, inches and minutes.
func chunkEnd(s string) int {
	digit := false
	for i, c := range s {
		if i > 0 && (unicode.IsSpace(c) || closings[c] != "" && c != '\'' && !digit) {
			return i
		}
		digit = unicode.IsDigit(c)
	}
	return len(s)
}

// chunk reads a run without white space: a word, several with hyphens, or something technical, and the signs around it.
func (r *reader) chunk(s string) {
	inner := strings.TrimLeft(s, openings)
	body := strings.TrimRight(inner, stops)
	behind := inner[len(body):]
	if body == "" && strings.Trim(s, "()[]{}") != "" {
		r.alone(s)
		return
	}
	r.nested(s[:len(s)-len(inner)])
	r.body(emphasized(body))
	r.nested(behind)
	r.behind(body, behind)
}

func (r *reader) body(body string) {
	switch {
	case body == "":
	case strings.ContainsFunc(body, unicode.IsDigit):
		r.number(body)
	case strings.ContainsFunc(body, notInWord) || strings.HasPrefix(body, "-") || strings.HasSuffix(body, "-"):
		r.fix(folded(body))
	case countedWords(body):
		for part := range strings.SplitSeq(body, "-") {
			r.word(part)
		}
	default:
		r.word(body)
	}
}

// alone reads signs with white space around them. They are part of a formula or the like, unless one ends a sentence, as in
// French.
func (r *reader) alone(s string) {
	if s == "?" || s == "!" {
		r.behind("", s)
		return
	}
	r.fix(s)
}

// behind notes the sign behind a chunk.
func (r *reader) behind(body, signs string) {
	switch {
	case strings.HasPrefix(signs, "!") && (body == "" && r.afterNumber() || len(body) == 1 || strings.TrimRight(body, "0123456789") != body):
		r.fix("!") // a factorial
	case strings.ContainsAny(signs, "?？"):
		r.tokens, r.opens = append(r.tokens, token{sign, "?", "?"}), true
	case strings.ContainsAny(signs, ".!…。！"):
		r.tokens, r.opens = append(r.tokens, token{sign, ".", "."}), true
	case strings.ContainsAny(signs, ":："):
		r.tokens, r.opens = append(r.tokens, token{sign, ":", ":"}), true
	case strings.ContainsAny(signs, ",;、，；"):
		r.tokens = append(r.tokens, token{sign, ",", ","})
		fallthrough
	default:
		r.opens = r.opens && body == ""
	}
}

func (r *reader) afterNumber() bool {
	n := len(r.tokens)
	return n > 0 && strings.HasPrefix(r.tokens[n-1].text, numberMark)
}

// nested adds the brackets of what stands around a chunk: they are what a formula hangs on.
func (r *reader) nested(around string) {
	for _, c := range around {
		if strings.ContainsRune("()[]{}（）", c) {
			r.fix(string(c))
		}
	}
}

// emphasized takes off the marks of Markdown.
func emphasized(s string) string {
	for _, mark := range []string{"**", "*", "_"} {
		if inner, ok := strings.CutPrefix(s, mark); ok && strings.HasSuffix(inner, mark) && strings.Trim(inner, "*_") == strings.TrimSuffix(inner, mark) && len(inner) > len(mark) {
			return strings.TrimSuffix(inner, mark)
		}
	}
	return s
}

// notInWord tells of a rune that stands in no word but in paths, addresses, operators and the like.
func notInWord(c rune) bool {
	return !unicode.IsLetter(c) && !unicode.IsMark(c) && c != '\'' && c != '-'
}

// folded is a technical token in lower case, but for options, variables, paths and constants, where case matters.
func folded(s string) string {
	if strings.ContainsAny(s[:1], "-$/.~") || strings.Contains(s, "_") {
		return s
	}
	return strings.ToLower(s)
}

func (r *reader) fix(s string) { r.tokens = append(r.tokens, token{fixed, s, s}) }
