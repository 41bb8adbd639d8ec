package fakellm

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// list answers GET /v1/models.
func (c *call) list(entry func(c *call, id string) string) reply {
	var entries []string
	for _, name := range c.s.names() {
		entries = append(entries, entry(c, name))
	}
	return c.json(`{"object":"list","data":[` + strings.Join(entries, ",") + `]}`)
}

// renderEmbeddings answers POST /v1/embeddings, one vector for each input.
func renderEmbeddings(c *call) reply {
	size := 8
	if c.ask.Dimensions > 0 && !c.kind.anyModel { // llama-server does not know the field
		size = min(c.ask.Dimensions, 4096)
	}
	b64 := c.ask.EncodingFormat == "base64"
	n := inputs(c.ask.Input)
	items := make([]string, n)
	for i := range items {
		items[i] = c.kind.embedding(vector(i, size, b64), itoa(i), b64)
	}
	counts := fmt.Sprintf(`{"prompt_tokens":%[1]d,"total_tokens":%[1]d}`, 7*n)
	list := `"object":"list","data":[` + strings.Join(items, ",") + `],"model":` + quote(c.ask.Model) + `,"usage":` + counts
	if c.kind.name == "vllm" {
		return c.json(fmt.Sprintf(`{"id":"embd-%032x","created":%s,%s}`, c.id, created, list))
	}
	return c.json(`{` + list + `}`)
}

func plainEmbedding(item, index string, _ bool) string {
	return `{"object":"embedding","embedding":` + item + `,"index":` + index + `}`
}

// vector is the i-th vector, always the same: an array, or base64 of little-endian float32.
func vector(i, size int, b64 bool) string {
	floats := make([]float32, size)
	for j := range floats {
		floats[j] = float32(math.Sin(float64(i*size+j+1))) / 4
	}
	if !b64 {
		b, _ := json.Marshal(floats) // all are finite
		return string(b)
	}
	raw := make([]byte, 0, 4*size)
	for _, f := range floats {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return `"` + base64.StdEncoding.EncodeToString(raw) + `"`
}

// inputs counts what an input asks for: a string or an array of tokens is one, an array of those is many.
func inputs(input json.RawMessage) int {
	var list []json.RawMessage
	if json.Unmarshal(input, &list) != nil || len(list) == 0 {
		return 1
	}
	if c := list[0][0]; c != '"' && c != '[' {
		return 1
	}
	return len(list)
}

// stringsOnly tells whether an input is text and not tokens.
func stringsOnly(input json.RawMessage) bool {
	var one string
	var many []string
	return json.Unmarshal(input, &one) == nil || json.Unmarshal(input, &many) == nil
}

// renderRerank answers POST /v1/rerank: the documents in their order, each less relevant than the one before.
func renderRerank(c *call) reply {
	results := make([]string, len(c.ask.Documents))
	for i, doc := range c.ask.Documents {
		text := ""
		if c.kind.name != "llamacpp" {
			if doc[0] == '"' {
				doc = []byte(`{"text":` + string(doc) + `}`)
			}
			text = `,"document":` + string(doc)
		}
		results[i] = fmt.Sprintf(`{"index":%d,"relevance_score":%g%s}`, i, 1/float64(i+1), text)
	}
	return c.json(`{"id":"rerank-` + itoa(int(c.id)) + `","object":"list","model":` + quote(c.ask.Model) +
		`,"usage":{"prompt_tokens":12,"total_tokens":12},"results":[` + strings.Join(results, ",") + `]}`)
}

// renderModeration answers POST /v1/moderations: nothing is wrong.
func renderModeration(c *call) reply {
	one := `{"flagged":false,"categories":{"violence":false},"category_scores":{"violence":0.01},"category_applied_input_types":{"violence":["text"]}}`
	results := strings.TrimSuffix(strings.Repeat(one+",", inputs(c.ask.Input)), ",")
	return c.json(fmt.Sprintf(`{"id":"modr-%d","model":%s,"results":[%s]}`, c.id, quote(c.ask.Model), results))
}
