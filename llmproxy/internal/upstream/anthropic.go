package upstream

import (
	"bytes"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// Anthropic is the kind of Anthropic's API, and of services that imitate it. Requests of its own clients go there as they are; those of
// OpenAI's clients are translated, and so are the answers.
var Anthropic = &Kind{
	Name: "anthropic", ServiceBase: "https://api.anthropic.com/v1", KeyVariable: "ANTHROPIC_API_KEY", AutoModel: "claude-haiku-4-5", basePath: "/v1",
	api: dialect.Anthropic, lacks: onlyChat, counters: []countWay{countAsMessages},
	errors: []errorRow{
		{text: "credit balance is too low", is: router.Misconfigured}, // status 400
		{typ: "billing_error", is: router.Misconfigured},
		{typ: "authentication_error", is: router.Misconfigured},
		{typ: "permission_error", is: router.Misconfigured},
		{typ: "api_error", is: router.Failed},
		{typ: "timeout_error", is: router.Failed},
	},
	contextPatterns: []*regexp.Regexp{regexp.MustCompile(`prompt is too long: \d+ tokens > (?P<limit>\d+) maximum`)},
	outputPatterns:  []*regexp.Regexp{regexp.MustCompile(`max_tokens: \d+ > (?P<limit>\d+), which is the maximum allowed number of output tokens`)},
}

// anthropicVersion is the version of the API, which every request must name.
const anthropicVersion = "2023-06-01"

// authorizeMessages sets the headers that every request to Anthropic's API has.
func (u *Upstream) authorizeMessages(h http.Header) {
	if u.APIKey != "" {
		h["X-Api-Key"] = []string{u.APIKey}
	}
	if h["Anthropic-Version"] == nil {
		h["Anthropic-Version"] = []string{anthropicVersion}
	}
}

// isMessagesHeader reports whether a client's header belongs to Anthropic's API. They form an open list, because a beta that is lost makes
// a request fail.
func isMessagesHeader(name string) bool {
	return strings.HasPrefix(name, "Anthropic-") && name != "Anthropic-Dangerous-Direct-Browser-Access" || strings.HasPrefix(name, "X-Claude-Code-")
}

// prepareMessages makes the body of a request for Anthropic's API: the client's own request, or a translation.
func (u *Upstream) prepareMessages(t *Template, model string) *openai.Error {
	request := t.request()
	if t.endpoint() != chatEndpoint || request == nil {
		return &openai.Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Code: "invalid_request", Message: "Anthropic's API has chat only."}
	}
	if t.Own != nil && t.Own.API != dialect.Anthropic { // its members that the translation would not see
		if _, _, err := t.Own.Request(&t.Original.Object, u.ActualKind().chat); err != nil {
			return err
		}
	}
	e := &t.edit
	if u.Passes(t) {
		e.Reset(&t.Original.Object)
		withoutUnsigned(e)
		if t.Original.Model != model {
			thinking.GenerationOf(model).Fit(e, u.aboutThinking(t, model).Takes)
		}
	} else {
		body, err := dialect.MessagesFromChat(&request.Object, u.defaultMaxTokens())
		if err != nil {
			return err
		}
		t.translated = new(openai.Request)
		if err := t.translated.Parse(body); err != nil {
			return err
		}
		e.Reset(&t.translated.Object)
	}
	e.SetString("model", model)
	u.tellClaude(t, model)
	for _, p := range u.Params {
		if p.Name != thinking.EffortMember { // Anthropic's API has no such member
			e.Default(p.Name, p.Value)
		}
	}
	if t.MaxOutput > 0 {
		e.Set("max_tokens", strconv.AppendInt(nil, int64(t.MaxOutput), 10))
	}
	for _, name := range u.Drop {
		e.Drop(name)
	}
	t.body, t.path = reqbody.NewPayload(e.Segments(), t.Memory), openai.Messages.Path
	return nil
}

// thinkingAddition is the thinking that a client of another API has no name for.
var thinkingAddition = &addition{"thinking", []string{"adaptive thinking", "thinking.type", "thinking is not", "support thinking"}}

