package guard

import (
	"strings"
	"testing"
)

func TestOutline(t *testing.T) {
	for _, test := range []struct {
		name, a, b string
		want       bool
	}{
		{"case and politeness", "what is the capital of france", "Hi, please tell me what the capital of France is.", true},
		{"how it is asked", "How can I reset the password?", "Hi, tell me how to reset the password please. Thank you!", true},
		{"whose it is to whom", "How can I reset my password?", "How can I reset the password?", false},
		{"the same in other words", "How can I reset my password?", "How do I recover my password?", false},
		{"an explanation", "Explain photosynthesis", "What is photosynthesis?", true},
		{"another name", "What is the capital of France?", "What is the capital of Spain?", false},
		{"a name written small", "weather in Oslo for the week", "what is the weather in bergen for the week", false},
		{"a name like a little word", "what is the tax in the US", "what is the tax of us", false},
		{"capitals that open", "What is it for? Is it the plan?", "what is it for? is it the plan", true},
		{"a greeting that is meant", "translate hello to French", "translate thanks to French", false},
		{"what to do with a list", "sort the list in Python", "explain the list in Python", false},
		{"a place", "What is in the box?", "What is on the box?", false},
		{"a verb that also opens", "why do people like cats", "why do people want cats", false},
		{"what opens", "I would like to know why cats are afraid", "why are cats afraid", true},
		{"what is had", "which countries have kings", "which countries are kings", false},
		{"how and what", "How is the glass made?", "What is the glass made of?", false},
		{"how it is to be explained", "explain the plan simply", "explain the plan", false},
		{"who does it", "How do I contact you?", "How do you contact me?", false},
		{"anybody", "How do you boil an egg?", "How do I boil an egg?", false},
		{"whose it is", "What is my name?", "What is your name?", false},
		{"who is meant", "Are you a robot?", "Am I a robot?", false},
		{"who is asked", "Can you explain the plan to me? Thank you!", "explain the plan", true},
		{"a direction", "the flight from Rome to Oslo", "the flight to Rome from Oslo", false},
		{"what to do", "write a plan", "explain a plan", false},
		{"a name that opens", "Paris has how many people?", "Lyon has how many people?", false},
		{"a possessive", "what is Oslo's plan", "what is the Oslo plan", false},
		{"names the other way round", "Is Anna older than Ben?", "Is Ben older than Anna?", false},
		{"words the other way round", "why is the dog afraid of the fox", "why is the fox afraid of the dog", false},
		{"a digit", "What is 15 % of 80?", "What is 15 % of 81?", false},
		{"spelled numbers", "Name three of them", "Name 3 of them", true},
		{"longer spelled numbers", "What is two hundred and five?", "What is 205?", false}, // "and" parts them: rather no than wrong
		{"tens and ones", "give me twenty-five of these", "give me 25 of these", true},
		{"thousands", "is it three thousand two hundred", "is it 3,200", true},
		{"two numbers beside each other", "is it nine eight", "is it 9008", false},
		{"grouped digits", "is it 1,000", "is it 1000", true},
		{"where a bracket opens", "what is 2 * (3 + 4)", "what is (2 * 3 + 4)", false},
		{"a decimal comma", "is it 1,5", "is it 15", false},
		{"a decimal", "is it 1.5", "is it 15", false},
		{"other brackets", "What is (2 + 3) * 4?", "What is 2 + (3 * 4)?", false},
		{"a factorial", "What is 5!?", "What is 5?", false},
		{"an indentation", "Fix `if a:\n  b\nc`", "Fix `if a:\n  b\n  c`", false},
		{"an indentation without quotes", "Fix it:\nif a:\n  b\nc", "Fix it:\nif a:\n  b\n  c", false},
		{"lines", "What is the plan?\n\nPlease be exact.", "What is the plan? Please be exact.", true},
		{"another sign", "is it 5 + 3", "is it 5 - 3", false},
		{"a negative number", "is it -5", "is it 5", false},
		{"ordinals", "what is the second one of these", "what is the 2nd one of these", true},
		{"an ordinal is no number", "what is the second of them", "what is the two of them", false},
		{"a unit", "what is 5 km", "what is 5 miles", false},
		{"a unit's forms", "what is 5 km", "what is 5 kilometers", true},
		{"a unit that sticks", "what is 5km", "what is 5 km", true},
		{"percent", "what is 5% of it", "what is 5 percent of it", true},
		{"money", "what is $5", "what is 5 dollars", true},
		{"other money", "what is $5", "what is €5", false},
		{"a date", "is it on 2024-03-05", "is it on 2024-05-03", false},
		{"a version", "is it in v1.2.3", "is it in v1.2.4", false},
		{"a weekday", "is it on Monday", "is it on Tuesday", false},
		{"not", "Is it on the list?", "Is it not on the list?", false},
		{"n't", "Which of them do float?", "Which of them don't float?", false},
		{"not and n't", "Which of them do not float?", "Which of them don’t float?", true},
		{"without", "the cake with nuts", "the cake without nuts", false},
		{"a syllable", "is it possible to do it", "is it impossible to do it", false},
		{"an ending", "is it harmful to me", "is it harmless to me", false},
		{"a word for another", "the colour of gold", "the colour of silver", false},
		{"a word more", "how do I reset the password", "how do I reset the forgotten password", false},
		{"another form of a word", "how do I paint the fence", "how do I paint the fences", false},
		{"an opposite", "what to do before it", "what to do after it", false},
		{"an option", "what does -r do", "what does -R do", false},
		{"a path", "what is in /etc/hosts", "what is in /etc/fstab", false},
		{"an identifier", "what does getUser do", "what does getUsers do", false},
		{"a file", "what is in main.go?", "what is in main.c?", false},
		{"a quotation", `what does "it" mean`, `what does "that" mean`, false},
		{"quotation marks", "what does “it” mean", `what does "it" mean?`, true},
		{"code", "what does `it` mean", "what does `that` mean", false},
		{"a block of code", "what does it do?\n```\na = 1\n```", "what does it do?\n```\na = b\n```", false},
		{"no quotation", "what is the users' and the teams' plan", "what is the users' and the teams' plan?", true},
		{"a letter", "what is vitamin b for", "what is vitamin k for", false},
		{"a question word", "when is it", "where is it", false},
		{"another language", "What is the plan of it?", "Was ist der Plan von der?", false},
		{"German", "Wie ist das Wetter in Bern?", "bitte, wie ist das Wetter in Bern?", true},
		{"a German word", "Wie ist das Wetter in Bern?", "Wie ist das Wetter in Basel?", false},
		{"German, negated", "Ist das der Plan?", "Ist das nicht der Plan?", false},
		{"French", "Quelle est la capitale de l'Italie ?", "quelle est la capitale de l’Italie?", true},
		{"French, negated", "Est-ce que tu as la clé ?", "Est-ce que tu n'as pas la clé ?", false},
		{"Spanish", "¿Cuál es la clave?", "¿cuál es la clave? Gracias", true},
		{"a language that is not known", "Jak mogę to zrobić?", "Jak mogę tego nie zrobić?", false},
		{"the same in it", "Jak mogę to zrobić?", "jak mogę to zrobić", true},
		{"no spaces", "法国的首都是哪里？", "德国的首都是哪里？", false},
		{"their punctuation", "法国的首都是哪里？", "法国的首都是哪里", true},
		{"keywords alone", "oslo weather", "bergen weather", false},
		{"nothing", "", "", true},
		{"nothing and something", "", "not", false},
		{"little words", "what is it", "", false},
		{"an emoji", "is it 👍", "is it 👎", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if a, b := Outline(test.a), Outline(test.b); (a == b) != test.want {
				t.Errorf("%q and %q", a, b)
			}
		})
	}
}

// Whatever the text is, white space around it makes no difference, and a negation does.
func FuzzOutline(f *testing.F) {
	for _, seed := range []string{
		"What is 5 km?", "it isn't “so”", "‘it’ is 'not' so", "```a", "`", "n't", "'", "İ ß", "-", "$5k", "1,000.5th", "\xff\xfe", "a\x00b", "ten million hundred", "--x", "l'", "d'or",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		outline := Outline(s)
		if again := Outline(" \t" + s + "\n "); again != outline {
			t.Errorf("%q: %q with white space, %q without", s, again, outline)
		}
		if negated := Outline(s + " not"); negated == outline {
			t.Errorf("%q: %q negated or not", s, outline)
		}
	})
}

func BenchmarkOutline(b *testing.B) {
	for name, text := range map[string]string{"60 bytes": "How do I read the file in Python line by line, please tell me?", "1 KB": strings.Repeat("How do I read the file in Python line by line? ", 20)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if Outline(text) == "" {
					b.Fatal("nothing is left")
				}
			}
		})
	}
}
