package guard

import (
	"slices"
	"strings"
)

// explained turns "explain why the sky is blue" into "why is the sky blue", and "explain recursion" into "what is recursion".
func explained(tokens []token) []token {
	for _, words := range []string{"tell me", "show me", "explain to me", "explain", "let me know", "i would like to know", "i want to know"} {
		n := count(words)
		if len(tokens) <= n || !is(tokens[:n], words) {
			continue
		}
		rest := tokens[n:]
		switch {
		case rest[0].text == "when" && n < 4:
			return tokens // let me know when it is done
		case determined(rest) && asksPerson(rest) > 0:
			at := asksPerson(rest)
			return slices.Concat(rest[:at], plain("do"), rest[at:])
		case determined(rest) && !helpers[rest[len(rest)-1].text] && rest[len(rest)-1].text != "means":
			return tokens // tell me what dogs eat: not, which dogs eat
		case questionWords[rest[0].text]:
			return direct(rest)
		case words == "tell me" && rest[0].text == "the" || words == "explain" && is(rest[:min(3, len(rest))], "the difference between"):
			return append(plain("what", "is"), rest...)
		case words == "explain":
			if m := len(rest) - 2; m > 0 && is(rest[m:], "to me") {
				rest = rest[:m]
			}
			return explain(rest)
		}
		return tokens
	}
	return tokens
}

// maxNotion is how many words a notion has at most.
const maxNotion = 3

// explain asks what something is, if that is a notion, and not, say, the lyrics of a song.
func explain(what []token) []token {
	first := what[0].text
	notion := len(what) <= maxNotion && (!determiners[first] || first == "a" || first == "an")
	for _, t := range what {
		notion = notion && t.kind != sign && t.text != "'s" && !helpers[t.text] && !prepositions[t.text]
	}
	if notion {
		return append(plain("what", "is"), what...)
	}
	return append(plain("explain"), what...)
}

var (
	prepositions = set("of in on to for from by with without about as like at not")
	determiners  = set("i we you he she it they the this that these those my your our his her its their a an one")
	persons      = set("i we you they")
)

// direct brings the verb to the front that stands behind in "how I can do it" and "why it is so".
func direct(tokens []token) []token {
	first := tokens[0].text
	if len(tokens) < 3 || first == "which" || first == "whose" || first == "how" && !determiners[tokens[1].text] {
		if n := len(tokens); n > 2 && first == "how" && tokens[n-1].text == "works" && tokens[1].text != "to" {
			return slices.Concat(plain("how", "does"), tokens[1:n-1], plain("work"))
		}
		return tokens
	}
	for i := 1; i < len(tokens); i++ {
		if helpers[tokens[i].text] {
			return slices.Concat(tokens[:1], tokens[i:i+1], tokens[1:i], tokens[i+1:])
		}
	}
	switch n := len(tokens); {
	case persons[tokens[1].text]:
		return slices.Concat(tokens[:1], plain("do"), tokens[1:])
	case first == "how" && tokens[n-1].text == "works":
		return slices.Concat(plain("how", "does"), tokens[1:n-1], plain("work"))
	case first == "what" && tokens[n-1].text == "means":
		return slices.Concat(plain("what", "does"), tokens[1:n-1], plain("mean"))
	}
	return tokens
}

// turns are openings, each with a plainer one that asks for the same.
var turns = [][2]string{
	{"how much time does it take", "how long does it take"}, {"in what way", "how"}, {"what amount of", "how much"},
	{"how far away is", "how far is"}, {"how far away are", "how far are"}, {"who was it that", "who"}, {"what is the best time to", "when is the best time to"},
}

// plainer gives the plainer of two turns.
func plainer(tokens []token) []token {
	for _, t := range turns {
		if n := count(t[0]); len(tokens) > n && is(tokens[:n], t[0]) {
			return append(plain(strings.Fields(t[1])...), tokens[n:]...)
		}
	}
	n := len(tokens)
	switch {
	case n > 3 && is(tokens[:3], "how much is") && strings.HasPrefix(tokens[3].text, numberMark):
		return append(plain("what", "is"), tokens[3:]...)
	case n > 3 && (is(tokens[:2], "what does") || is(tokens[:2], "what do")) && tokens[n-1].text == "cost":
		return append(plain("how", "much"), tokens[1:]...)
	}
	return tokens
}

