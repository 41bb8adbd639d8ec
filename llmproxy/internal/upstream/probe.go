package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// probeTimeout bounds each request of a health check. A server that accepts connections and does not answer in this time is loading,
// if servers of its kind do not answer while they load, or it hangs.
const probeTimeout = 500 * time.Millisecond

// maxProbeAnswer bounds what is read of an answer to a probe, in bytes. The longest is a list of models.
const maxProbeAnswer = 16 << 20

// A probe sends requests that never generate to one address of an upstream.
type probe struct {
	ctx     context.Context
	u       *Upstream
	base    *url.URL
	timeout time.Duration // of each request; zero means that only the context bounds it
}

// CanProbe reports whether a health check of the upstream's replicas is possible without generating. If not, they are judged only by
// their answers.
func (u *Upstream) CanProbe() bool { return u.ActualKind().CanProbe() }

// Probe checks a replica's health, and returns Up, Loading or Down. It never generates.
func (u *Upstream) Probe(ctx context.Context, r *replica.Replica) replica.State {
	ctx, cancel := context.WithTimeout(ctx, 2*probeTimeout)
	defer cancel()
	p := &probe{ctx: ctx, u: u, base: u.base(r), timeout: probeTimeout}
	state := u.ActualKind().health(p)
	if state == replica.Up {
		u.fetchSlots(p, r)
	}
	return state
}

// fetchSlots asks a replica how many slots it has, if servers of its kind say so.
func (u *Upstream) fetchSlots(p *probe, r *replica.Replica) {
	if fetch := u.ActualKind().fetchSlots; fetch != nil {
		if n := fetch(p); n > 0 {
			r.Queue().SetSlots(n)
		}
	}
}

// get requests a path below the root, or below the API's base if the path does not begin with a slash.
func (p *probe) get(path string) (status int, body []byte, err error) {
	return p.do(http.MethodGet, path, nil)
}

// do sends a request. Its body, if it has one, is JSON.
func (p *probe) do(method, path string, request []byte) (status int, body []byte, err error) {
	a, err := p.fetch(method, path, request)
	return a.status, a.body, err
}

// A probeAnswer is the answer to a probe.
type probeAnswer struct {
	status int
	header http.Header
	body   []byte
}

// fetch sends a request like do, and also returns the headers of the answer. The path may have a query.
func (p *probe) fetch(method, path string, request []byte) (a probeAnswer, err error) {
	at := *p.base
	path, at.RawQuery, _ = strings.Cut(path, "?")
	if strings.HasPrefix(path, "/") {
		at.Path = path
	} else {
		at.Path += "/" + path
	}
	ctx := p.ctx
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(request))
	if err != nil {
		return a, err
	}
	req.Header["User-Agent"] = userAgent
	req.Header["Accept-Encoding"] = identity
	if request != nil {
		req.Header["Content-Type"] = jsonType
	}
	p.u.authorize(req.Header)
	if p.u.HeaderUp != nil {
		p.u.HeaderUp(req)
	}
	res, err := p.u.RoundTrip(req)
	if err != nil {
		return a, fmt.Errorf("probing %s: %w", at.Host, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxProbeAnswer))
	if err != nil {
		return a, fmt.Errorf("probing %s: %w", at.Host, err)
	}
	return probeAnswer{res.StatusCode, res.Header, body}, nil
}

// json sends a request, as JSON unless it is nil, and decodes the answer, whose status must be 200.
func (p *probe) json(method, path string, request, answer any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	status, body, err := p.do(method, path, body)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("probing %s: status %d for %s", p.base.Host, status, path)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("probing %s: invalid answer for %s: %w", p.base.Host, path, err)
	}
	return nil
}

// object returns the members of the JSON object at a path, or nil if the answer is not an object.
func (p *probe) object(path string) (map[string]json.RawMessage, error) {
	status, body, err := p.get(path)
	var object map[string]json.RawMessage
	if status != http.StatusOK || json.Unmarshal(body, &object) != nil {
		return nil, err
	}
	return object, nil
}

// ok reports whether a path answers with status 200.
func (p *probe) ok(path string) bool {
	status, _, _ := p.get(path)
	return status == http.StatusOK
}

// askCount sends a request and decodes the answer.
func (p *probe) askCount(path string, request []byte, answer any) error {
	status, body, err := p.do(http.MethodPost, path, request)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d for %s", status, path)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, answer)
}

// withModel returns a request with another model.
func withModel(request *jsonspan.Object, model string) []byte {
	var e jsonspan.Edit
	e.Reset(request)
	e.SetString("model", model)
	return e.Bytes()
}

// countByMessages asks the server's own imitation of Anthropic's API.
func countByMessages(p *probe, q *question) (int64, error) {
	if q.original == nil {
		return 0, ErrCannotCount
	}
	return p.askMessages(withModel(q.original, q.model))
}

func (p *probe) askMessages(request []byte) (int64, error) {
	var answer struct {
		Tokens int64 `json:"input_tokens"`
	}
	err := p.askCount("messages/count_tokens", request, &answer)
	return answer.Tokens, err
}
