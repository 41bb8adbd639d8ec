package fakellm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Ollama's own API. Its streams are lines of JSON, and requests without an input only load the model.

const ollamaTime = "2026-11-23T09:06:50.123456789Z" // as created

// isOllamaAPI reports whether a path belongs to Ollama's own API.
func isOllamaAPI(path string) bool { return strings.HasPrefix(path, "/api/") }

// ollamaIdle reports whether a request only loads or unloads a model.
func ollamaIdle(path string, body []byte) bool {
	var p struct {
		Messages []json.RawMessage
		Prompt   string
		Input    json.RawMessage
	}
	if json.Unmarshal(body, &p) != nil {
		return false
	}
	switch path {
	case "/api/chat":
		return len(p.Messages) == 0
	case "/api/generate":
		return p.Prompt == ""
	case "/api/embed":
		return string(p.Input) == `""`
	}
	return false
}

// ollamaLoad answers a request that only loads or unloads a model.
func ollamaLoad(x *exchange) reply {
	var p struct {
		Model     string
		KeepAlive json.RawMessage `json:"keep_alive"`
	}
	_ = json.Unmarshal(x.body, &p) // it is JSON
	if x.params.Model = p.Model; len(x.server.models) > 0 && !x.server.hasModel(p.Model) {
		return x.refuse(unknownModel)
	}
	reason := "load"
	if string(p.KeepAlive) == "0" {
		reason = "unload"
	}
	if x.path == "/api/embed" {
		return ollamaNative(http.StatusOK, `{"model":`+quote(p.Model)+`,"embeddings":[]}`)
	}
	return ollamaNative(http.StatusOK, fmt.Sprintf(`{"model":%s,"created_at":%q,%s,"done":true,"done_reason":%q}`, quote(p.Model), ollamaTime, ollamaSays(x, ""), reason))
}

// ollamaSays is the part of a line in which the model says something.
func ollamaSays(x *exchange, text string) string {
	if x.path == "/api/generate" {
		return `"response":` + quote(text)
	}
	return `"message":{"role":"assistant","content":` + quote(text) + `}`
}

// renderOllama answers POST /api/chat and /api/generate.
func renderOllama(x *exchange) reply {
	a := &x.answer
	line := func(text, done string) []byte {
		return fmt.Appendf(nil, "{\"model\":%s,\"created_at\":%q,%s,\"done\":%s}\n", quote(x.params.Model), ollamaTime, ollamaSays(x, text), done)
	}
	context := ""
	if x.path == "/api/generate" {
		context = `"context":[1,2,3],`
	}
	done := fmt.Sprintf(`true,"done_reason":%s,%s"total_duration":69681066,"load_duration":950922,"prompt_eval_count":%d,"prompt_eval_duration":57475000,"eval_count":%d,"eval_duration":2765000`,
		quote(a.finish), context, a.usage.input, a.usage.output)
	if !x.params.Stream {
		return ollamaNative(http.StatusOK, string(bytes.TrimSuffix(line(a.text(), done), []byte("\n"))))
	}
	rep := reply{status: http.StatusOK, contentType: "application/x-ndjson", stream: true, failure: x.kind.streamError(x)}
	if a.roleFirst {
		rep.opening = [][]byte{line("", "false")}
	}
	for _, t := range a.tokens {
		rep.tokens = append(rep.tokens, line(t, "false"))
	}
	if !a.noFinish && !a.noDone {
		rep.closing = [][]byte{line("", done)}
	}
	return rep
}

// renderOllamaEmbed answers POST /api/embed, and the older /api/embeddings.
func renderOllamaEmbed(x *exchange) reply {
	size := 8
	if x.params.Dimensions > 0 {
		size = min(x.params.Dimensions, 4096)
	}
	if x.path == "/api/embeddings" {
		return ollamaNative(http.StatusOK, `{"embedding":`+vector(0, size, false)+`}`)
	}
	vectors := make([]string, inputs(x.params.Input))
	for i := range vectors {
		vectors[i] = vector(i, size, false)
	}
	return ollamaNative(http.StatusOK, fmt.Sprintf(`{"model":%s,"embeddings":[%s],"total_duration":15044576,"load_duration":3477982,"prompt_eval_count":%d}`,
		quote(x.params.Model), strings.Join(vectors, ","), 7*len(vectors)))
}

// ollamaBroken is the answer of a server that sends something other than JSON.
func ollamaBroken() reply {
	return reply{status: http.StatusOK, contentType: "application/x-ndjson", stream: true, tokens: [][]byte{[]byte(`{"model":"tiny","message":{"role":"assistant","content":"Hel` + "\n")}}
}
