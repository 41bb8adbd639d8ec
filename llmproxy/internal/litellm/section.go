package litellm

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A section is an object of the YAML whose keys are known: a table of rules says what they mean.
type section struct {
	*value
	c     *converter
	path  string // such as model_list[0].litellm_params
	rules map[string]rule
	open  bool // keys that are not in the table mean something, too
}

// section returns a value as a section with the rules of a table. A value that is no object is reported, and treated as an empty one.
func (c *converter) section(v *value, path, table string) *section {
	s := &section{value: v, c: c, path: path, rules: rules[table]}
	if v == nil {
		s.value = &value{kind: object}
		return s
	}
	if v.kind != object {
		if v.kind != null {
			c.noteAt(v.at, path, Ignored, "a list of keys and values is expected here")
		}
		s.value = &value{at: v.at, kind: object}
	}
	c.sections = append(c.sections, s)
	return s
}

func (s *section) pathOf(key string) string {
	if s.path == "" {
		return key
	}
	return s.path + "." + key
}

// inner returns the section below a key. Without that key, the section is empty.
func (s *section) inner(key, table string) *section {
	return s.c.section(s.take(key), s.pathOf(key), table)
}

// take returns the value of a key and marks it as used. It returns nil if the key is missing or null.
func (s *section) take(key string) *value {
	f := s.find(key)
	if f == nil || f.value.kind == null {
		return nil
	}
	f.used = true
	return f.value
}

// has reports whether a key has a value.
func (s *section) has(key string) bool {
	f := s.find(key)
	return f != nil && f.value.kind != null
}

func (s *section) wrongType(key, expected string) {
	s.c.note(s, key, Ignored, "the value is not %s", expected)
}

// isSecret matches keys whose values must not be shown.
var isSecret = regexp.MustCompile(`(?i)(key|token|secret|password|passwd|credential|authorization|cookie|_url$|^url$)`)

// text returns a text in which variables are written as Caddy knows them.
func (s *section) text(key string) string {
	v := s.take(key)
	if v == nil {
		return ""
	}
	if v.kind == list || v.kind == object {
		s.wrongType(key, "a text")
		return ""
	}
	return s.placeholders(key, v.text)
}

// placeholders returns a text with the variables in it as Caddy's placeholders. Text that Caddy would take for a variable is reported.
func (s *section) placeholders(key, text string) string {
	if strings.Contains(text, "{$") {
		s.c.note(s, key, Ignored, "the value contains {$, which Caddy replaces; write it into the Caddyfile by hand")
		return ""
	}
	if text == "{" || text == "}" {
		s.c.note(s, key, Ignored, "a brace alone is no value of a Caddyfile")
		return ""
	}
	return environ.ReplaceAllString(text, "{env.$1}")
}

var environ = regexp.MustCompile(`os\.environ/([A-Za-z_][A-Za-z0-9_]*)`)

// credential returns a text that may be a secret. One that is written out is expected in the environment instead.
func (s *section) credential(key, variable string) string {
	v := s.take(key)
	if v == nil || v.text == "" {
		return ""
	}
	if v.kind == list || v.kind == object {
		s.wrongType(key, "a text")
		return ""
	}
	if environ.MatchString(v.text) {
		return s.placeholders(key, strings.TrimSpace(v.text))
	}
	return s.c.secret(v.at, s.pathOf(key), variable, v.text)
}

// number returns a number that is not negative.
func (s *section) number(key string) (n float64, ok bool) {
	v := s.take(key)
	if v == nil {
		return 0, false
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64)
	switch {
	case v.kind == text && environ.MatchString(v.text):
		s.c.note(s, key, Ignored, "a number from the environment is not possible here; write the number into the Caddyfile")
		return 0, false
	case (v.kind != number && v.kind != text) || err != nil || math.IsInf(n, 0) || math.IsNaN(n) || n < 0:
		s.wrongType(key, "a number")
		return 0, false
	}
	return n, true
}

// count returns a whole number.
func (s *section) count(key string) int {
	n, ok := s.number(key)
	if ok && (n != math.Trunc(n) || n > math.MaxInt32) {
		s.wrongType(key, "a whole number")
		return 0
	}
	return int(n)
}

