package router

// An Ability is something that a request may need and a target may lack.
type Ability uint8

// The abilities; a set of them is their sum.
const (
	Tools Ability = 1 << iota
	Images
	Audio
	JSONSchema
)

// Abilities names them, in the order of their bits.
var Abilities = [...]string{"tools", "images", "audio", "json_schema"}

// AbilityNamed finds an ability by its name.
func AbilityNamed(name string) (Ability, bool) {
	for i, n := range Abilities {
		if n == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// Limits are what a target can take, as far as is known. The zero Limits take everything.
type Limits struct {
	// Context is how many tokens prompt and answer may have together; zero if that is unknown.
	Context int
	// Lacks are the abilities that it is known not to have.
	Lacks Ability
}

// Needs are what a request needs of a target.
type Needs struct {
	// Prompt is an estimate of the prompt, in tokens.
	Prompt int
	// Output is how many tokens of an answer were asked for; zero if nothing was said.
	Output    int
	Abilities Ability
}

// reserve is the room for an answer without which a target is not worth trying. For more than that a long prompt is not sent
// away: the answer is cut to what fits.
const reserve = 512

// Within tells whether a target with these limits can take a request. The estimate may be a tenth too low.
func (n Needs) Within(l Limits) bool {
	if n.Abilities&l.Lacks != 0 {
		return false
	}
	output := reserve
	if n.Output > 0 {
		output = min(n.Output, reserve)
	}
	return l.Context == 0 || n.Prompt+n.Prompt/10+min(output, l.Context/4) <= l.Context
}
