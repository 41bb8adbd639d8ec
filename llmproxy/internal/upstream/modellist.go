package upstream

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Model is an entry of an upstream's list of models.
type Model struct {
	ID string
	// Created is in seconds since 1970, or zero if the list does not state it.
	Created int64
	// Owner is empty if the list does not state it.
	Owner string
	// Parent is the base model of an adapter (LoRA), or empty.
	Parent string
	// ContextWindow is in tokens, or zero if the list does not state it.
	ContextWindow int
	// MaxOutput is in tokens, or zero if the list does not state it.
	MaxOutput int
	// Size is in bytes and Digest that of the model's files, or zero if the list does not state them.
	Size   int64
	Digest string
	// Details are other members that describe the model, as the server wrote them, in the order of modelDetails.
	Details []ModelDetail
}

// A ModelDetail is a member of an entry of a list of models.
type ModelDetail struct {
	Name  string
	Value json.RawMessage // valid JSON
}

const (
	maxModels      = 50_000  // of one list; the rest is ignored
	maxModelName   = 256     // bytes; clients cannot request a model with a longer name
	maxModelDetail = 4 << 10 // bytes of one detail; a longer one is left out
	maxTokenCount  = 1 << 30 // a larger number of tokens means that there is no limit
	maxListDepth   = 3       // of the objects around the list
)

// modelDetails are the members that clients get as they are. Everything else stays here: status has the arguments of a server's
// command line, for example, and the prices of a service are not those of the gateway.
var modelDetails = []string{
	"root", "parent", // vLLM
	"name", "display_name", "description", "type", "task", "publisher", "tags",
	"capabilities", "features", "supported_features", "supported_parameters", "supported_endpoints", "supported_endpoint_types",
	"modalities", "modality", "input_modalities", "output_modalities", "architecture", "arch",
	"supports_tools", "supports_tool_calls", "supports_function_calling", "supports_chat", "supports_vision", "supports_images",
	"supports_image_in", "supports_video_in", "supports_audio", "supports_reasoning", "supports_structured_output", "reasoning",
	"quantization", "quantization_level", "precision", "parameter_size", "compatibility_type", "details",
	"max_context_length", "top_provider", "meta", // OpenRouter, llama.cpp
	"state", "aliases", "knowledge_cutoff", "deprecation", "hugging_face_id",
}

// Where servers and services write the context window, the most accurate number first: what the server was started with, then what
// the model can do.
var windowMembers = []string{
	"max_model_len", "loaded_context_length", "meta.n_ctx", "n_ctx", // vLLM and SGLang, LM Studio, llama.cpp
	"context_length", "context_window", "context_size", "context_len", "max_context_window", "max_context_tokens", "max_context_length",
	"max_seq_len", "parameters.max_seq_len", "top_provider.context_length", // TabbyAPI, OpenRouter
	"max_input_tokens", "inputtokenlimit", // Anthropic, Gemini
	"limit.context", "limits.max_context_window_tokens", "limits.max_input_tokens", "capabilities.limits.max_context_window_tokens",
	"metadata.context_length", "details.context_length", "model_spec.availablecontexttokens", // DeepInfra, Ollama, Venice
}

var outputMembers = []string{
	"max_completion_tokens", "max_output_tokens", "max_output_length", "top_provider.max_completion_tokens", "outputtokenlimit",
	"limit.output", "limits.max_output_tokens", "capabilities.limits.max_output_tokens",
}

// listMembers are the members that have the list of models, if the answer is not the list itself.
var listMembers = []string{"data", "models", "result", "results", "items", "model_list"}

var errNoModelList = errors.New("not a list of models")

// parseModels reads a list of models. Servers agree neither on what surrounds it nor on the members of its entries, and some write
// numbers as text, or what is not JSON. Whatever cannot be read is left out: a member, not the model, and an entry, not its neighbors.
func parseModels(body []byte) ([]Model, error) {
	if !utf8.Valid(body) {
		body = bytes.ToValidUTF8(body, []byte("\uFFFD"))
	}
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xEF\xBB\xBF")))
	if !bytes.HasPrefix(body, []byte("[")) && !bytes.HasPrefix(body, []byte("{")) {
		return nil, errNoModelList
	}
	lists := modelLists(body, 0)
	if lists == nil {
		return nil, errNoModelList
	}
	var models modelSet
	for _, list := range lists {
		if len(models.models) > 0 {
			models.complete = true // llama.cpp has a second list that describes the models of the first one
		}
		for entry := range list {
			if len(models.models) >= maxModels {
				break
			}
			if m, ok := entry.model(); ok {
				models.add(m)
			}
		}
	}
	models.inherit()
	return models.models, nil
}

// A modelSet collects models from several lists.
type modelSet struct {
	models   []Model
	at       map[string]int
	complete bool // models that are new are ignored
}

