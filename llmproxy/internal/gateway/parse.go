package gateway

import (
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

// parse reads the request as far as the gateway must know it. Everything else of it stays the bytes that came.
func (c *call) parse() *wire.Error {
	if c.r.Method != http.MethodPost {
		c.w.Header()["Allow"] = []string{http.MethodPost}
		return wrongMethod(c.r.Method, c.r.URL.Path, http.MethodPost)
	}
	if err := c.parseBody(c.r.Header.Get("Content-Type")); err != nil {
		return err
	}
	if c.rec.Model == "" {
		c.rec.Model = c.task.endpoint.DefaultModel
	}
	if c.rec.Model == "" {
		return modelMissing(c.r.URL.Path)
	}
	return nil
}

func (c *call) parseBody(contentType string) *wire.Error {
	if contentType == "application/json" { // nearly always: there is nothing to parse
		return c.parseJSON()
	}
	media, params, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil && contentType != "":
		return unsupportedMedia("The Content-Type header cannot be read; send application/json.")
	case saysJSON(media):
		return c.parseJSON()
	case !strings.HasPrefix(media, "multipart/"):
		return unsupportedMedia("The Content-Type is " + media + "; send application/json.")
	case !c.task.endpoint.Form || media != "multipart/form-data" || params["boundary"] == "":
		return unsupportedMedia(c.r.URL.Path + " does not take " + media + "; send application/json.")
	}
	return c.parseForm(params["boundary"])
}

// saysJSON accepts, besides JSON, what says nothing or what curl -d says by itself: the body decides.
func saysJSON(media string) bool {
	switch media {
	case "", "application/json", "text/plain", "text/json", "application/x-www-form-urlencoded":
		return true
	}
	return strings.HasSuffix(media, "+json")
}

func (c *call) parseJSON() *wire.Error {
	if ahead, ok := c.r.Body.(*peeked); ok && ahead.head != nil && int64(len(ahead.head.Body)) <= c.g.MaxBody {
		c.head, c.rec.Received = *ahead.head, int64(len(ahead.head.Body))
	} else {
		began := time.Now()
		body, err := c.readBody()
		c.rec.Received, c.rec.Reading = int64(len(body)), time.Since(began)
		if err != nil {
			return err
		}
		if err := c.head.Parse(body); err != nil {
			return err
		}
	}
	if c.task.endpoint.Prompts {
		c.head.CountPrompts()
	}
	c.rec.head = &c.head
	c.rec.Model, c.rec.Stream = c.head.Model, c.head.Stream
	c.up.Head = &c.head
	return nil
}

func (c *call) parseForm(boundary string) *wire.Error {
	began := time.Now()
	body, err := c.openBody()
	if err != nil {
		return err
	}
	defer body.Close()
	spooled, err := c.spool(body)
	if err != nil {
		return err
	}
	c.form = &form{spool: spooled}
	c.rec.Received, c.rec.Reading = spooled.size, time.Since(began)
	fields, err := wire.ParseForm(spooled, spooled.size, boundary)
	if err != nil {
		return err
	}
	c.form.fields = fields
	c.rec.Model, c.rec.Stream = fields.Model, fields.Stream
	c.up.Form = c.form.withModel
	return nil
}
