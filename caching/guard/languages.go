package guard

import "strings"

// A language is one whose little words are known: those that a question can have or not and still ask for the same. What
// negates, asks for a time, a place, a person or a reason, or turns a meaning, is not among them, but shows the language, too.
type language struct {
	name          string
	little, shows map[string]bool
}

var (
	english = &language{"en", set(englishLittle), set(englishShows)}
	german  = &language{"de", set(`der die das den dem des ein eine einen einem einer eines ist sind sei bin bist seid wird werden kann können könnte könntest
kannst könnten ich du er sie es wir ihr mich mir dich dir uns euch man mein meine meinen meinem meiner dein deine sich und zu zum zur in im an am auf
was welche welcher welches welchen wie bitte mal denn doch gibt geben gib sag sage sagen erkläre erklär erklären zeige zeig zeigen hallo danke
mag möchte will würde hat habe haben hast das dass da dies diese dieser dieses als so auch eigentlich geht tun`), set(`nicht kein keine keinen ohne nie wann wo wer wen wem warum wieso für von vom mit bei aus nach vor über unter zwischen war waren soll muss darf`)}
	french = &language{"fr", set(`le la les l un une des du de d est suis es être a ai as avez ont avoir je j tu il elle on nous vous me m te t se s mon ma mes ton ta tes son sa ses
que qu quoi quel quelle quels quelles comment c ce ça cette cet ces et à au aux en y peux peut pouvez pourrais pourriez puis
plaît svp merci bonjour moi explique expliquez expliquer dis dites dire donne donnez montre montrez là`), set(`ne n pas non sans jamais quand où qui pourquoi pour par avec dans sur sous avant après était faire fait dois doit`)}
	spanish = &language{"es", set(`el la los las un una unos unas del de es son soy eres está están ser a al yo tú él ella nosotros me te se mi mis tu tus su sus lo le les
que qué cuál cuáles cómo y en puedo puede puedes podría podrías hay tengo tiene hago hace favor gracias hola explica explique explicar
explícame dime diga decir da dame muestra muéstrame este esta esto ese esa eso`), set(`no sin nunca cuándo dónde quién por para con sobre antes después era debo hacer`)}
	unknown   = &language{}
	languages = []*language{english, german, french, spanish}
)

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
			if t.kind != fixed && (l.little[t.text] || l.shows[t.text]) {
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
