package loadtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

// A Message is one of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// A Prompt is what a request asks.
type Prompt struct{ Messages []Message }

// split returns the system messages as one text, and the others.
func (p Prompt) split() (system string, rest []Message) {
	var texts []string
	for _, m := range p.Messages {
		if m.Role == "system" {
			texts = append(texts, m.Content)
		} else {
			rest = append(rest, m)
		}
	}
	return strings.Join(texts, "\n\n"), rest
}

// Prompts has a prompt for each request.
type Prompts struct {
	list   []Prompt // sent in turn; nil means that prompts are made up
	tokens int
	seed   uint64
}

// MakeUp returns prompts of about so many tokens. No two of them begin alike, so that no cache has the answer or a part of the prompt.
func MakeUp(tokens int, seed uint64) *Prompts { return &Prompts{tokens: tokens, seed: seed} }

const maxPromptFile = 64 << 20

// ReadPrompts reads a file of prompts, one a line: a text, or a JSON object with a text in "prompt" or a conversation in "messages". Empty
// lines are skipped.
func ReadPrompts(from io.Reader) (*Prompts, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxPromptFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxPromptFile {
		return nil, fmt.Errorf("the file is larger than %d MiB", maxPromptFile>>20)
	}
	p := new(Prompts)
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		prompt, err := readPrompt(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		p.list = append(p.list, prompt)
	}
	if len(p.list) == 0 {
		return nil, errors.New("the file has no prompts")
	}
	return p, nil
}

func readPrompt(line []byte) (Prompt, error) {
	if !utf8.Valid(line) {
		return Prompt{}, errors.New("the text is not UTF-8")
	}
	if line[0] != '{' {
		return Prompt{[]Message{{"user", string(line)}}}, nil
	}
	var object struct {
		Prompt   string
		Messages []Message
	}
	if err := json.Unmarshal(line, &object); err != nil {
		return Prompt{}, fmt.Errorf("a line that begins with { must be a JSON object with a text in \"prompt\" or a conversation in \"messages\": %w", err)
	}
	switch {
	case object.Prompt != "" && object.Messages == nil:
		return Prompt{[]Message{{"user", object.Prompt}}}, nil
	case object.Prompt != "" || len(object.Messages) == 0:
		return Prompt{}, errors.New("the object must have either \"prompt\" or \"messages\"")
	}
	for _, m := range object.Messages {
		if m.Role == "" || m.Content == "" {
			return Prompt{}, errors.New("each message must have a \"role\" and a text as its \"content\"")
		}
	}
	return Prompt{object.Messages}, nil
}

// at returns the prompt of the request with a number. The numbers of requests before the measurement are negative.
func (p *Prompts) at(i int) Prompt {
	if p.list != nil {
		return p.list[max(i, -1-i)%len(p.list)]
	}
	random := rand.New(rand.NewPCG(p.seed, uint64(i)))
	var b strings.Builder
	fmt.Fprintf(&b, "%08x: continue this text at length.", random.Uint32())
	const opening = 12 // tokens of it, about
	for range p.tokens - opening {
		b.WriteString(words[random.IntN(len(words))])
	}
	return Prompt{[]Message{{"user", b.String()}}}
}

// words are one token each in the vocabularies of common models.
var words = [...]string{
	" the", " of", " and", " to", " in", " is", " that", " for", " it", " as", " was", " with", " be", " by", " on", " not", " this", " are", " from", " at", " which", " but",
	" have", " they", " you", " were", " all", " one", " time", " water", " house", " light", " world", " day", " people", " word", " long", " little", " good", " great",
}
