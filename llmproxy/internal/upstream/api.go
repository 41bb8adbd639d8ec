package upstream

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
)

// API returns the API that the upstream has, or that of its APIs which the configuration chooses.
func (u *Upstream) API() dialect.API {
	if u.OpenAI {
		return dialect.OpenAI
	}
	return u.ActualKind().api
}

// Passes reports whether a request goes to the upstream in the format of the client's own API, as the client sent it, and its answer
// comes back like that.
func (u *Upstream) Passes(t *Template) bool {
	return t.Original != nil && t.Passable && t.Own.API == u.API()
}

// Prepare translates the request for the next attempt, if the upstream has another API than OpenAI's. The error says why that is
// impossible; another upstream may be able to take the request.
func (u *Upstream) Prepare(t *Template, model string) *openai.Error {
	t.Release() // of the attempt before
	t.body, t.native = nil, false
	var err *openai.Error
	if t.detour, err = u.detour(t, model); err != nil {
		return err
	}
	if u.goesNative(t) {
		t.prepareNative(model)
		return nil
	}
	foreign := u.API() == dialect.Anthropic || u.usesOllama(t)
	plain := foreign || t.Original == nil || t.Own.Plain != nil && t.Own.Plain(&t.Original.Object)
	if t.detour != nil || foreign && !u.Passes(t) || !plain {
		if err := t.reserve(); err != nil {
			return err
		}
	}
	switch {
	case u.API() == dialect.Anthropic:
		return u.prepareMessages(t, model)
	case u.usesOllama(t):
		return u.prepareOllama(t, model)
	}
	if !plain {
		return t.translateFor(u.ActualKind())
	}
	t.chat = t.request()
	return nil
}

// detour returns the way by chat of the next attempt's request, or nil if it goes to the endpoint that the client called. A server may
// have that endpoint, but be known to understand less of it than of chat. Then it gets only what chat cannot express.
func (u *Upstream) detour(t *Template, model string) (*detour, *openai.Error) {
	k, name := u.ActualKind(), t.Endpoint.Name
	lacks := slices.Contains(k.lacks, name) || name == "responses_compact" && !k.besideResponses || t.Endpoint.IsResponses() && t.refused(responsesAPI)
	if !lacks && !slices.Contains(k.avoids, name) && !(t.Endpoint.IsResponses() && u.refuses(model, responsesAPI)) {
		return nil, nil
	}
	options := k.chat
	options.Model = model
	if k.api != dialect.OpenAI { // the request is translated once more
		options.Signed, options.Reasoning = true, true
	}
	d, err := newDetour(t.Endpoint, t.JSON, options)
	if err != nil && !lacks {
		return nil, nil
	}
	return d, err
}

// goesNative reports whether the next attempt should use the Messages API of the server itself.
func (u *Upstream) goesNative(t *Template) bool {
	k := u.ActualKind()
	switch {
	case k.version == nil, t.Own == nil, t.Own.Endpoint != openai.Messages:
		return false
	case u.API() != dialect.OpenAI: // the tables compare with OpenAI's chat API
		return false
	case len(u.Params)+len(u.Drop) > 0: // they name members of the chat API
		return false
	}
	v := u.capabilities.version.Load()
	return v != nil && losesLess(k.Name, *v, featuresOf(&t.Original.Object))
}

// prepareNative makes the body of a request for the server's own Messages API.
func (t *Template) prepareNative(model string) {
	t.native, t.added, t.said = true, t.added[:0], thinking.Unsaid
	e := &t.edit
	e.Reset(&t.Original.Object)
	e.SetString("model", model)
	if _, ok := e.Get("system"); ok { // as the translation has it: one text, without what only Anthropic reads
		e.Drop("system")
		if text := systemOf(t.JSON); text != nil {
			e.Set("system", text)
		}
	}
	if t.MaxOutput > 0 {
		e.Set("max_tokens", strconv.AppendInt(nil, int64(t.MaxOutput), 10))
	}
	t.body, t.path = reqbody.NewPayload(e.Segments(), t.Memory), openai.Messages.Path
}

// translateFor translates the client's request once more, in the way of this kind.
func (t *Template) translateFor(k *Kind) *openai.Error {
	options := k.chat
	options.Model = t.JSON.Model
	body, _, err := t.Own.Request(&t.Original.Object, options)
	if err != nil {
		return err
	}
	t.translated = new(openai.Request)
	if err := t.translated.ParseTranslated(body); err != nil {
		return err
	}
	t.chat = t.translated
	return nil
}

// TranslateAnswer makes an answer in the format of another API one in OpenAI's, unless the client gets it as it is. It also repairs
// answers that OpenAI's clients would not understand.
func (u *Upstream) TranslateAnswer(t *Template, res *http.Response) error {
	if err := u.translateToOpenAI(t, res); err != nil || t.detour == nil {
		return err
	}
	return t.detour.translateAnswer(t.Answers, res)
}

func (u *Upstream) translateToOpenAI(t *Template, res *http.Response) error {
	passes := u.Passes(t)
	switch {
	case t.native, u.API() == dialect.Anthropic && !passes:
		return chatFromMessages(t, res, !t.native)
	case u.usesOllama(t):
		return fromOllama(t, res, passes)
	}
	if newRepair := u.ActualKind().repair; newRepair != nil && t.endpoint() == chatEndpoint {
		return repairAnswer(t.Answers, res, newRepair())
	}
	return nil
}

// CopyHeaders copies the headers of an answer that clients of its API read, if it passes as it is.
func (u *Upstream) CopyHeaders(t *Template, to, from http.Header) {
	switch {
	case u.API() == dialect.Anthropic && u.Passes(t):
		copyMessagesHeaders(to, from)
	case t.usesResponses():
		copyAnswerHeaders(to, from)
	}
}
