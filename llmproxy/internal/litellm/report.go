package litellm

import (
	"fmt"
	"strings"
)

// A Result is a converted configuration.
type Result struct {
	// Caddyfile is the configuration for Caddy, formatted.
	Caddyfile string
	// Notes are what is not carried over, or not exactly, in the order of the YAML.
	Notes []Note
	// Secrets are what was written in the YAML and is expected in Caddy's environment.
	Secrets []Secret
	// Keys are all keys in the YAML, with what became of them.
	Keys []Key
}

// A Grade says how well a setting is carried over.
type Grade uint8

// The grades.
const (
	Exact   Grade = iota // it is the same
	Changed              // it differs, and a note says how
	Ignored              // there is no counterpart
)

func (g Grade) String() string {
	return [...]string{"carried over", "carried over with a difference", "not carried over"}[g]
}

// A Note is about a setting that is not carried over exactly.
type Note struct {
	At    Place
	Key   string // such as litellm_settings.cache
	Grade Grade
	Text  string
}

func (n Note) String() string { return fmt.Sprintf("%s: %s: %s: %s", n.At, n.Key, n.Grade, n.Text) }

// A Secret was written in the YAML.
type Secret struct {
	At   Place
	Key  string
	Name string // of the environment variable
	// Value must not be shown.
	Value string
}

// A Key is a key in the YAML and what became of it.
type Key struct {
	At    Place
	Key   string
	Grade Grade
	Text  string
}

// A converter collects the result, and knows which keys have been used.
type converter struct {
	result      Result
	at          Place // of the whole configuration
	noted       map[Note]bool
	sections    []*section
	names       map[string]bool   // of environment variables
	secretNames map[string]string // by value
}

// note adds a note about a key of a section.
func (c *converter) note(s *section, key string, grade Grade, format string, args ...any) {
	if f := s.find(key); f != nil {
		c.noteField(s, f, grade, fmt.Sprintf(format, args...))
		return
	}
	c.noteAt(s.at, s.pathOf(key), grade, fmt.Sprintf(format, args...))
}

func (c *converter) noteField(s *section, f *field, grade Grade, text string) {
	f.noted = true
	c.noteAt(f.at, s.pathOf(f.key), grade, text)
}

func (c *converter) noteAt(at Place, key string, grade Grade, text string) {
	n := Note{At: at, Key: key, Grade: grade, Text: text}
	if !c.noted[n] {
		c.noted[n] = true
		c.result.Notes = append(c.result.Notes, n)
	}
}

// secret returns the placeholder for a secret that is written in the YAML, and asks for its variable to be set. The name is that of the variable,
// unless another secret has it.
func (c *converter) secret(at Place, key, name, value string) string {
	if known := c.secretNames[value]; known != "" {
		return "{env." + known + "}"
	}
	name = variable(name)
	for i, base := 2, name; c.names[name]; i++ {
		name = fmt.Sprintf("%s_%d", base, i)
	}
	c.names[name], c.secretNames[value] = true, name
	c.result.Secrets = append(c.result.Secrets, Secret{At: at, Key: key, Name: name, Value: value})
	return "{env." + name + "}"
}

// variable returns a text as the name of an environment variable.
func variable(text string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, text)
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}