// tellClaude makes a request say what it wishes in the way of the model.
func (u *Upstream) tellClaude(t *Template, model string) {
	t.added, t.said = t.added[:0], thinking.Unsaid
	about := thinking.AboutClaude{DefaultLimit: dialect.DefaultMaxTokens}
	if about.Wished, about.Limited = u.wishForClaude(t); about.Wished == thinking.Unsaid {
		return
	}
	about.Takes = u.aboutThinking(t, model).Takes
	about.NoThinking = t.refused(thinkingAddition) || u.refuses(model, thinkingAddition)
	said, on := thinking.GenerationOf(model).Tell(&t.edit, about)
	if t.said = said; on {
		t.added = append(t.added, thinkingAddition)
	}
}

// wishForClaude returns what a request wishes for that does not say it in Anthropic's language: a translated request, or one that lacks what
// the configuration says. Limited means that the client or the configuration bounds the answer.
func (u *Upstream) wishForClaude(t *Template) (wished thinking.Effort, limited bool) {
	request := &t.request().Object
	if !thinking.MayWish(request) && len(u.Params) == 0 {
		return thinking.Unsaid, false
	}
	chat := new(jsonspan.Edit)
	chat.Reset(request)
	if t.Own == nil && chat.Has("thinking") || u.Passes(t) && (t.edit.Has("thinking") || chat.Has(thinking.EffortMember)) {
		return thinking.Unsaid, false
	}
	wished = thinking.WishIn(chat).Effort
	for _, p := range u.Params {
		if p.Name == thinking.EffortMember && wished == thinking.Unsaid {
			wished = thinking.Named(p.Value)
		}
	}
	return wished, chat.Has("max_tokens") || chat.Has("max_completion_tokens") || u.defaultMaxTokens() > 0
}

// withoutUnsigned removes the thinking of other upstreams.
func withoutUnsigned(e *jsonspan.Edit) {
	if messages, ok := e.Get("messages"); ok && bytes.Contains(messages, []byte(dialect.Unsigned)) {
		e.Set("messages", dialect.WithoutUnsigned(messages))
	}
}

// defaultMaxTokens returns the max_tokens of a request that has none: the one in params, if it is there.
func (u *Upstream) defaultMaxTokens() int {
	i := slices.IndexFunc(u.Params, func(p Param) bool { return p.Name == "max_tokens" })
	if i < 0 {
		return 0
	}
	n, _ := strconv.Atoi(string(u.Params[i].Value)) // the upstream reports an invalid one
	return n
}

// chatFromMessages makes an answer in Anthropic's format one in OpenAI's. Signed means that signatures of thinking are real.
func chatFromMessages(t *Template, res *http.Response, signed bool) error {
	start := startOf(res.Body)
	if !startsJSON(start) {
		stream := dialect.ChunkStream{Unsigned: !signed}
		translateStream(res, start, func(b []byte, e *sse.Event) []byte {
			switch {
			case e.HasData:
				return stream.Append(b, e.Name, e.Data)
			case e.OnlyComments:
				return append(b, e.Raw...)
			}
			return b
		}, nil)
		return nil
	}
	return translateWhole(t.Answers, res, start, func(m *wholeMemory) ([]byte, error) {
		message := m.in.Bytes()
		if chat, ok := dialect.ChatFromMessage(message, nil, signed); ok {
			return chat, nil
		}
		return message, nil
	})
}

// copyMessagesHeaders copies the headers of an answer of Anthropic's API that its clients read: the request's ID and what is left of the
// rate limits, unless the gateway has limits of its own.
func copyMessagesHeaders(to, from http.Header) {
	for name, v := range from {
		if name == "Request-Id" || strings.HasPrefix(name, "Anthropic-Ratelimit-") && to["X-Ratelimit-Limit-Requests"] == nil && to["X-Ratelimit-Limit-Tokens"] == nil {
			to[name] = v
		}
	}
}

// promptMembers are the members of a request that its number of tokens depends on. Anthropic's API refuses all others when it counts.
var promptMembers = []string{"model", "messages", "system", "tools", "tool_choice", "thinking"}

// countAsMessages translates the prompt of a client of another API.
func countAsMessages(p *probe, q *question) (int64, error) {
	body, problem := dialect.MessagesFromChat(&q.chat, 0)
	if problem != nil {
		return 0, problem
	}
	var o jsonspan.Object
	if err := o.Scan(body); err != nil {
		return 0, err
	}
	var e jsonspan.Edit
	e.Reset(&o)
	for _, m := range o.Members {
		if name := string(m.Key.Of(body)); !slices.Contains(promptMembers, name) {
			e.Drop(name)
		}
	}
	e.SetString("model", q.model)
	return p.askMessages(e.Bytes())
}