// add adds a model, or what is new about it: duplicates may differ, and replicas may too.
func (s *modelSet) add(m Model) {
	at, ok := s.at[m.ID]
	if ok {
		s.models[at].Merge(m)
		return
	}
	if s.complete {
		return
	}
	if s.at == nil {
		s.at = map[string]int{}
	}
	s.at[m.ID] = len(s.models)
	s.models = append(s.models, m)
}

// inherit gives adapters the limits of their models, which vLLM states only for these.
func (s *modelSet) inherit() {
	for i := range s.models {
		m := &s.models[i]
		if at, ok := s.at[m.Parent]; ok {
			parent := s.models[at]
			m.ContextWindow, m.MaxOutput = cmp.Or(m.ContextWindow, parent.ContextWindow), cmp.Or(m.MaxOutput, parent.MaxOutput)
		}
	}
}

// Merge adds what m lacks. Of two numbers of tokens, the smaller one counts.
func (m *Model) Merge(other Model) {
	m.Created, m.Owner, m.Parent = cmp.Or(m.Created, other.Created), cmp.Or(m.Owner, other.Owner), cmp.Or(m.Parent, other.Parent)
	m.Size, m.Digest = cmp.Or(m.Size, other.Size), cmp.Or(m.Digest, other.Digest)
	m.ContextWindow, m.MaxOutput = smallest(m.ContextWindow, other.ContextWindow), smallest(m.MaxOutput, other.MaxOutput)
	for _, d := range other.Details {
		if !slices.ContainsFunc(m.Details, func(known ModelDetail) bool { return known.Name == d.Name }) {
			m.Details = append(m.Details[:len(m.Details):len(m.Details)], d)
		}
	}
}

