package guard

import (
	_ "embed"
	"strings"
)

// englishLittle are the words that a question can have or not and still ask for the same.
const englishLittle = `a an the this that these those it its i me my mine you your yours we us our they them their
is are am be been being do does done doing has have having can could would shall might please kindly just really actually simply basically
what which how if so and of to in on at by for with from into about as than then there here whether
tell explain describe give show write list name define summarize summarise provide help let know want need like wondering wonder
hi hello hey thanks thank ok okay well also some any
mean means meaning needed needs wants way ways get got make makes made used use uses using find got go going much many kind sort thing things
exactly briefly quick quickly question curious`

// openers are further words with which English sentences begin, but which make a difference.
var openers = set(`should will must did was were had where when why who whom whose not no never why create generate compute calculate convert translate compare
suggest recommend fix solve rewrite rephrase correct check add remove delete sort find count draw plan design build run implement draft compose outline
discuss identify classify extract analyze analyse evaluate estimate determine choose pick select order change set turn return print output round
after before during while because since although though however therefore first next finally finish does people someone
walk talk guide teach set say ask look consider imagine assume suppose assuming supposing given`)

//go:embed english.txt
var englishText string

// englishMarks are the words on which an answer hangs, by each of their forms.
var englishMarks = marks(englishText)

// marks reads lines of groups of words between bars; the first of a group stands for all of it.
func marks(lines string) map[string]string {
	table := map[string]string{}
	for line := range strings.Lines(lines) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for group := range strings.SplitSeq(line, "|") {
			words := strings.Fields(group)
			for _, w := range words {
				table[w] = words[0]
			}
		}
	}
	return table
}
