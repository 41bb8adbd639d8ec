package upstream

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ollama"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
)

// usesOllama reports whether a request goes to Ollama's own API, which chats and embeds. Its other endpoints are those of OpenAI's API.
func (u *Upstream) usesOllama(t *Template) bool {
	return u.API() == dialect.Ollama && t.JSON != nil && (t.endpoint() == chatEndpoint || t.Endpoint.Name == "embeddings")
}

// prepareOllama makes the body of a request for Ollama's own API: the client's own request, or a translation.
func (u *Upstream) prepareOllama(t *Template, model string) *openai.Error {
	var err *openai.Error
	if t.added, t.said = t.added[:0], thinking.Unsaid; t.Own != nil && t.Own.API == dialect.Ollama {
		u.editOllama(t, model)
	} else if err = u.translateToOllama(t, model); err != nil {
		return err
	}
	t.edit.SetString("model", model)
	t.body = reqbody.NewPayload(t.edit.Segments(), t.Memory)
	return nil
}

// editOllama changes the request of a client of Ollama's API as the configuration says.
func (u *Upstream) editOllama(t *Template, model string) {
	e := &t.edit
	e.Reset(&t.Original.Object)
	dialect.RestrictOllama(e, u.AllowOptions)
	for _, p := range u.Params {
		if p.Name != thinking.EffortMember {
			dialect.DefaultOllamaOwn(e, p.Name, p.Value)
			continue
		}
		if wished := thinking.Named(p.Value); wished != thinking.Unsaid && !e.Has("think") {
			t.said = u.aboutThinking(t, model).Takes.Nearest(wished)
			thinking.Ollama.Set(e, t.said)
		}
	}
	if t.MaxOutput > 0 {
		dialect.SetOllamaOption(e, "num_predict", strconv.AppendInt(nil, int64(t.MaxOutput), 10))
	}
	for _, name := range u.Drop {
		dialect.DropOllama(e, name)
	}
	t.path = t.Own.Path
}

// translateToOllama translates a request in OpenAI's format, changed as the configuration says.
func (u *Upstream) translateToOllama(t *Template, model string) *openai.Error {
	source := &t.request().Object
	if t.Own != nil { // of the client's request, JSON keeps what only its own API has
		options := u.ActualKind().chat
		options.TopK = true
		chat, _, err := t.Own.Request(&t.Original.Object, options)
		if err != nil {
			return err
		}
		source = new(jsonspan.Object)
		if err := source.Scan(chat); err != nil {
			return invalidTranslation(err)
		}
	}
	e := &t.edit
	e.Reset(source)
	dialect.RestrictOllama(e, u.AllowOptions)
	for _, p := range u.Params {
		if p.Name != thinking.EffortMember || !thinking.WishIn(e).Said() {
			dialect.DefaultOllama(e, p.Name, p.Value)
		}
	}
	u.tellThinking(t, source, model)
	if t.MaxOutput > 0 {
		clampOutput(e, t.MaxOutput)
	}
	for _, name := range u.Drop {
		dialect.DropOllama(e, name)
	}
	translate := dialect.OllamaRequestFromChat
	if t.path = "/api/chat"; t.Endpoint.Vectors {
		translate, t.path = dialect.EmbedFromRequest, "/api/embed"
	}
	var o jsonspan.Object
	if err := o.Scan(e.Bytes()); err != nil {
		return invalidTranslation(err)
	}
	body, err := translate(&o)
	if err != nil {
		return err
	}
	t.translated = new(openai.Request)
	if err := t.translated.Scan(body); err != nil {
		return invalidTranslation(err)
	}
	e.Reset(&t.translated.Object)
	return nil
}

// invalidTranslation returns the error for a parameter in the configuration that makes the request invalid.
func invalidTranslation(err error) *openai.Error {
	return &openai.Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Code: "invalid_request", Message: "The request cannot be translated for Ollama: " + err.Error() + "."}
}

var errNotOllama = errors.New("the answer is not one of Ollama's API")

// fromOllama makes an answer of Ollama's own API one in OpenAI's format. Lines become events. They stay lines of Ollama's format within
// them if the client gets them as they are.
func fromOllama(t *Template, res *http.Response, passes bool) error {
	start := startOf(res.Body)
	if !startsJSON(start) { // the relay says what is wrong with it
		res.Body = struct {
			io.Reader
			io.Closer
		}{start, res.Body}
		return nil
	}
	body := struct {
		io.Reader
		io.Closer
	}{start, res.Body}
	if t.JSON.Stream && !t.Endpoint.Vectors {
		become := ollama.Frame
		if !passes {
			become = new(dialect.OllamaChunkStream).Append
		}
		res.Body, res.ContentLength = ollama.NewReader(body, become), -1
		res.Header["Content-Type"] = []string{"text/event-stream"}
		delete(res.Header, "Content-Length")
		return nil
	}
	if passes {
		res.Body = body
		return nil
	}
	return wholeFromOllama(t, res, start)
}

// wholeFromOllama makes a whole answer of Ollama's API one in OpenAI's format.
func wholeFromOllama(t *Template, res *http.Response, start *bufio.Reader) error {
	translate := dialect.ChatFromOllamaAnswer
	if t.Endpoint.Vectors {
		translate = dialect.EmbeddingsFromEmbed
	}
	return translateWhole(t.Answers, res, start, func(m *wholeMemory) ([]byte, error) {
		answer := m.in.Bytes()
		if translated, ok := translate(answer); ok {
			return translated, nil
		}
		if failed, _ := openai.ParseError(answer); failed.Message == "" {
			return nil, errNotOllama
		}
		return answer, nil
	})
}

// rootPath returns the path below which Ollama's own API is. The base of its OpenAI API ends with /v1.
func rootPath(base string) string { return strings.TrimSuffix(base, "/v1") }
