package fakellm

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
)

// The endpoints of OpenAI's API. Every kind has some of them. Differences between kinds are in the kind.

const (
	chatPath       = "/v1/chat/completions"
	embeddingsPath = "/v1/embeddings"
)

// renderChat answers POST /v1/chat/completions.
func renderChat(x *exchange) reply {
	k, a := x.kind, &x.answer
	if !x.params.Stream {
		return x.json(k.chatBody(x, x.message()))
	}
	role := k.roleDelta
	if role == "" && a.roleFirst {
		role = `{"role":"assistant","content":""}`
	}
	var opening [][]byte
	if role != "" {
		opening = append(opening, data(k.chatChunk(x, role, "null")))
	}
	deltas := x.deltas()
	tokens := make([][]byte, 0, len(deltas))
	for i, delta := range deltas {
		if i == 0 && role == "" {
			delta = `"role":"assistant",` + delta
		}
		tokens = append(tokens, data(k.chatChunk(x, `{`+delta+`}`, "null")))
	}
	return x.stream(opening, tokens, x.closing(k.chatEnd(x)))
}

// message returns what a message of a whole answer has: its content, and its reasoning and tool calls if there are any.
func (x *exchange) message() string {
	a := &x.answer
	content := quote(a.text())
	if len(a.tokens) == 0 && len(a.calls) > 0 {
		content = "null"
	}
	message := `"content":` + content
	if len(a.thinking) > 0 {
		message += `,` + quote(cmp.Or(x.kind.reasoning, "reasoning_content")) + `:` + quote(strings.Join(a.thinking, ""))
	}
	if len(a.calls) > 0 {
		calls := make([]string, len(a.calls))
		for i, c := range a.calls {
			calls[i] = fmt.Sprintf(`{"id":%s,"type":"function","function":{"name":%s,"arguments":%s}}`, quote(x.callID("call", i)), quote(c.name), quote(c.arguments))
		}
		message += `,"tool_calls":[` + strings.Join(calls, ",") + `]`
	}
	return message
}

// deltas returns the message in the parts that a stream has, each without its braces.
func (x *exchange) deltas() (deltas []string) {
	a := &x.answer
	for _, t := range a.thinking {
		deltas = append(deltas, quote(cmp.Or(x.kind.reasoning, "reasoning_content"))+`:`+quote(t))
	}
	for _, t := range a.tokens {
		deltas = append(deltas, `"content":`+quote(t))
	}
	for i, c := range a.calls {
		deltas = append(deltas, fmt.Sprintf(`"tool_calls":[{"index":%d,"id":%s,"type":"function","function":{"name":%s,"arguments":""}}]`, i, quote(x.callID("call", i)), quote(c.name)))
		for _, piece := range c.pieces() {
			deltas = append(deltas, fmt.Sprintf(`"tool_calls":[{"index":%d,"function":{"arguments":%s}}]`, i, quote(piece)))
		}
	}
	return deltas
}

// callID returns the ID of the answer's i-th tool call.
func (x *exchange) callID(prefix string, i int) string {
	return fmt.Sprintf("%s_%d_%d", prefix, x.id, i)
}

// renderCompletion answers POST /v1/completions.
func renderCompletion(x *exchange) reply {
	k, a := x.kind, &x.answer
	if !x.params.Stream {
		return x.json(k.textBody(x, a.text()))
	}
	tokens := make([][]byte, 0, len(a.tokens))
	for _, t := range a.tokens {
		tokens = append(tokens, data(k.textChunk(x, t, "null")))
	}
	return x.stream(nil, tokens, x.closing(k.textEnd(x)))
}

// closing returns the events after the tokens: the finish, the usage if there is one, [DONE].
func (x *exchange) closing(finish, usage []string) [][]byte {
	if x.answer.noFinish {
		finish = nil
	}
	var out [][]byte
	for _, e := range append(finish, usage...) {
		out = append(out, data(e))
	}
	if !x.answer.noDone {
		out = append(out, data("[DONE]"))
	}
	return out
}

