package guard

import "slices"

// plainly gives a text as it would be put most plainly: without greetings, please and "could you tell me", and with one of several turns
// that ask for the same.
func plainly(tokens []token) []token {
	tokens = withoutGreetings(tokens)
	tokens, polite := withoutPlease(tokens)
	n := unsigned(tokens)
	doubts := n < len(tokens) && tokens[len(tokens)-1].text == "?"
	tokens = tokens[:n]
	if n == 0 || !english(tokens) {
		return tokens
	}
	tokens = withoutArticles(asked(plainer(explained(joinNumbers(tokens)))))
	if first := tokens[0].text; doubts && !polite && !questionWords[first] && !helpers[first] {
		tokens = append(tokens, token{sign, "?", "?"}) // else it would be a statement
	}
	return tokens
}

var (
	greetings     = set("hi hello hey thanks ok okay hallo danke bonjour merci salut hola gracias")
	thanks        = set("thanks danke merci gracias")
	questionWords = set("how what who whom whose when where why which")
	helpers       = set("is are am was were do does did can could will would shall should may might must has have had")
	requests      = set("please tell explain give show write list translate summarize summarise describe provide name convert draft compose generate rewrite define")
	pleased       = set("me us him her them you it my our his their your") // please them
)

// withoutGreetings takes them off at the beginning, and thanks at the end, where a sign parts them from the rest.
func withoutGreetings(tokens []token) []token {
	for len(tokens) > 3 && greetings[tokens[0].text] {
		n := 1
		if tokens[1].text == "there" {
			n = 2
		}
		if tokens[n].kind != sign {
			break
		}
		tokens = tokens[n+1:]
	}
	n := unsigned(tokens)
	switch {
	case n > 2 && thanks[tokens[n-1].text] && ends(tokens[n-2]):
		tokens = tokens[:n-1]
	case n > 3 && is(tokens[n-2:n], "thank you") && ends(tokens[n-3]):
		tokens = tokens[:n-2]
	}
	return tokens
}

// unsigned is how many tokens there are without the signs at the end.
func unsigned(tokens []token) int {
	n := len(tokens)
	for n > 0 && tokens[n-1].kind == sign {
		n--
	}
	return n
}

// ends tells whether a token ends a sentence.
func ends(t token) bool { return t.kind == sign && (t.text == "." || t.text == "?") }

// withoutPlease takes please off at the beginning and at the end, and "could you" before what is to be done.
func withoutPlease(tokens []token) (rest []token, polite bool) {
	begin := func(words string, follows func(string) bool) {
		if n := count(words); len(tokens) > n && is(tokens[:n], words) && follows(tokens[n].text) {
			tokens, polite = tokens[n:], true
			if tokens[0].text == "," && len(tokens) > 1 {
				tokens = tokens[1:]
			}
		}
	}
	pleases := func(next string) bool { return !pleased[next] }
	begin("please", pleases)
	for _, words := range []string{"can you", "could you", "will you", "would you"} {
		begin(words, func(next string) bool { return requests[next] })
	}
	begin("please", pleases)
	begin("bitte", pleases)
	n := unsigned(tokens)
	if n > 1 && (tokens[n-1].text == "please" || tokens[n-1].text == "bitte") {
		behind := tokens[n:]
		if n--; n > 1 && tokens[n-1].text == "," {
			n--
		}
		tokens = append(slices.Clone(tokens[:n]), behind...)
	}
	return tokens, polite
}

// is tells whether tokens are these words.
func is(tokens []token, words string) bool {
	at := 0
	for _, t := range tokens {
		if at > len(words) {
			return false
		}
		rest := words[at:]
		if len(rest) < len(t.text) || rest[:len(t.text)] != t.text || len(rest) > len(t.text) && rest[len(t.text)] != ' ' {
			return false
		}
		at += len(t.text) + 1
	}
	return at == len(words)+1
}

func count(words string) int {
	n := 1
	for _, c := range words {
		if c == ' ' {
			n++
		}
	}
	return n
}

func plain(words ...string) []token {
	tokens := make([]token, len(words))
	for i, w := range words {
		tokens[i] = token{word, w, w}
	}
	return tokens
}