// flag returns a boolean, which is false without a value.
func (s *section) flag(key string) bool {
	v := s.take(key)
	if v == nil {
		return false
	}
	switch strings.ToLower(v.text) {
	case "true", "yes", "on", "1":
		return true
	case "false", "no", "off", "0":
		return false
	}
	s.wrongType(key, "true or false")
	return false
}

// seconds returns a number of seconds as a duration.
func (s *section) seconds(key string) time.Duration {
	n, ok := s.number(key)
	if !ok {
		return 0
	}
	const longest = 365 * 24 * 3600
	return time.Duration(min(n, longest) * float64(time.Second)).Round(time.Millisecond)
}

// texts returns a list of texts, or a single text as a list.
func (s *section) texts(key string) (texts []string) {
	v := s.take(key)
	switch {
	case v == nil:
		return nil
	case v.kind == object:
		s.wrongType(key, "a list")
		return nil
	case v.kind != list:
		return []string{s.placeholders(key, v.text)}
	}
	for _, item := range v.list {
		if item.kind == list || item.kind == object {
			s.wrongType(key, "a list of texts")
			continue
		}
		texts = append(texts, s.placeholders(key, item.text))
	}
	return texts
}

// json returns a value as JSON.
func (v *value) json() string {
	switch v.kind {
	case null:
		return "null"
	case boolean:
		return strconv.FormatBool(strings.EqualFold(v.text, "true") || strings.EqualFold(v.text, "yes") || strings.EqualFold(v.text, "on"))
	case number:
		if json.Valid([]byte(v.text)) {
			return v.text
		}
		if n, err := strconv.ParseInt(strings.ReplaceAll(v.text, "_", ""), 0, 64); err == nil {
			return strconv.FormatInt(n, 10)
		}
		if n, err := strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64); err == nil && !math.IsInf(n, 0) && !math.IsNaN(n) {
			return strconv.FormatFloat(n, 'g', -1, 64)
		}
	case list:
		items := make([]string, len(v.list))
		for i, item := range v.list {
			items[i] = item.json()
		}
		return "[" + strings.Join(items, ",") + "]"
	case object:
		members := make([]string, len(v.fields))
		for i, f := range v.fields {
			members[i] = quoted(f.key) + ":" + f.value.json()
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	return quoted(v.text)
}

func quoted(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		return `""`
	}
	return string(b)
}

// reportRest reports what the keys of all sections became, and notes those that were not used.
func (c *converter) reportRest() {
	for _, s := range c.sections {
		for _, f := range s.fields {
			c.explain(s, f)
		}
	}
	type place struct {
		at  Place
		key string
	}
	worst := map[place]Note{}
	for _, n := range c.result.Notes {
		if other, ok := worst[place{n.At, n.Key}]; !ok || n.Grade > other.Grade {
			worst[place{n.At, n.Key}] = n
		}
	}
	for _, s := range c.sections {
		for _, f := range s.fields {
			k := Key{At: f.at, Key: s.pathOf(f.key), Text: s.rules[f.key].text}
			if _, known := s.rules[f.key]; !known {
				k.Text = "`params` of the upstream"
			}
			if f.leftOut {
				k.Grade, k.Text = Ignored, "what it belongs to is left out"
			}
			if n, ok := worst[place{k.At, k.Key}]; ok {
				k.Grade, k.Text = n.Grade, n.Text
			}
			c.result.Keys = append(c.result.Keys, k)
		}
	}
}

// explain adds a note about a key that is not carried over exactly, unless there is one.
func (c *converter) explain(s *section, f *field) {
	r, known := s.rules[f.key]
	switch {
	case f.value.kind == null, f.noted: // without effect; explained already
	case !known && s.open && f.used:
	case !known:
		c.noteField(s, f, Ignored, "llm_proxy has no setting for this key"+similar(f.key, s.rules))
	case r.grade != Exact:
		c.noteField(s, f, r.grade, r.text)
	case !f.used:
		c.noteField(s, f, Ignored, "it has no effect here")
	}
}

// similar returns a hint at a key that may have been meant.
func similar(key string, known map[string]rule) string {
	for name := range known {
		if strings.EqualFold(strings.NewReplacer("_", "", "-", "").Replace(name), strings.NewReplacer("_", "", "-", "").Replace(key)) {
			return fmt.Sprintf("; did you mean %s?", name)
		}
	}
	return ""
}