// isCompletion reports whether the endpoint streams chunks; the others stream events that have a type.
func (x *exchange) isCompletion() bool { return x.path == chatPath || x.path == "/v1/completions" }

// counts is the usage of chat and completions, without the closing brace.
func (u usage) counts() string {
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d`, u.input, u.output, u.input+u.output)
}

// renderEmbeddings answers POST /v1/embeddings with one vector for each input.
func renderEmbeddings(x *exchange) reply { return x.json(`{` + x.embeddings() + `}`) }

func (x *exchange) embeddings() string {
	size := 8
	if x.params.Dimensions > 0 && !x.kind.fixedDimensions {
		size = min(x.params.Dimensions, 4096)
	}
	b64 := x.params.EncodingFormat == "base64"
	items := make([]string, inputs(x.params.Input))
	for i := range items {
		item := vector(i, size, b64)
		if x.kind.embedding != nil {
			items[i] = x.kind.embedding(item, i, b64)
		} else {
			items[i] = fmt.Sprintf(`{"object":"embedding","embedding":%s,"index":%d}`, item, i)
		}
	}
	return fmt.Sprintf(`"object":"list","data":[%s],"model":%s,"usage":{"prompt_tokens":%[3]d,"total_tokens":%[3]d}`,
		strings.Join(items, ","), quote(x.params.Model), 7*len(items))
}

// vector returns the i-th vector, always the same: an array, or base64 of little-endian float32.
func vector(i, size int, b64 bool) string {
	floats := make([]float32, size)
	for j := range floats {
		floats[j] = float32(math.Sin(float64(i*size+j+1))) / 4
	}
	if !b64 {
		b, _ := json.Marshal(floats) // cannot fail: all are finite
		return string(b)
	}
	raw := make([]byte, 0, 4*size)
	for _, f := range floats {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return `"` + base64.StdEncoding.EncodeToString(raw) + `"`
}

// inputs returns how many inputs a request has: a string or an array of tokens is one, an array of those is several.
func inputs(input json.RawMessage) int {
	var list []json.RawMessage
	if json.Unmarshal(input, &list) != nil || len(list) == 0 || list[0][0] != '"' && list[0][0] != '[' {
		return 1
	}
	return len(list)
}

// renderRerank answers POST /v1/rerank: the documents in their order, each less relevant than the one before.
func renderRerank(withDocuments bool) func(*exchange) reply {
	return func(x *exchange) reply {
		results := make([]string, len(x.params.Documents))
		for i, doc := range x.params.Documents {
			document := ""
			if withDocuments {
				if doc[0] == '"' {
					doc = []byte(`{"text":` + string(doc) + `}`)
				}
				document = `,"document":` + string(doc)
			}
			results[i] = fmt.Sprintf(`{"index":%d,"relevance_score":%g%s}`, i, 1/float64(i+1), document)
		}
		return x.json(fmt.Sprintf(`{"id":"rerank-%d","object":"list","model":%s,"usage":{"prompt_tokens":12,"total_tokens":12},"results":[%s]}`,
			x.id, quote(x.params.Model), strings.Join(results, ",")))
	}
}

// renderModeration answers POST /v1/moderations: every input is harmless.
func renderModeration(x *exchange) reply {
	const harmless = `{"flagged":false,"categories":{"violence":false},"category_scores":{"violence":0.01},"category_applied_input_types":{"violence":["text"]}}`
	results := harmless + strings.Repeat(","+harmless, inputs(x.params.Input)-1)
	return x.json(fmt.Sprintf(`{"id":"modr-%d","model":%s,"results":[%s]}`, x.id, quote(x.params.Model), results))
}

// renderTranscription answers POST /v1/audio/transcriptions and /v1/audio/translations.
func renderTranscription(x *exchange) reply {
	switch x.params.ResponseFormat {
	case "text", "srt", "vtt":
		return reply{status: http.StatusOK, contentType: "text/plain; charset=utf-8", body: []byte(x.answer.text() + "\n")}
	}
	return x.json(`{"text":` + quote(x.answer.text()) + `,"usage":{"type":"duration","seconds":1}}`)
}
