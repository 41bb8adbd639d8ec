package guard

import (
	"strconv"
	"strings"
	"unicode"
)

// number adds what holds a digit: a number with its unit, each for itself, or something like a date or a version, as it is.
func (r *reader) number(s string) {
	from := strings.IndexFunc(s, unicode.IsDigit)
	before, digits := s[:from], s[from:]
	end := strings.IndexFunc(digits, func(c rune) bool { return !unicode.IsDigit(c) && c != '.' && c != ',' })
	if end < 0 {
		end = len(digits)
	}
	behind := digits[end:]
	unit := strings.TrimLeft(behind, "-")
	currency := ""
	if strings.Contains("$€£¥", before) {
		currency = units[before]
	}
	if before != "" && before != "+" && currency == "" || strings.ContainsFunc(behind, unicode.IsDigit) || unit == "" && behind != "" {
		r.fix(folded(s))
		return
	}
	value := withoutCommas(digits[:end])
	switch strings.ToLower(behind) {
	case "":
		r.fix(numberMark + value)
	case "st", "nd", "rd", "th":
		r.fix(ordinalMark + value)
	default:
		r.fix(numberMark + value)
		r.fix(unit) // its case counts
	}
	if currency != "" {
		r.fix(currency) // behind its number, as it is spoken
	}
}

// The marks begin with what stands in no token.
const (
	numberMark  = "\t"
	ordinalMark = "\t."
)

// withoutCommas takes out commas that only group digits.
func withoutCommas(s string) string {
	parts := strings.Split(s, ",")
	for i, part := range parts {
		if i > 0 && len(strings.SplitN(part, ".", 2)[0]) != 3 {
			return s
		}
	}
	return strings.Join(parts, "")
}

// joinNumbers makes numbers of number words: twenty five is 25, two hundred is 200, second is 2nd.
func joinNumbers(tokens []token) []token {
	joined := tokens[:0]
	var run spelled
	for _, t := range tokens {
		if t.kind == word && run.take(t.text) {
			continue
		}
		joined = run.end(joined)
		if t.kind != word || !run.take(t.text) {
			joined = append(joined, t)
		}
	}
	return run.end(joined)
}

// A spelled is a number that is being read word by word.
type spelled struct {
	sum, part, last int
	open, ordinal   bool
}

// take takes the next word, if it goes on with the number, or begins one.
func (n *spelled) take(w string) bool {
	value, ok := spelledNumbers[w]
	ordinal := false
	if !ok {
		value, ordinal = spelledOrdinals[w]
	}
	switch {
	case !ok && !ordinal || n.ordinal:
		return false
	case value >= 1000 && n.sum > 0 && n.sum < 1000*value: // a million million
		return false
	case value >= 1000:
		n.sum, n.part = n.sum+max(n.part, 1)*value, 0
	case value == 100:
		n.part = max(n.part, 1) * value
	case n.open && n.last < 100 && (n.last < 20 || value >= 10): // nine eight
		return false
	default:
		n.part += value
	}
	n.open, n.ordinal, n.last = true, ordinal, value
	return true
}

// end adds the number that was read, if there is one.
func (n *spelled) end(tokens []token) []token {
	if !n.open {
		return tokens
	}
	mark := numberMark
	if n.ordinal {
		mark = ordinalMark
	}
	number := mark + strconv.Itoa(n.sum+n.part)
	tokens = append(tokens, token{fixed, number, number})
	*n = spelled{}
	return tokens
}

var spelledNumbers = counted("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
	map[string]int{"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
		"hundred": 100, "thousand": 1000, "million": 1e6, "billion": 1e9, "dozen": 12})

var spelledOrdinals = counted("zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth",
	map[string]int{"twentieth": 20, "thirtieth": 30, "hundredth": 100, "thousandth": 1000})

// counted numbers words by their place.
func counted(words string, table map[string]int) map[string]int {
	for i, w := range strings.Fields(words) {
		table[w] = i
	}
	return table
}

// countedWords tells whether the parts of a word with hyphens are all numbers: twenty-five.
func countedWords(s string) bool {
	for part := range strings.SplitSeq(strings.ToLower(s), "-") {
		_, number := spelledNumbers[part]
		_, ordinal := spelledOrdinals[part]
		if !number && !ordinal {
			return false
		}
	}
	return true
}
