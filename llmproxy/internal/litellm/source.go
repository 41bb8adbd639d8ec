package litellm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// A Place is where something is written. Columns count characters.
type Place struct {
	File         string
	Line, Column int
}

func (p Place) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

func (p Place) compare(q Place) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// An Error is a mistake in the YAML, with its place.
type Error struct {
	At  Place
	Err error
}

func (e *Error) Error() string { return e.At.String() + ": " + e.Err.Error() }

// Unwrap returns the mistake without its place.
func (e *Error) Unwrap() error { return e.Err }

func errorAt(at Place, format string, args ...any) error {
	return &Error{at, fmt.Errorf(format, args...)}
}

// What a configuration may consist of. Aliases count as often as they are used, so that a few lines cannot grow without end.
const (
	maxFile  = 4 << 20
	maxFiles = 32
	maxNodes = 200_000
	maxDepth = 64
)

// A value is a value of the YAML without aliases. At most one of list and fields is set, or text is that of a scalar.
type value struct {
	at     Place
	kind   kind
	text   string
	list   []*value
	fields []*field
}

type kind uint8

const (
	null kind = iota
	text
	number
	boolean
	list
	object
)

// A field is a key with its value.
type field struct {
	key   string
	at    Place
	value *value
	used  bool // for the conversion
	noted bool // there is a note about it
	// leftOut means that there is a note about what it belongs to.
	leftOut bool
}

// load reads a configuration and what it includes. It also returns the fields that others of the same name replace.
func load(name string, read func(string) ([]byte, error)) (root *value, replaced []*field, err error) {
	l := loader{read: read}
	root, err = l.file(name, Place{name, 1, 1}, nil)
	return root, l.replaced, err
}

// A loader reads the files of a configuration. It stops when they become too large.
type loader struct {
	read  func(string) ([]byte, error)
	files int
	nodes int

	replaced []*field
}

// file reads a file and what it includes. Via are the files that include it.
func (l *loader) file(name string, from Place, via []string) (*value, error) {
	if slices.Contains(via, name) {
		return nil, errorAt(from, "%s includes itself: %s", name, strings.Join(append(via[slices.Index(via, name):], name), " → "))
	}
	if l.files++; l.files > maxFiles {
		return nil, errorAt(from, "more than %d files are included", maxFiles)
	}
	data, err := l.read(name)
	switch {
	case err != nil && via == nil:
		return nil, err
	case err != nil:
		return nil, &Error{from, err}
	}
	if len(data) > maxFile {
		return nil, errorAt(from, "%s has more than %d MiB", name, maxFile>>20)
	}
	root, err := l.parse(name, data)
	if err != nil {
		return nil, err
	}
	return l.include(root, name, append(via[:len(via):len(via)], name))
}

// parse parses the first document of a file.
func (l *loader) parse(name string, data []byte) (*value, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, syntaxError(name, data, err)
	}
	if len(document.Content) == 0 {
		return &value{at: Place{name, 1, 1}, kind: object}, nil
	}
	root, err := l.value(document.Content[0], name, 0)
	if err != nil {
		return nil, err
	}
	switch root.kind {
	case null:
		root.kind = object
	case object:
	default:
		return nil, errorAt(root.at, "this is not a configuration of LiteLLM: it has no keys such as model_list")
	}
	return root, nil
}

var atLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// syntaxError adds to an error of the parser, which names a line at most, where on this line the problem is.
func syntaxError(name string, data []byte, err error) error {
	message, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if m := atLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = strings.TrimPrefix(message, "line "+m[1]+": ")
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	if len(data) <= maxSearched {
		line = firstBadLine(lines)
	}
	line = min(max(line, 1), len(lines))
	content := strings.TrimRight(string(lines[line-1]), "\r\n")
	start := strings.IndexFunc(content, func(r rune) bool { return r != ' ' })
	if strings.Contains(message, "cannot start any token") { // a tab before the content, or a reserved character
		start = cmp.Or(strings.IndexAny(content, "\t@`%"), start)
	}
	if tab := strings.IndexByte(content, '\t'); tab >= 0 && strings.TrimSpace(content[:tab]) == "" {
		start, message = tab, message+"; indent with spaces, because YAML allows no tabs there"
	}
	return &Error{Place{name, line, utf8.RuneCountInString(content[:max(start, 0)]) + 1}, errors.New("invalid YAML: " + message)}
}

// maxSearched is the length of the longest file in which firstBadLine searches.
const maxSearched = 256 << 10

// firstBadLine returns the number of the line after which a file is invalid. The parser often names the beginning of the block instead. Lines
// before a bad one are valid by themselves, except for those within a value of several lines.
func firstBadLine(lines [][]byte) int {
	valid := func(n int) bool {
		var document yaml.Node
		return yaml.Unmarshal(bytes.Join(lines[:n], nil), &document) == nil
	}
	good, bad := 0, len(lines)
	for range 16 {
		for bad-good > 1 {
			if middle := (good + bad) / 2; valid(middle) {
				good = middle
			} else {
				bad = middle
			}
		}
		const longestValue = 32
		further := 0
		for n := bad + 1; n <= min(bad+longestValue, len(lines)); n++ {
			if valid(n) {
				further = n
			}
		}
		if further == 0 {
			break
		}
		good, bad = further, len(lines)
	}
	return bad
}