// smallest returns the smaller one of two numbers. Zero means unknown.
func smallest(a, b int) int {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// modelLists returns the lists of models in an answer, the main one first. It returns nil if the answer has no list, and an empty list for a
// member of that name without a list, such as "data":null.
func modelLists(body []byte, depth int) (lists []iter.Seq[modelEntry]) {
	if body[0] == '[' {
		return []iter.Seq[modelEntry]{func(yield func(modelEntry) bool) {
			for element := range elements(body) {
				if !yield(modelEntry{value: element}) {
					return
				}
			}
		}}
	}
	object := members(body)
	for _, name := range listMembers {
		value, ok := object[name]
		switch {
		case !ok:
		case value[0] == '[':
			lists = append(lists, modelLists(value, depth)...)
		case value[0] == '{' && !hasList(value):
			lists = append(lists, namedModels(value))
		case value[0] == '{' && depth < maxListDepth:
			lists = append(lists, modelLists(value, depth+1)...)
		case string(value) == "null":
			lists = append(lists, func(func(modelEntry) bool) {})
		}
	}
	return lists
}

// hasList reports whether an object has a member that could have the list of models.
func hasList(object []byte) bool {
	inner := members(object)
	return slices.ContainsFunc(listMembers, func(name string) bool { return inner[name] != nil })
}

// namedModels returns the entries of an object whose members are named as the models.
func namedModels(object []byte) iter.Seq[modelEntry] {
	return func(yield func(modelEntry) bool) {
		for name, value := range eachMember(object) {
			if value[0] == '{' && !yield(modelEntry{name: name, value: value}) {
				return
			}
		}
	}
}

// A modelEntry is an entry of a list of models.
type modelEntry struct {
	name  string // of a member; the entry may have an id all the same
	value []byte
}

// model returns the model that an entry describes. It returns false if the entry has no id that clients could use.
func (e modelEntry) model() (m Model, ok bool) {
	if e.value[0] == '"' {
		m.ID = text(e.value)
		return m, validModelID(m.ID)
	}
	if e.value[0] != '{' {
		return m, false
	}
	object := members(e.value)
	m.ID = e.name
	for _, name := range []string{"id", "model", "name"} { // Ollama's own list has no id
		if value, found := object[name]; found {
			m.ID = text(value)
			break
		}
	}
	if !validModelID(m.ID) {
		return m, false
	}
	for _, name := range []string{"created", "created_at", "modified_at"} {
		m.Created = cmp.Or(m.Created, unixTime(object[name]))
	}
	m.Size, m.Digest, m.Parent = byteCount(object["size"]), text(object["digest"]), text(object["parent"])
	for _, name := range []string{"owned_by", "owner", "organization", "publisher"} {
		m.Owner = cmp.Or(m.Owner, text(object[name]))
	}
	m.ContextWindow, m.MaxOutput = object.tokens(windowMembers), object.tokens(outputMembers)
	if m.MaxOutput == 0 && object["max_input_tokens"] != nil { // Anthropic; elsewhere max_tokens is the context window
		m.MaxOutput = tokenCount(object["max_tokens"])
	}
	for _, name := range modelDetails {
		value := object[name]
		if tellsSomething(value) && (name != "name" || text(value) != m.ID) && (name != "root" || !isPath(text(value))) && len(value) <= maxModelDetail && json.Valid(value) {
			m.Details = append(m.Details, ModelDetail{Name: name, Value: bytes.Clone(value)}) // the body is not kept
		}
	}
	return m, true
}

func validModelID(id string) bool {
	return id != "" && len(id) <= maxModelName && strings.TrimSpace(id) == id && !strings.ContainsFunc(id, unicode.IsControl)
}

// isPath reports whether a text is the path of a file on the server, which is nobody else's business. The name of a model may have a
// slash in it, too.
func isPath(s string) bool {
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") || strings.HasPrefix(s, "~") || len(s) > 2 && s[1] == ':'
}

func tellsSomething(value []byte) bool {
	switch string(value) {
	case "", "null", `""`, "[]", "{}":
		return false
	}
	return true
}

// memberMap has the members of an object by their names in lower case.
type memberMap map[string][]byte

func members(object []byte) memberMap {
	m := memberMap{}
	for name, value := range eachMember(object) {
		m[strings.ToLower(name)] = value
	}
	return m
}

// tokens returns the first number of tokens at one of the paths, or zero.
func (m memberMap) tokens(paths []string) int {
	for _, path := range paths {
		outer, inner, nested := strings.Cut(path, ".")
		value := m[outer]
		switch {
		case value == nil:
		case !nested:
			if n := tokenCount(value); n > 0 {
				return n
			}
		case value[0] == '{':
			if n := members(value).tokens([]string{inner}); n > 0 {
				return n
			}
		}
	}
	return 0
}

// tokenCount reads a number of tokens, however it is spelled: 131072, 131072.0, "131072", "131,072", "128k". It returns zero for
// everything else, and for numbers that cannot be a number of tokens.
func tokenCount(value []byte) int {
	number := string(value)
	if s := text(value); s != "" {
		number = strings.NewReplacer(",", "", "_", "", " ", "").Replace(strings.ToLower(s))
	}
	unit := 1.0
	for suffix, factor := range map[string]float64{"k": 1e3, "m": 1e6} {
		if digits, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = digits, factor
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if n *= unit; err != nil || math.IsNaN(n) || n < 1 || n > maxTokenCount {
		return 0
	}
	return int(n)
}

// byteCount reads a number of bytes. It returns zero for everything else.
func byteCount(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// unixTime reads a time: a number of seconds or milliseconds since 1970, as a number or as text, or a date. It returns zero for
// everything else.
func unixTime(value []byte) int64 {
	number := string(value)
	if s := text(value); s != "" {
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			return max(t.Unix(), 0)
		}
		number = s
	}
	n, err := strconv.ParseFloat(number, 64)
	switch {
	case err != nil || math.IsNaN(n) || n < 0 || n > 1e14:
		return 0
	case n > 1e11:
		n /= 1000
	}
	return int64(n)
}

// text returns the text of a JSON string, or "" for any other value.
func text(value []byte) (s string) {
	if len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

// eachMember visits the members of a JSON object. A member whose name cannot be read is left out; a value may be anything but empty.
func eachMember(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for member := range elements(object) {
			end := stringEnd(member)
			name := text(member[:end])
			value, ok := bytes.CutPrefix(bytes.TrimSpace(member[end:]), []byte(":"))
			if value = bytes.TrimSpace(value); ok && len(value) > 0 && end > 0 && !yield(name, value) {
				return
			}
		}
	}
}

// stringEnd returns the end of the JSON string that b begins with, or zero.
func stringEnd(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; ; {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0
		}
		text := b[i : i+n]
		i += n + 1
		if (len(text)-len(bytes.TrimRight(text, `\`)))%2 == 0 { // the quote is not escaped
			return i
		}
	}
}

// elements visits the elements of a JSON array, or the members of an object, which b begins with. It looks only at brackets, commas
// and quotes, so that what is wrong in one element does not hide the others. The last one may be cut off.
func elements(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		open := []byte{b[0]} // brackets
		start, end := 1, len(b)
	scan:
		for i := 1; i < len(b); i++ {
			switch c := b[i]; c {
			case '"':
				n := stringEnd(b[i:])
				if n == 0 {
					break scan
				}
				i += n - 1
			case '[', '{':
				open = append(open, c)
			case ']', '}':
				if open = closeBracket(open, c); len(open) == 0 {
					end = i
					break scan
				}
			case ',':
				if len(open) > 1 {
					continue
				}
				element := bytes.TrimSpace(b[start:i])
				if start = i + 1; len(element) > 0 && !yield(element) {
					return
				}
			}
		}
		if element := bytes.TrimSpace(b[start:end]); len(element) > 0 {
			yield(element)
		}
	}
}

// closeBracket closes the innermost bracket. The end of an array also ends an object in it that was not closed, and the end of an
// object is ignored where none is open.
func closeBracket(open []byte, c byte) []byte {
	last := len(open) - 1
	if c == '}' {
		if open[last] == '{' {
			return open[:last]
		}
		return open
	}
	if at := bytes.LastIndexByte(open, '['); at >= 0 {
		return open[:at]
	}
	return open
}
