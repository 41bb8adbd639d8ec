package gateway

import (
	"context"
	"io"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// An info is a path that the gateway answers with what it knows, in Ollama's format.
type info struct {
	name   string // of the endpoint
	answer func(*Gateway, *exchange.Exchange, *keys.Key) *openai.Error
	post   bool // the method is POST, not GET or HEAD
	public bool // no key is needed
}

// ollamaInfo are the paths of Ollama's API that describe the server and its models. Clients poll them, some every 30 seconds, so they do
// not count against limits, and never wait for a server that loads a model.
var ollamaInfo = map[string]*info{
	"/api/tags":    {name: "ollama_tags", answer: (*Gateway).listTags},
	"/api/ps":      {name: "ollama_ps", answer: (*Gateway).listLoaded},
	"/api/show":    {name: "ollama_show", answer: (*Gateway).showModel, post: true},
	"/api/version": {name: "ollama_version", answer: (*Gateway).showVersion},
}

// greeting is the path /, where clients of Ollama and Claude Code see whether the server is there. It needs no key, but a wrong one is an
// error: n8n tests its credentials here.
var greeting = &info{name: "greeting", answer: (*Gateway).greet, public: true}

// inform answers a request with what the gateway knows.
func (g *Gateway) inform(x *exchange.Exchange, key *keys.Key, i *info) *openai.Error {
	x.Record.Endpoint = i.name
	if !i.post {
		if err := allowGet(x.Request); err != nil {
			return err
		}
	} else if x.Request.Method != http.MethodPost {
		return exchange.WrongMethod(x.Request, http.MethodPost)
	}
	return i.answer(g, x, key)
}

func (g *Gateway) greet(x *exchange.Exchange, _ *keys.Key) *openai.Error {
	x.SendText("Ollama is running")
	return nil
}

// ollamaVersion is the version of Ollama's API that the gateway has. Clients refuse to work with older servers, VS Code below 0.6.4. This one
// has thinking levels and tool calls with IDs. The second member tells other gateways, which look for Ollama, that this is not one.
const ollamaVersion = `{"version":"0.12.11","server":"llm_proxy"}`

func (g *Gateway) showVersion(x *exchange.Exchange, _ *keys.Key) *openai.Error {
	x.SendJSON([]byte(ollamaVersion))
	return nil
}

// listTags answers GET /api/tags.
func (g *Gateway) listTags(x *exchange.Exchange, key *keys.Key) *openai.Error {
	return g.answerList(x, key, g.catalog.ListTags)
}

// listLoaded answers GET /api/ps.
func (g *Gateway) listLoaded(x *exchange.Exchange, key *keys.Key) *openai.Error {
	return g.answerList(x, key, g.catalog.ListLoaded)
}

func (g *Gateway) answerList(x *exchange.Exchange, key *keys.Key, list func(ctx context.Context, localOnly bool, may func(string) bool) ([]byte, *openai.Error)) *openai.Error {
	answer, err := list(x.Request.Context(), key != nil && key.LocalOnly, key.May)
	if err != nil {
		return err
	}
	x.SendJSON(answer)
	return nil
}

// maxShowBody bounds the body of a request for /api/show, which names a model.
const maxShowBody = 64 << 10

// showModel answers POST /api/show.
func (g *Gateway) showModel(x *exchange.Exchange, key *keys.Key) *openai.Error {
	body, err := io.ReadAll(http.MaxBytesReader(x.Writer.Unwrap(), x.Request.Body, maxShowBody))
	if err != nil {
		return exchange.BadRequest("The request body could not be read to its end: " + err.Error() + ".")
	}
	model, failed := dialect.ShownModel(body)
	if failed != nil {
		return failed
	}
	x.Record.Model = g.catalog.TaggedName(x.Request.Context(), model, key.May)
	answer, failed := g.catalog.ShowModel(x.Request.Context(), x.Record.Model, key != nil && key.LocalOnly, key.May)
	if failed != nil {
		return failed
	}
	x.SendJSON(answer)
	return nil
}

// loadsOnly reports whether a client of Ollama's API only wants the model to be loaded, or unloaded.
func loadsOnly(x *exchange.Exchange, body *reqbody.Body) (unload, only bool) {
	if x.Own == nil || x.API != dialect.Ollama || x.Endpoint.Vectors {
		return false, false
	}
	return dialect.LoadsOnly(&body.Original().Object)
}

// loadModel loads the model of a plan at an upstream that loads models on demand, and waits until it is loaded; or unloads it at all of its
// addresses. Other upstreams have their models loaded already, so the answer comes at once.
func (g *Gateway) loadModel(x *exchange.Exchange, plan *router.Plan, localOnly bool, original *openai.Request, unload bool) *openai.Error {
	ctx := x.Request.Context()
	for _, t := range plan.FirstPool(localOnly) {
		u := g.delivery.Upstream(t.Upstream)
		if !u.CanLoad() {
			continue
		}
		model := t.ModelFor(x.Record.Model)
		x.Record.Target = u.Name + "/" + model
		if unload {
			u.Unload(ctx, model)
			continue
		}
		keepAlive, _ := original.Get("keep_alive")
		select {
		case <-u.LoadFor(ctx, model, keepAlive):
		case <-ctx.Done():
			return exchange.ErrClientClosed
		}
		break
	}
	x.SendJSON(dialect.AppendOllamaLoad(nil, &dialect.OllamaStream{Model: original.Model, Generate: x.Own.Endpoint == openai.OllamaGenerate}, unload))
	return nil
}