// value copies a node of the parser without its aliases.
func (l *loader) value(n *yaml.Node, file string, depth int) (*value, error) {
	at := Place{file, max(n.Line, 1), max(n.Column, 1)}
	if l.nodes++; l.nodes > maxNodes {
		return nil, errorAt(at, "the configuration has more than %d values, with each alias counted as what it stands for", maxNodes)
	}
	if depth > maxDepth {
		return nil, errorAt(at, "values are nested more than %d levels deep, or an alias contains itself", maxDepth)
	}
	v := &value{at: at}
	switch n.Kind {
	case yaml.AliasNode:
		return l.value(n.Alias, file, depth+1)
	case yaml.SequenceNode:
		v.kind = list
		for _, item := range n.Content {
			inner, err := l.value(item, file, depth+1)
			if err != nil {
				return nil, err
			}
			v.list = append(v.list, inner)
		}
	case yaml.MappingNode:
		v.kind = object
		return v, l.fields(v, n, file, depth)
	case yaml.ScalarNode:
		v.text = n.Value
		switch n.ShortTag() {
		case "!!null":
			v.kind = null
		case "!!int", "!!float":
			v.kind = number
		case "!!bool":
			v.kind = boolean
		default:
			v.kind = text
		}
		if n.Kind == yaml.ScalarNode && v.kind == text && n.Style == 0 && slices.Contains([]string{"yes", "no", "on", "off"}, strings.ToLower(n.Value)) {
			v.kind = boolean // for LiteLLM's parser, which reads YAML 1.1
		}
	}
	return v, nil
}

// fields copies the fields of a mapping. As for LiteLLM's parser, the last of several fields of one name counts.
func (l *loader) fields(v *value, n *yaml.Node, file string, depth int) error {
	var merged []*value
	named := map[string]*field{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, node := n.Content[i], n.Content[i+1]
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		inner, err := l.value(node, file, depth+1)
		if err != nil {
			return err
		}
		at := Place{file, max(n.Content[i].Line, 1), max(n.Content[i].Column, 1)}
		switch {
		case key.Kind != yaml.ScalarNode:
			return errorAt(at, "a key must be a name")
		case key.ShortTag() == "!!merge" && inner.kind == list:
			merged = append(merged, inner.list...)
		case key.ShortTag() == "!!merge":
			merged = append(merged, inner)
		default:
			f := named[key.Value]
			if f == nil {
				f = new(field)
				named[key.Value], v.fields = f, append(v.fields, f)
			} else {
				l.replaced = append(l.replaced, &field{key: f.key, at: f.at})
			}
			*f = field{key: key.Value, at: at, value: inner}
		}
	}
	for _, m := range merged { // << adds what is missing
		for _, f := range m.fields {
			if named[f.key] == nil {
				named[f.key] = f
				v.fields = append(v.fields, &field{key: f.key, at: f.at, value: f.value})
			}
		}
	}
	return nil
}

// include adds what a file includes. As in LiteLLM, included lists are appended, and other values replace those of the file.
func (l *loader) include(root *value, name string, via []string) (*value, error) {
	f := root.find("include")
	if f == nil {
		return root, nil
	}
	names := f.value.list
	if f.value.kind == text {
		names = []*value{f.value}
	}
	root.fields = slices.DeleteFunc(root.fields, func(other *field) bool { return other == f })
	for _, n := range names {
		if n.kind != text {
			return nil, errorAt(n.at, "include: this is not the name of a file")
		}
		path := n.text
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(name), path)
		}
		included, err := l.file(path, n.at, via)
		if err != nil {
			return nil, err
		}
		for _, other := range included.fields {
			switch mine := root.find(other.key); {
			case mine == nil:
				root.fields = append(root.fields, other)
			case mine.value.kind == list && other.value.kind == list:
				mine.value.list = append(mine.value.list, other.value.list...)
			default:
				l.replaced = append(l.replaced, &field{key: mine.key, at: mine.at})
				*mine = *other
			}
		}
	}
	return root, nil
}

// each visits the value and all that is in it.
func (v *value) each(visit func(*value)) {
	visit(v)
	for _, item := range v.list {
		item.each(visit)
	}
	for _, f := range v.fields {
		f.value.each(visit)
	}
}

// find returns a field, or nil.
func (v *value) find(key string) *field {
	if v == nil {
		return nil
	}
	i := slices.IndexFunc(v.fields, func(f *field) bool { return f.key == key })
	if i < 0 {
		return nil
	}
	return v.fields[i]
}
