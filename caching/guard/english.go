package guard

import "strings"

// units are the spellings of units, by each of them, as they stand behind a number. Case counts: mW and MW, Mb and MB are not the same. The first one before
// a bar stands for the others.
var units = forms(`percent % percentage | dollars dollar usd USD $ | euros euro eur EUR € | gbp GBP £ | yen jpy JPY ¥ | pounds pound | lb lbs | cents cent
mm millimeter millimeters millimetre millimetres | cm centimeter centimeters centimetre centimetres | m meter meters metre metres
km KM kilometer kilometers kilometre kilometres kms | inch inches | foot feet ft | yard yards yd | mile miles mi | mg milligram milligrams
g gram grams | kg KG kilogram kilograms kilo kilos kgs | ounce ounces oz | ml mL milliliter milliliters millilitre millilitres
l L liter liters litre litres | gallon gallons gal | tbsp tablespoon tablespoons | tsp teaspoon teaspoons | ms millisecond milliseconds
s sec secs seconds | min mins minute minutes | h hour hours hr hrs | year years yr yrs | kb KB kB kilobyte kilobytes | mb MB megabyte megabytes
gb GB gigabyte gigabytes | tb TB terabyte terabytes | celsius °c °C | fahrenheit °f °F | degrees degree °`)

// synonyms are spellings of one thing.
var synonyms = forms(`javascript js | typescript ts | postgres postgresql | kubernetes k8s | who whom | without w/o`)

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

// pairs reads words, each with what it stands for behind a colon, between bars.
func pairs(lines string) map[string]string {
	table := map[string]string{}
	for line := range strings.Lines(lines) {
		for pair := range strings.SplitSeq(line, "|") {
			w, stands, _ := strings.Cut(strings.TrimSpace(pair), ":")
			table[w] = stands
		}
	}
	return table
}

func set(words string) map[string]bool {
	s := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		s[w] = true
	}
	return s
}

// englishWords show that a text is English.
var englishWords = set(`a an the this that it i my we our you your he she they is are am was were be do does did can could would should will have has had
what which who how why when where if and of to in on for with about without not from by at than then please tell explain show give write translate list into convert name make find me us them these those there`)

// english tells whether a text is, as far as one word in three tells.
func english(tokens []token) bool {
	words, known := 0, 0
	for _, t := range tokens {
		if t.kind == word || t.kind == name {
			words++
			if englishWords[t.text] {
				known++
			}
		}
	}
	return known > 0 && 3*known >= words
}
