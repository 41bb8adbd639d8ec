package router

// A Feature is something that a request may need and a target may lack, as a bit. A set of features is a Feature, too.
type Feature uint8

// The features.
const (
	Tools Feature = 1 << iota
	Images
	Audio
	JSONSchema
	// Thinking is what clients are told of a model. No request needs it, and no configuration sets it.
	Thinking
)

// FeatureNames are the names of the features that a configuration may set, in the order of their bits.
var FeatureNames = [...]string{"tools", "images", "audio", "json_schema"}

// ParseFeature returns the feature with a name.
func ParseFeature(name string) (Feature, bool) {
	for i, n := range FeatureNames {
		if n == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// Capabilities are what a model can take at a target, as far as is known. The zero value takes everything.
type Capabilities struct {
	// ContextWindow is how many tokens prompt and answer may have together, or zero if that is unknown.
	ContextWindow int
	// Lacks are the features that it is known to lack.
	Lacks Feature
	// Has are the features that it is known to have. Whether a request fits depends on Lacks alone, because few servers state these.
	Has Feature
}

// Needs are what a request needs of a target.
type Needs struct {
	// Prompt is an estimate of the prompt, in tokens.
	Prompt int
	// Output is how many tokens of output the request allows, or zero if it sets no maximum.
	Output   int
	Features Feature
}

// minOutput is how many tokens must be left for an answer to make a target worth trying. If the request allows more, its maximum is
// lowered to what is left instead of leaving the target out.
const minOutput = 512

// FitIn reports whether a target with these capabilities can take the request. It allows for an estimate of the prompt that is 10 %
// too low.
func (n Needs) FitIn(c Capabilities) bool {
	if n.Features&c.Lacks != 0 {
		return false
	}
	output := minOutput
	if n.Output > 0 {
		output = min(n.Output, minOutput)
	}
	return c.ContextWindow == 0 || n.Prompt+n.Prompt/10+min(output, c.ContextWindow/4) <= c.ContextWindow
}
