package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxProbeAnswer bounds what is read of an answer to a probe: a list of models at most.
const maxProbeAnswer = 4 << 20

// A prober asks one address harmless questions. It never generates.
type prober struct {
	ctx  context.Context
	u    *Upstream
	base *url.URL
	last error
}

// get asks for a path below the root, or below the API's base where the path starts without a slash.
func (p *prober) get(path string) (status int, body []byte) { return p.ask(http.MethodGet, path, "") }

// ask is get with a body, where there is one.
func (p *prober) ask(method, path, question string) (status int, body []byte) {
	at := *p.base
	if strings.HasPrefix(path, "/") {
		at.Path = path
	} else {
		at.Path += "/" + path
	}
	req, err := http.NewRequestWithContext(p.ctx, method, at.String(), strings.NewReader(question))
	if err != nil {
		p.last = err
		return 0, nil
	}
	req.Header["User-Agent"] = userAgent
	req.Header["Accept-Encoding"] = identity
	if question != "" {
		req.Header["Content-Type"] = jsonType
	}
	p.u.authorize(req.Header)
	if p.u.HeaderUp != nil {
		p.u.HeaderUp(req)
	}
	res, err := p.u.RoundTrip(req)
	if err != nil {
		p.last = fmt.Errorf("asking %s: %w", at.Host, err)
		return 0, nil
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxProbeAnswer))
	if err != nil {
		p.last = fmt.Errorf("asking %s: %w", at.Host, err)
		return 0, nil
	}
	return res.StatusCode, body
}

// kind finds out what listens. Where nothing answers, the error says why.
func (p *prober) kind() (*Kind, error) {
	for _, k := range kinds {
		if k.looksLike != nil && k.looksLike(p) {
			return k, nil
		}
		if p.last != nil {
			return nil, p.last
		}
	}
	return OpenAI, nil
}

func (p *prober) member(path, name string) bool {
	status, body := p.get(path)
	var object map[string]json.RawMessage
	return status == http.StatusOK && json.Unmarshal(body, &object) == nil && object[name] != nil
}

func isOllama(p *prober) bool { return p.member("/api/version", "version") }

func isVLLM(p *prober) bool { return p.member("/version", "version") }

// isLlamaCpp knows a llama.cpp server by its properties, or by the words in which it answers everything while it loads.
func isLlamaCpp(p *prober) bool {
	status, body := p.get("/props")
	if status == http.StatusServiceUnavailable {
		return strings.Contains(string(body), "Loading model")
	}
	return status == http.StatusOK && strings.Contains(string(body), `"default_generation_settings"`)
}

// slots asks a llama.cpp server how many requests it generates for at once. Where its replicas differ, the last one's number
// is taken for all.
func (p *prober) slots() {
	if p.u.MaxConcurrent != 0 || p.u.Speaks() != LlamaCpp {
		return
	}
	status, body := p.get("/props")
	var props struct {
		Total int `json:"total_slots"`
	}
	if status == http.StatusOK && json.Unmarshal(body, &props) == nil && props.Total > 0 {
		p.u.Route.SetLimit(props.Total)
	}
}
