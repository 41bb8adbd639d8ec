package fakellm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
)

// A call is one request being answered.
type call struct {
	s      *Server
	kind   *kind
	r      *http.Request
	path   string // the endpoint, without what a service has before /v1
	id     int64
	body   []byte
	ask    ask
	form   *form
	answer Answer
}

// ask is what the answer depends on.
type ask struct {
	Model         string
	Stream        bool
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Messages, Prompt, Input, Query json.RawMessage
	Documents                      []json.RawMessage
	EncodingFormat                 string `json:"encoding_format"`
	StreamFormat                   string `json:"stream_format"`
	Dimensions                     int
}

// A form is what came as multipart/form-data.
type form struct {
	format      string
	name, ctype string // of the file
	size        int
	sha256      string
	fields      []string // names in order
}

// parse reads the request, and tells why it cannot be answered, if so.
func (c *call) parse() refusal {
	ctype, params, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if ctype == "multipart/form-data" {
		c.form = &form{}
		if !c.readForm(params["boundary"]) {
			return badJSON
		}
		return c.model()
	}
	if json.Unmarshal(c.body, &c.ask) != nil {
		return badJSON
	}
	if why := c.kind.unfit(c); why != accepted {
		return why
	}
	return c.model()
}

// model finds the name that the answer speaks of, and whether the server has it.
func (c *call) model() refusal {
	if c.kind.anyModel {
		c.ask.Model = c.s.names()[0]
		return accepted
	}
	if c.ask.Model == "" {
		if c.kind.firstModel || c.path == "/v1/moderations" || strings.HasPrefix(c.path, "/v1/images/") {
			c.ask.Model = c.s.names()[0]
			return accepted
		}
		return missingModel
	}
	if len(c.s.models) > 0 && !c.has(c.ask.Model) {
		return unknownModel
	}
	return accepted
}

// has compares names as Ollama does, where "tiny" is "tiny:latest"; no other kind has names of that form.
func (c *call) has(model string) bool {
	model = strings.TrimSuffix(model, ":latest")
	return slices.ContainsFunc(c.s.names(), func(name string) bool { return strings.TrimSuffix(name, ":latest") == model })
}

// lacks tells whether the request has nothing to work on: no messages, prompt or input.
func (c *call) lacks() bool {
	var v json.RawMessage
	switch c.path {
	case chatPath:
		v = c.ask.Messages
	case "/v1/completions":
		v = c.ask.Prompt
	case "/v1/embeddings", "/v1/responses":
		v = c.ask.Input
	default:
		return false
	}
	return len(v) == 0 || string(v) == "null"
}

// readForm reads the parts with the standard library's parser, so that a form that was changed on its way shows.
func (c *call) readForm(boundary string) bool {
	parts := multipart.NewReader(bytes.NewReader(c.body), boundary)
	for {
		part, err := parts.NextRawPart()
		if err != nil {
			return err == io.EOF
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return false
		}
		c.form.fields = append(c.form.fields, part.FormName())
		switch part.FormName() {
		case "model":
			c.ask.Model = string(value)
		case "stream":
			c.ask.Stream = string(value) == "true"
		case "response_format":
			c.form.format = string(value)
		case "file", "image", "image[]":
			sum := sha256.Sum256(value)
			c.form.name, c.form.ctype = part.FileName(), part.Header.Get("Content-Type")
			c.form.size, c.form.sha256 = len(value), hex.EncodeToString(sum[:])
		}
	}
}
