package fakellm

import (
	"encoding/json"
	"net/http"
	"strings"
)

// The part of Ollama's own API that tells what it has.

func ollamaNative(status int, body string) reply {
	return reply{status: status, ctype: ginJSON, body: []byte(body)}
}

func ollamaModel(_ *call, id string) string {
	return `{"id":` + quote(id) + `,"object":"model","created":` + created + `,"owned_by":"library"}`
}

const (
	ollamaDigest  = `"digest":"86b2a5e32c19962cd9ac3929a74b41326c86d450a79dd2a577a84321020384f8"`
	ollamaDetails = `"details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"1.08M","quantization_level":"unknown"`
)

func ollamaTags(c *call) reply {
	return ollamaList(c, `"modified_at":"2026-11-23T09:06:19.185733682Z","size":4341849,`+ollamaDigest+`,`+ollamaDetails+
		`,"context_length":4096,"embedding_length":384},"capabilities":["completion"]`)
}

// ollamaPs lists every model as loaded.
func ollamaPs(c *call) reply {
	return ollamaList(c, `"size":24798821,`+ollamaDigest+`,`+ollamaDetails+
		`},"expires_at":"2026-11-23T09:28:39.025756467Z","size_vram":0,"context_length":4096`)
}

func ollamaList(c *call, rest string) reply {
	var entries []string
	for _, name := range c.s.names() {
		name = quote(name)
		entries = append(entries, `{"name":`+name+`,"model":`+name+`,`+rest+`}`)
	}
	return ollamaNative(http.StatusOK, `{"models":[`+strings.Join(entries, ",")+`]}`)
}

func ollamaShow(c *call) reply {
	if json.Unmarshal(c.body, &c.ask) != nil || c.ask.Model == "" {
		return ollamaNative(http.StatusBadRequest, `{"error":"model is required"}`)
	}
	if !c.has(c.ask.Model) {
		return ollamaNative(http.StatusNotFound, `{"error":"model '`+c.ask.Model+`' not found"}`)
	}
	return ollamaNative(http.StatusOK, `{"modelfile":"FROM tiny","template":"{{ .Prompt }}",`+ollamaDetails+`},"model_info":{"general.architecture":"llama",`+
		`"general.parameter_count":1083264,"llama.context_length":4096,"llama.embedding_length":384},"tensors":[],`+
		`"capabilities":["tools","thinking","completion"],"modified_at":"2026-11-23T09:06:19.185733682Z"}`)
}