// ways are turns that ask how something is done.
var ways = []string{"how do i", "how can i", "how to", "what is the way to"}

// states are verbs with which "how do I" asks for something else than a way.
var states = set("look feel sound seem smell appear rank score compare differ weigh owe think mean stand have do know")

// asksPerson is where somebody is named in a question without a verb that helps, as in "what methods you accept"; 0 if nobody is.
func asksPerson(tokens []token) int {
	person := 0
	for i, t := range tokens {
		switch {
		case helpers[t.text] || t.kind == sign:
			return 0
		case i > 1 && person == 0 && persons[t.text]:
			person = i
		}
	}
	return person
}

// determined tells whether a question asks for a kind of something: what dogs, which dogs.
func determined(tokens []token) bool {
	if len(tokens) < 2 || tokens[0].text != "what" && tokens[0].text != "which" {
		return false
	}
	next := tokens[1]
	return next.kind != sign && !helpers[next.text] && !prepositions[next.text] && next.text != "if"
}

// asked gives one turn for several that ask for the same.
func asked(tokens []token) []token {
	if len(tokens) < 3 {
		return tokens
	}
	for _, words := range ways {
		if n := count(words); len(tokens) > n && is(tokens[:n], words) && !states[tokens[n].text] {
			return append(plain("how", "to"), tokens[n:]...)
		}
	}
	n := len(tokens)
	switch first := tokens[0].text; {
	case is(tokens[:min(5, n)], "what is the meaning of") && n > 5:
		return append(plain("what", "means"), tokens[5:]...)
	case first == "what" && (tokens[1].text == "does" || tokens[1].text == "do") && tokens[n-1].text == "mean" && n > 3:
		return append(plain("what", "means"), tokens[2:n-1]...)
	case first == "what" && tokens[n-1].text == "exactly":
		return tokens[:n-1]
	case determined(tokens):
		return append(plain("which"), tokens[1:]...)
	case first == "write":
		return written(tokens)
	case first == "convert" || first == "translate":
		return to(tokens)
	}
	return tokens
}

// to says "to" for "into", if that says what something is to become.
func to(tokens []token) []token {
	for i, t := range tokens {
		if t.kind == sign {
			break
		}
		if t.text == "into" {
			return slices.Concat(tokens[:i], plain("to"), tokens[i+1:])
		}
	}
	return tokens
}

// written is what is to be written: "write me a function that checks whether" is "write a function to check if".
func written(tokens []token) []token {
	if len(tokens) > 2 && tokens[1].text == "me" && (tokens[2].text == "a" || tokens[2].text == "an") {
		tokens = append(plain("write"), tokens[2:]...)
	}
	for i := 0; i+1 < len(tokens); i++ {
		if verb, ok := tasks[tokens[i+1].text]; ok && tokens[i].text == "that" {
			tokens = slices.Concat(tokens[:i], plain("to", verb), tokens[i+2:])
		}
	}
	for i, t := range tokens {
		if t.text == "whether" {
			return slices.Concat(tokens[:i], plain("if"), tokens[i+1:])
		}
	}
	return tokens
}

// tasks are what a program does, and how it is told to.
var tasks = pairs("matches:match | checks:check | finds:find | computes:compute | calculates:calculate | prints:print | counts:count | sorts:sort | reads:read | parses:parse | validates:validate | removes:remove")

// singular are words before which "the" says nothing: undo last commit, undo the last commit. Elsewhere it does: what is time, what is the time.
var singular = set("last latest first next")

func withoutArticles(tokens []token) []token {
	var kept []token
	for i, t := range tokens {
		if t.text != "the" || i+1 == len(tokens) || !singular[tokens[i+1].text] {
			kept = append(kept, t)
		}
	}
	return kept
}
