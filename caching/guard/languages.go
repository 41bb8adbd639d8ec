package guard

import "strings"

// A language is one whose little words are known: those that a question can have or not and still ask for the same. What
// negates, asks for a time, a place, a person or a reason, or turns a meaning, is not among them.
type language struct {
	name   string
	little map[string]bool
}

var (
	english = &language{"en", set(englishLittle)}
	german  = &language{"de", set(`der die das den dem des ein eine einen einem einer eines ist sind sei bin bist seid wird werden kann können könnte könntest
kannst könnten ich du er sie es wir ihr mich mir dich dir uns euch man mein meine meinen meinem meiner dein deine sich und zu zum zur in im an am auf von vom für
mit bei was welche welcher welches welchen wie bitte mal denn doch gibt geben gib sag sage sagen erkläre erklär erklären zeige zeig zeigen nenne nenn nennen hallo danke
soll sollte muss müsste mag möchte will würde hat habe haben hast das dass da dies diese dieser dieses als so auch eigentlich heißt geht gehe macht mache machen tun`)}
	french = &language{"fr", set(`le la les l un une des du de d est sont suis es être a ai as avez ont avoir je j tu il elle on nous vous me m te t se s mon ma mes ton ta tes son sa ses
que qu quoi quel quelle quels quelles comment c ce ça cette cet ces et à au aux en dans sur pour par avec y peux peut pouvez pourrais pourriez puis
dois faut faire fais fait s'il plaît svp merci bonjour moi explique expliquez expliquer dis dites dire donne donnez montre montrez là`)}
	spanish = &language{"es", set(`el la los las un una unos unas del de es son soy eres está están ser a al yo tú él ella nosotros me te se mi mis tu tus su sus lo le les
que qué cuál cuáles cómo y en por para con puedo puede puedes podría podrías hay tengo debo tiene hacer hago hace haces favor gracias hola explica explique explicar
explícame dime diga decir da dame muestra muéstrame este esta esto ese esa eso`)}
	languages = []*language{english, german, french, spanish}
)

func set(words string) map[string]bool {
	s := map[string]bool{}
	for _, w := range strings.Fields(words) {
		s[w] = true
	}
	return s
}

// languageOf gives the language of which a text has the most little words: one in four at least, and more than of any
// other; else nil.
func languageOf(tokens []token) (found *language) {
	words, best := 0, 0
	for _, t := range tokens {
		if t.kind == word {
			words++
		}
	}
	for _, l := range languages {
		n := 0
		for _, t := range tokens {
			if t.kind == word && l.little[t.text] {
				n++
			}
		}
		switch {
		case n > best:
			found, best = l, n
		case n == best:
			found = nil
		}
	}
	if 4*best < words {
		return nil
	}
	return found
}

// little tells whether a word is one of the language's that may differ. None of an unknown language may.
func little(l *language, w string) bool { return l != nil && l.little[w] }

// opener tells whether sentences usually begin with a word, in any language, so that its capital says nothing.
func opener(w string) bool {
	for _, l := range languages {
		if l.little[w] {
			return true
		}
	}
	_, marked := englishMarks[w]
	return marked || openers[w]
}
