package upstream

import (
	"cmp"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// Facts are what a replica says of one model.
type Facts struct {
	// Window is the context window that a request gets, in tokens; zero if it is unknown.
	Window int
	// Trained is the context window that the model was trained with; zero if it is unknown.
	Trained int
	// Unset means that nothing sets the window, so that the server chooses one when it loads the model.
	Unset bool
	Shape
}

// A Shape is what the memory and the speed of a model depend on. Zero means unknown.
type Shape struct {
	Architecture string
	Quantization string
	Parameters   int64
	// Bytes is the size of the weights.
	Bytes int64
	// CacheWidth is how many numbers the KV cache has for each token: the keys and values of all heads in all layers.
	CacheWidth int64
	// Experts and ExpertsUsed are how many experts each layer has, and how many of them a token needs.
	Experts, ExpertsUsed int
	// Embeds means that the model makes embeddings only.
	Embeds bool
}

// addDetails reads what a list of models says in members that only some servers have.
func (a *Facts) addDetails(details []ModelDetail) {
	for _, d := range details {
		switch d.Name {
		case "meta": // llama.cpp
			var meta struct {
				Parameters int64 `json:"n_params"`
				Size       int64
				Trained    int    `json:"n_ctx_train"`
				Type       string `json:"ftype"`
			}
			if json.Unmarshal(d.Value, &meta) == nil {
				a.Parameters, a.Bytes = cmp.Or(a.Parameters, meta.Parameters), cmp.Or(a.Bytes, meta.Size)
				a.Trained, a.Quantization = cmp.Or(a.Trained, meta.Trained), cmp.Or(a.Quantization, strings.TrimPrefix(meta.Type, "all "))
			}
		case "details": // Ollama
			var said struct {
				Size         string `json:"parameter_size"`
				Quantization string `json:"quantization_level"`
			}
			if json.Unmarshal(d.Value, &said) == nil && said.Quantization != "unknown" {
				a.Quantization = cmp.Or(a.Quantization, said.Quantization)
			}
		}
	}
}

var (
	sizeInName  = regexp.MustCompile(`(?i)(?:^|[-_:/ ])(\d+(?:\.\d+)?)b(?:$|[-_:. ])`)
	quantInName = regexp.MustCompile(`(?i)(?:^|[-_:])(awq|gptq|fp8|nvfp4|mxfp4|int4|int8|w4a16|w8a8|q\d(?:_[a-z0-9]+)*)(?:$|[-_:.])`)
	embedInName = regexp.MustCompile(`(?i)embed|(?:^|[-_/])bge-|(?:^|[-_/])e5-`)
)

// guess fills in what names of models usually say.
func (a *Facts) guess(model string) {
	if m := sizeInName.FindStringSubmatch(model); m != nil && a.Parameters == 0 {
		billions, _ := strconv.ParseFloat(m[1], 64) // digits
		a.Parameters = int64(billions * 1e9)
	}
	if m := quantInName.FindStringSubmatch(model); m != nil && a.Quantization == "" {
		a.Quantization = strings.ToUpper(m[1])
	}
	a.Embeds = a.Embeds || embedInName.MatchString(model)
}

// A Setup is how a server should be started.
type Setup struct {
	Model          string
	Slots, Context int
	// CompressCache means that the KV cache has numbers of 8 bits.
	CompressCache bool
}
