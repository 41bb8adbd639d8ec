package guard

import (
	"strings"
	"unicode/utf8"
)

// word adds a word of letters and apostrophes: of what is drawn together, each part for itself.
func (r *reader) word(s string) {
	plural := strings.HasSuffix(s, "s'")
	s = strings.Trim(s, "'")
	lower := strings.ToLower(s)
	if parts, ok := contractions[lower]; ok {
		for w := range strings.FieldsSeq(parts) {
			r.tokens = append(r.tokens, token{word, w, w})
		}
		return
	}
	root, ending, found := strings.Cut(s, "'")
	switch {
	case s == "":
	case !found:
		r.plain(s)
		if plural {
			r.fix("'s")
		}
	case strings.HasSuffix(lower, "n't"): // one that is not in the table
		r.plain(s[:len(s)-len("n't")])
		r.fix("not")
	case strings.EqualFold(ending, "s"):
		r.plain(root)
		r.fix("'s")
	case spoken[strings.ToLower(ending)] != "":
		r.plain(root)
		r.plain(spoken[strings.ToLower(ending)])
	case len(root) < 3 && !strings.Contains(ending, "'"): // l'eau
		r.tokens = append(r.tokens, token{word, strings.ToLower(root), root})
		r.plain(ending)
	default:
		r.fix(lower)
	}
}

// plain adds a word without apostrophes.
func (r *reader) plain(s string) {
	lower := strings.ToLower(s)
	t := token{word, lower, s}
	switch _, size := utf8.DecodeRuneInString(s); {
	case s == "":
		return
	case s == lower || lower == "i":
	case size == len(s): // a letter: of vitamins, notes, variables
		if !r.opens || lower != "a" {
			t.kind, t.text = fixed, s
		}
	case s[size:] != lower[min(size, len(lower)):] || !r.opens || twofold[lower]:
		t.kind = name
		if twofold[lower] || turned[lower] || !r.opens && len(s) == 2 && s[1:] == lower[1:] { // Mg, mg
			t.text = nameMark + lower
		}
	}
	r.tokens = append(r.tokens, t)
}

// nameMark keeps a name apart from the word that is like it: US.
const nameMark = "\t="

// contractions are words that are drawn together, with and without the apostrophe, and what they stand for.
var contractions = pairs(`cannot:can not | can't:can not | cant:can not | won't:will not | wont:will not | shan't:shall not
dont:do not | doesnt:does not | didnt:did not | isnt:is not | arent:are not | wasnt:was not | werent:were not | wouldnt:would not
shouldnt:should not | couldnt:could not | havent:have not | hasnt:has not | hadnt:had not | aint:ai not | w/o:without
what's:what is | whats:what is | who's:who is | where's:where is | how's:how is | when's:when is | why's:why is | that's:that is | there's:there is
here's:here is | it's:it is | he's:he is | she's:she is | i'm:i am | im:i am | i'd:i would`)

// spoken are the endings that a word can have behind its apostrophe, and what they stand for.
var spoken = map[string]string{"re": "are", "ve": "have", "ll": "will"}

// twofold are words that mean something else with a capital, at the beginning of a sentence, too.
var twofold = set(`polish turkey china japan jordan chile guinea march august bill grace hope rose faith jack frank art drew chase hunter
apple amazon oracle windows word excel access teams outlook office edge chrome opera safari meta target gap visa subway orange shell
go swift rust ruby java python julia dart crystal basic assembly express flask spring rails react angular spark kafka hive storm
earth mars mercury venus moon saturn god bible mass catholic orient bath reading nice mobile cork cologne`)

// turned are words that mean something else with a capital within a sentence, or in capitals.
var turned = set(`the a an it who am us can will may might do is are be been being in on at or and not no any all some if so to of for from by as he she they you we me my
what when where why how which this that there here go aids ram pin cat sat act sad mad ted gap mint care bit fit id ad os
sie ihr ihre ihnen`)
