// Package tokens has the one struct in which all packages of this module count what an answer consumed.
//
// It reads no answers and knows no prices. It imports no other package of this module.
package tokens

// Usage is what an answer consumed. The parts of Input and of Output may overlap: cached tokens may be tokens of audio.
type Usage struct {
	// Input is the number of tokens of the prompt, including all of its parts below.
	Input int64 `json:"input_tokens"`
	// Output is the number of tokens of the answer, including all of its parts below.
	Output int64 `json:"output_tokens"`
	// Cached is the part of Input that the upstream had in its cache.
	Cached int64 `json:"cached_tokens"`
	// Reasoning is the part of Output that the model used to think.
	Reasoning int64 `json:"reasoning_tokens,omitempty"`
	// CacheWrite is the part of Input that the upstream wrote to its cache, and CacheWriteHour is the part of CacheWrite that it
	// keeps there for an hour instead of minutes.
	CacheWrite     int64 `json:"cache_write_tokens,omitempty"`
	CacheWriteHour int64 `json:"cache_write_hour_tokens,omitempty"`
	// AudioInput and AudioOutput are the parts of Input and Output that are audio, ImageInput and ImageOutput those that are images.
	AudioInput  int64 `json:"audio_input_tokens,omitempty"`
	AudioOutput int64 `json:"audio_output_tokens,omitempty"`
	ImageInput  int64 `json:"image_input_tokens,omitempty"`
	ImageOutput int64 `json:"image_output_tokens,omitempty"`

	// The rest is not tokens, but what some answers are billed by instead.

	// AudioMillis is the length of the audio that was transcribed, in milliseconds.
	AudioMillis int64 `json:"audio_ms,omitempty"`
	// Characters is the number of characters of a text to be spoken.
	Characters int64 `json:"characters,omitempty"`
	// Images is the number of generated images.
	Images int64 `json:"images,omitempty"`
	// Searches is the number of searches: of the web for an answer, or of documents for a ranking.
	Searches int64 `json:"searches,omitempty"`
}

// countsOf is the number of counts in a Usage.
const countsOf = 14

// Counts returns the counts in the order in which they are stored. New ones are only ever added at the end, so that a stored list
// that is shorter can still be read.
func (u *Usage) Counts() [countsOf]*int64 {
	return [...]*int64{
		&u.Input, &u.Output, &u.Cached, &u.Reasoning, &u.CacheWrite, &u.CacheWriteHour, &u.AudioInput, &u.AudioOutput,
		&u.ImageInput, &u.ImageOutput, &u.AudioMillis, &u.Characters, &u.Images, &u.Searches,
	}
}

// Add adds another usage to this one.
func (u *Usage) Add(o Usage) {
	theirs := o.Counts()
	for i, n := range u.Counts() {
		*n += *theirs[i]
	}
}

// Update replaces the counts that a later report of the same answer has. A count of zero means that the report does not have it.
func (u *Usage) Update(later Usage) {
	theirs := later.Counts()
	for i, n := range u.Counts() {
		if *theirs[i] != 0 {
			*n = *theirs[i]
		}
	}
}

// Total returns the tokens of prompt and answer together.
func (u *Usage) Total() int64 { return u.Input + u.Output }
