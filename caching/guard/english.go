package guard

import "strings"

// englishLittle are the words that a question can have or not and still ask for the same. What gives a place or a direction (in, from),
// asks for a time, a place, a person or a reason, negates or limits is not among them, nor are verbs.
const englishLittle = `a an the this that these those it its i my mine we our
is are am be been being do does done doing can could would shall might please kindly really actually basically exactly
what which if so and of to into than here there whether
also some any mean means meaning much many kind thing things`

// englishOpening are the words with which a question is put.
const englishOpening = `tell explain describe give show let know want like wonder wondering`

// englishShows are words that show that a text is English, and make a difference.
const englishShows = `in on as then from by for with about without not no never who whom whose when where why will must should was were did had before after between has have
under over how me us you your he she they him his her them their write list name summarize translate create make use find need`

// addressed are words behind which "me" says nothing.
var addressed = set("tell give show let write make find get explain describe to")

// englishAddressed are pronouns that say nothing behind these words: "can you tell me how", "how do you".
var englishAddressed = map[string]map[string]bool{
	"you": set("do can could would should might did will thank"),
	"me":  addressed,
	"us":  addressed,
}

// englishForms are words with several spellings, by each of them. The first of a line, or behind a bar, stands for the others.
var englishForms = forms(`not cannot dont doesnt didnt isnt arent wasnt werent cant wont wouldnt shouldnt couldnt havent hasnt hadnt aint | without w/o | how way ways | who whom
percent % percentage | dollar dollars usd $ | euro euros eur € | pound pounds gbp £ lb lbs | yen jpy ¥ | cent cents
mm millimeter millimeters millimetre millimetres | cm centimeter centimeters centimetre centimetres | m meter meters metre metres
km kilometer kilometers kilometre kilometres kms | inch inches | foot feet ft | yard yards yd | mile miles mi | mg milligram milligrams
g gram grams | kg kilogram kilograms kilo kilos kgs | ounce ounces oz | ton tons | ml milliliter milliliters millilitre millilitres
l liter liters litre litres | gallon gallons gal | tbsp tablespoon tablespoons | tsp teaspoon teaspoons | ms millisecond milliseconds
sec secs seconds s | minute minutes | hour hours h hr hrs | year years yr yrs | kb kilobyte kilobytes | mb megabyte megabytes
gb gigabyte gigabytes | tb terabyte terabytes | celsius °c | fahrenheit °f | degree degrees °
january jan | february feb | april apr | august aug | september sep sept | october oct | november nov | december dec
mother mom mum | father dad | javascript js | typescript ts | https | macos | postgres postgresql | kubernetes k8s`)

// forms reads the lines.
func forms(lines string) map[string]string {
	table := map[string]string{}
	for line := range strings.Lines(lines) {
		for group := range strings.SplitSeq(line, "|") {
			words := strings.Fields(group)
			for _, w := range words {
				table[w] = words[0]
			}
		}
	}
	return table
}
