package openai

import (
	"bytes"
	"unicode/utf8"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// Signals are the properties of a request that routing rules test and that decide which targets can take it. They are read from
// the JSON of every endpoint in the same way, by the names of its members.
type Signals struct {
	// PromptTokens is an estimate: a quarter of the bytes of all texts and of the tools' JSON, a fixed number for each image, audio
	// clip and file, and a few tokens for each message. Base64 does not count.
	PromptTokens int
	// LargestPrompt is what must fit into a context window: PromptTokens, but of a list of inputs only the largest one.
	LargestPrompt int
	Messages      int // messages or inputs; a lone text counts as one
	Tools         int // including the deprecated functions
	Images        int
	Audio         int // audio inputs; a request for audio output does not count
	Files         int
	JSONSchema    bool // the answer must be JSON of a schema
	// MaxTokens is the maximum length of the answer that the request sets under any of the three names, or zero.
	MaxTokens int

	total   size
	listed  size   // of all inputs in lists
	largest size   // of the largest input in a list
	user    []byte // the content of the last user message
	text    []byte // that of user, once it is known
	content string // the same, once it was asked for

	conversation bool   // it has messages or instructions
	system       []byte // the content of the first message that instructs the model
}

// A size is how much a model has to read: bytes of text, and tokens for everything else.
type size struct{ bytes, tokens int }

func (s size) estimate() int { return EstimateTokens(s.bytes) + s.tokens }

func (s size) plus(t size) size { return size{s.bytes + t.bytes, s.tokens + t.tokens} }

func (s size) minus(t size) size { return size{s.bytes - t.bytes, s.tokens - t.tokens} }

// The estimated tokens of what is not text: an image of one megapixel in full detail, half a minute of audio, three pages.
const (
	bytesPerToken = 4
	messageTokens = 4
	imageTokens   = 765
	audioTokens   = 300
	fileTokens    = 1500
)

// EstimateTokens returns the usual estimate for a text of so many bytes.
func EstimateTokens(bytes int) int { return (bytes + bytesPerToken - 1) / bytesPerToken }

// Signals returns the signals of the request. The first call takes a few passes over the body, later ones are free. The result
// belongs to the request and must not be changed. A request that was never parsed has empty signals.
func (r *Request) Signals() *Signals {
	if r.signals == nil {
		r.signals = new(Signals)
		r.signals.read(&r.Object)
	}
	return r.signals
}

// SignalsRead returns the signals if Signals was called before, and false otherwise.
func (r *Request) SignalsRead() (*Signals, bool) { return r.signals, r.signals != nil }

func (s *Signals) read(o *jsonspan.Object) {
	for _, m := range o.Members {
		if value := m.Value.Of(o.Body); !jsonspan.IsNull(value) {
			s.readMember(jsonspan.Unescape(m.Key.Of(o.Body)), value)
		}
	}
	for _, name := range [...]string{"max_completion_tokens", "max_tokens", "max_output_tokens"} {
		if value, ok := o.Get(name); ok && value[0] != '"' && s.MaxTokens == 0 {
			s.MaxTokens = int(parseCount(value))
		}
	}
	s.PromptTokens = s.total.estimate()
	s.LargestPrompt = s.total.minus(s.listed).plus(s.largest).estimate()
}

// readMember reads a member of the request. It ignores values of the wrong type, which the upstream reports.
func (s *Signals) readMember(key, value []byte) {
	switch string(key) {
	case "messages":
		s.readMessages(value)
	case "prompt", "input", "content": // the last one of a request for tokens
		s.readInputs(value)
	case "instructions":
		s.conversation, s.system = true, value
		s.readContent(value)
	case "query":
		s.readContent(value)
		s.user = value
	case "documents":
		user := s.user
		s.readInputs(value)
		s.user = user
	case "tools", "functions":
		s.Tools += countElements(value)
		s.total.bytes += len(value)
	case "response_format":
		s.JSONSchema = s.JSONSchema || isSchema(value)
	case "text":
		s.JSONSchema = s.JSONSchema || isSchema(member(value, "format"))
	}
}

func isSchema(format []byte) bool {
	return jsonspan.EqualString(member(format, "type"), "json_schema")
}

// readMessages reads the messages of a conversation. There may be more than a hundred thousand of them.
func (s *Signals) readMessages(value []byte) {
	if value[0] != '[' {
		return
	}
	t := jsonspan.Checked(value)
	var known [2]beginning
	expected := 0
	var m inputItem
	for i, more := t.Enter(0); more; {
		text, end := known[expected].skip(t, i)
		if end == i {
			expected ^= 1
			text, end = known[expected].skip(t, i)
		}
		if end > i {
			s.Messages++
			s.total = s.total.plus(size{text, messageTokens})
			if known[expected].isUser {
				s.user = known[expected].text(t[i:end])
			}
		} else {
			end = m.read(t, i)
			s.addItem(&m)
			if o, ok := m.beginning(); ok {
				known[expected] = o
			}
		}
		i, more = t.Next(end)
	}
}

// maxBeginning is the length up to which a beginning is remembered. Those of calls of tools are longer, and each has another identifier.
const maxBeginning = 64

// A beginning is how a message begins whose content is a text and comes last: up to the quote before that text. Most messages of a
// conversation have one of two, that of the user or that of the assistant: {"role":"user","content":" for example. To compare it is several
// times as fast as to read the members.
type beginning struct {
	bytes  []byte
	isUser bool
}

// skip returns the size of the text of the message at i, and the offset after the message. It returns i if the message does not begin like
// this, or does not end with the text.
func (o *beginning) skip(t jsonspan.Checked, i int) (text, end int) {
	from := i + len(o.bytes)
	if len(o.bytes) == 0 || from > len(t) || string(t[i:from]) != string(o.bytes) {
		return 0, i
	}
	end, escaped := t.String(from - 1)
	if end >= len(t) || t[end] != '}' {
		return 0, i
	}
	if text = end - 1 - from; escaped {
		text = jsonspan.UnescapedLen(t[from : end-1])
	}
	return text, end + 1
}

// text returns the text of a message that begins like this, with its quotes.
func (o *beginning) text(message []byte) []byte { return message[len(o.bytes)-1 : len(message)-1] }

// readInputs reads a text, a list of texts, a list of tokens or of lists of tokens, or the items of the Responses API.
func (s *Signals) readInputs(value []byte) {
	if value[0] == '"' {
		s.readInput(value)
	}
	if value[0] != '[' {
		return
	}
	tokens := 0
	t := jsonspan.Checked(value)
	var m inputItem
	for i, more := t.Enter(0); more; {
		var end int
		before, independent := s.total, true
		switch t[i] {
		case '{':
			end = m.read(t, i)
			s.addItem(&m)
			independent = m.role == nil && !m.hasType // not a message of a conversation
		case '"', '[':
			end = t.End(i)
			s.readInput(t[i:end])
		default:
			end = t.End(i)
			tokens++
			independent = false
		}
		if independent {
			input := s.total.minus(before)
			s.listed = s.listed.plus(input)
			if input.estimate() > s.largest.estimate() {
				s.largest = input
			}
		}
		i, more = t.Next(end)
	}
	if tokens > 0 {
		s.Messages++
		s.total.tokens += tokens
	}
}

// readInput reads an independent input: a text, or its tokens.
func (s *Signals) readInput(value []byte) {
	s.Messages++
	if value[0] == '[' {
		s.total.tokens += countElements(value)
		return
	}
	s.user = value
	s.readContent(value)
}

// countElements returns the number of elements of an array. Any other value has none.
func countElements(value []byte) (n int) {
	jsonspan.Elements(value, func([]byte) bool { n++; return true })
	return n
}

// An inputItem is a message, or another item of the Responses API, such as a function call or its output.
type inputItem struct {
	whole                                                     []byte
	role, content, output, arguments, toolCalls, functionCall []byte // the values of its members
	hasType                                                   bool
}

// read reads the item at i and returns the offset after it. What is not an object has no members.
func (m *inputItem) read(t jsonspan.Checked, i int) (end int) {
	*m = inputItem{}
	if t[i] != '{' {
		end = t.End(i)
		m.whole = t[i:end]
		return end
	}
	end, more := t.Enter(i)
	for more {
		key, from := t.Key(end)
		to := t.End(from)
		value := t[from:to]
		switch string(key) {
		case "role":
			m.role = value
		case "content":
			m.content = value
		case "type":
			m.hasType = true
		case "output":
			m.output = value
		case "arguments":
			m.arguments = value
		case "tool_calls":
			m.toolCalls = value
		case "function_call":
			m.functionCall = value
		}
		end, more = t.Next(to)
	}
	m.whole = t[i:end]
	return end
}

// beginning returns the beginning of the item. It returns false if the item is not a message that ends with its text, or has more that counts.
func (m *inputItem) beginning() (o beginning, ok bool) {
	n := len(m.whole) - len(m.content) - len("}")
	if n > maxBeginning || len(m.content) < 2 || m.content[0] != '"' || m.role == nil || m.output != nil || m.arguments != nil || m.toolCalls != nil ||
		m.functionCall != nil || &m.content[0] != &m.whole[n] {
		return o, false
	}
	return beginning{m.whole[:n+1], jsonspan.EqualString(m.role, "user")}, true
}

// addItem adds an item to the signals.
func (s *Signals) addItem(m *inputItem) {
	s.Messages++
	s.total = s.total.plus(size{len(m.arguments) + len(m.toolCalls) + len(m.functionCall), messageTokens})
	s.readContent(m.output)
	s.conversation = s.conversation || m.role != nil
	switch {
	case m.content != nil:
		s.readContent(m.content)
		s.noteSystem(m.role, m.content)
		if jsonspan.EqualString(m.role, "user") {
			s.user = m.content
		}
	case m.role == nil:
		s.readPart(m.whole)
	}
}

// readContent reads a text, or the parts of a message.
func (s *Signals) readContent(value []byte) {
	if len(value) == 0 {
		return
	}
	switch value[0] {
	case '"':
		s.readText(value)
	case '{':
		s.readPart(value)
	case '[':
		jsonspan.Elements(value, func(element []byte) bool { s.readContent(element); return true })
	}
}

func (s *Signals) readText(value []byte) {
	if raw, ok := jsonspan.RawString(value); ok {
		s.total.bytes += jsonspan.UnescapedLen(raw)
	}
}

// readPart reads one part of a message: a text, an image, audio or a file.
func (s *Signals) readPart(value []byte) {
	var kind, text []byte
	jsonspan.Members(value, func(key, value []byte) bool { // what is not an object has no members
		switch string(jsonspan.Unescape(key)) {
		case "type":
			kind, _ = jsonspan.RawString(value)
		case "text":
			text = value
		}
		return true
	})
	switch string(jsonspan.Unescape(kind)) {
	case "image_url", "input_image", "image":
		s.Images++
		s.total.tokens += imageTokens
	case "input_audio", "audio":
		s.Audio++
		s.total.tokens += audioTokens
	case "file", "input_file", "document":
		s.Files++
		s.total.tokens += fileTokens
	default:
		s.readText(text)
	}
}

// maxContent bounds Content, in bytes of the body.
const maxContent = 16 << 10

// Content returns the first 16 KiB of the text of the last user message, with a line break between its parts.
func (s *Signals) Content() string {
	if s.content == "" && s.user != nil {
		s.content = string(s.ContentBytes())
	}
	return s.content
}

// ContentBytes is Content for those who only look at it while the body is there. The bytes may be the body's.
func (s *Signals) ContentBytes() []byte {
	if s.text == nil && s.user != nil {
		s.text = contentText(s.user)
		if !utf8.Valid(s.text) { // it may end within a character
			s.text = bytes.ToValidUTF8(s.text, nil)
		}
	}
	return s.text
}

// contentText returns the beginning of the text of a content.
func contentText(content []byte) []byte {
	if raw, ok := jsonspan.RawString(content); ok {
		return jsonspan.Unescape(raw[:min(len(raw), maxContent)])
	}
	return appendText(nil, content, maxContent)
}

// appendText appends at most so many bytes of the text of a content.
func appendText(b, content []byte, most int) []byte {
	left := most - len(b)
	if left <= 0 {
		return b
	}
	if raw, ok := jsonspan.RawString(content); ok {
		if len(b) > 0 {
			b = append(b, '\n')
		}
		return jsonspan.AppendUnescaped(b, raw[:min(len(raw), left)])
	}
	jsonspan.Elements(content, func(element []byte) bool { // any other content has no text
		if element[0] != '"' {
			element = member(element, "text")
		}
		if len(element) > 0 && element[0] == '"' {
			b = appendText(b, element, most)
		}
		return true
	})
	return b
}
