package guard

import "strings"

// A language is one whose little words are known: those that a question can have or not and still ask for the same. What
// negates, asks for a time, a place, a person or a reason, or turns a meaning, is not among them.
type language struct {
	name    string
	little  map[string]bool
	opening map[string]bool // little only before anything else was said: "explain", "I would like to know"
	shows   map[string]bool // words that make a difference, but show the language
}

var (
	english = &language{"en", set(englishLittle), set(englishOpening), set(englishShows)}
	german  = &language{
		"de",
		set(`der die das den dem des ein eine einen einem einer eines ist sind sei bin bist seid wird werden kann können könnte könntest
			kannst könnten ich wir uns man mein meine meinen meinem meiner sich und zu zum zur
			was welche welcher welches welchen bitte mal denn doch gibt dass dies diese dieser dieses so auch eigentlich tun`),
		set(`mir gib geben sag sage sagen erkläre erklär erklären zeige zeig zeigen möchte würde wissen`),
		set(`nicht kein keine keinen ohne nie wie wann wo wer wen wem warum wieso sie es du er ihr mich dich dir dein deine in im an am auf als da für von vom mit bei aus nach
			vor über unter zwischen hat habe haben war waren soll muss darf`),
	}
	french = &language{
		"fr",
		set(`le la les l un une des du de d est suis es être je j il on nous vous s mon ma mes que qu quoi quel quelle quels quelles c ce ça cette
			cet ces et y peux peut pouvez pourrais pourriez puis plaît svp là`),
		set(`me m moi explique expliquez expliquer dis dites dire donne donnez montre montrez voudrais savoir`),
		set(`ne n pas non sans jamais comment quand où qui pourquoi tu elle te ton ta tes son sa ses à au aux en pour par avec dans sur sous avant après
			ai as a avez ont avoir était faire fait dois doit`),
	}
	spanish = &language{
		"es",
		set(`el la los las un una unos unas del de es son soy eres está están ser yo nosotros se mi mis lo que qué cuál cuáles y puedo puede
			puedes podría podrías hay favor este esta esto ese esa eso`),
		set(`me explica explique explicar explícame dime diga decir da dame muestra muéstrame quiero saber`),
		set(`no sin nunca cómo cuándo dónde quién tú él ella te tu tus su sus a al en por para con sobre antes después tengo tiene hago hace hacer era debo`),
	}
	unknown   = &language{}
	languages = []*language{english, german, french, spanish}
)

// knows tells whether a word shows the language.
func (l *language) knows(w string) bool { return l.little[w] || l.opening[w] || l.shows[w] }

// greetings say nothing at the beginning and at the end.
var greetings = set("hi hello hey thanks thank ok okay hallo danke bonjour merci salut hola gracias")

// withoutGreetings takes them off. "Translate hello" keeps its hello, unless that is all that is left.
func withoutGreetings(tokens []token) []token {
	for len(tokens) > 0 && greetings[tokens[0].text] {
		tokens = tokens[1:]
	}
	for n := len(tokens); n > 1; n = len(tokens) {
		switch last := tokens[n-1].text; {
		case greetings[last]:
			tokens = tokens[:n-1]
		case last == "you" && tokens[n-2].text == "thank":
			tokens = tokens[:n-2]
		default:
			return tokens
		}
	}
	return tokens
}

func set(words string) map[string]bool {
	s := map[string]bool{}
	for _, w := range strings.Fields(words) {
		s[w] = true
	}
	return s
}

// languageOf gives the language of which a text has the most known words: one in four at least, and more than of any
// other; else it is unknown.
func languageOf(tokens []token) (found *language) {
	words, best := 0, 0
	found = unknown
	for _, t := range tokens {
		if t.kind != fixed {
			words++
		}
	}
	for _, l := range languages {
		n := 0
		for _, t := range tokens {
			if t.kind != fixed && l.knows(t.text) {
				n++
			}
		}
		switch {
		case n > best:
			found, best = l, n
		case n == best:
			found = unknown
		}
	}
	if 4*best < words {
		return unknown
	}
	return found
}
