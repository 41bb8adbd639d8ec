package fakellm

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
)

// renderTranscription answers POST /v1/audio/transcriptions and translations. The JSON also tells what came, so that tests can
// prove that the file arrived as it was: name, type, size and SHA-256 of the file, the fields in order.
func renderTranscription(c *call) reply {
	text := c.answer.text()
	if c.form == nil {
		return c.refuse(c.kind.problems[missingInput])
	}
	switch {
	case c.ask.Stream && c.kind.name == "vllm":
		return transcriptionChunks(c)
	case c.ask.Stream:
		return transcriptionEvents(c)
	case c.form.format == "text" || c.form.format == "srt" || c.form.format == "vtt":
		return reply{status: http.StatusOK, ctype: "text/plain; charset=utf-8", body: []byte(text + "\n")}
	}
	return c.json(fmt.Sprintf(`{"text":%s,"model":%s,"filename":%s,"content_type":%s,"size":%d,"sha256":"%s","fields":%s,`+
		`"usage":{"type":"duration","seconds":1}}`,
		quote(text), quote(c.ask.Model), quote(c.form.name), quote(c.form.ctype), c.form.size, c.form.sha256,
		quote(strings.Join(c.form.fields, " "))))
}

func transcriptionEvents(c *call) reply {
	var tokens, closing [][]byte
	for _, t := range c.answer.tokens {
		tokens = append(tokens, data(`{"type":"transcript.text.delta","delta":`+quote(t)+`}`))
	}
	if !c.answer.noFinish {
		u := c.answer.usage
		closing = append(closing, data(fmt.Sprintf(`{"type":"transcript.text.done","text":%s,"usage":{"type":"tokens","input_tokens":%d,`+
			`"input_token_details":{"text_tokens":0,"audio_tokens":%d},"output_tokens":%d,"total_tokens":%d}}`,
			quote(c.answer.text()), u.input, u.input, u.output, u.input+u.output)))
	}
	return c.stream(nil, tokens, closing)
}

// transcriptionChunks is vLLM's stream, which is not OpenAI's: chunks as of chat, and [DONE].
func transcriptionChunks(c *call) reply {
	chunk := func(delta, finish string) string {
		return fmt.Sprintf(`{"id":"trsc-%016x","object":"transcription.chunk","created":%s,"model":%s,"choices":[{"delta":{"content":%s}%s}]}`,
			c.id, created, quote(c.ask.Model), quote(delta), finish)
	}
	var tokens [][]byte
	for _, t := range c.answer.tokens {
		tokens = append(tokens, data(chunk(t, "")))
	}
	finish := chunk("", `,"finish_reason":`+quote(c.answer.finish)+`,"stop_reason":null`)
	return c.stream(nil, tokens, c.closing([]string{finish}, nil))
}

// renderSpeech answers POST /v1/audio/speech: a kilobyte for every token, flushed on its own, none of it text.
func renderSpeech(c *call) reply {
	u := c.answer.usage
	if c.ask.StreamFormat == "sse" {
		var tokens [][]byte
		for range c.answer.tokens {
			tokens = append(tokens, data(`{"type":"speech.audio.delta","audio":"SUQzBAAAAAAAI1RTU0U="}`))
		}
		return c.stream(nil, tokens, [][]byte{data(fmt.Sprintf(`{"type":"speech.audio.done","usage":{"input_tokens":%d,"output_tokens":%d,"total_tokens":%d}}`,
			u.input, u.output, u.input+u.output))})
	}
	tokens := make([][]byte, len(c.answer.tokens))
	for i := range tokens {
		tokens[i] = Speech(i)
	}
	return reply{status: http.StatusOK, ctype: "audio/mpeg", stream: true, tokens: tokens}
}

// Speech is the n-th piece of every speech answer.
func Speech(n int) []byte {
	b := make([]byte, 1024)
	for i := range b {
		b[i] = byte(i*7 + n)
	}
	return b
}

// renderImage answers POST /v1/images/generations and edits: base64 in one line, as long as the script says.
func renderImage(c *call) reply {
	name := "image_generation"
	if strings.HasSuffix(c.path, "/edits") {
		name = "image_edit"
	}
	b64 := string(bytes.Repeat([]byte("QUJD"), (c.answer.image+3)/4))
	u := c.answer.usage
	counts := fmt.Sprintf(`{"input_tokens":%d,"output_tokens":%d,"total_tokens":%d,"input_tokens_details":{"text_tokens":%d,"image_tokens":0}}`,
		u.input, u.output, u.input+u.output, u.input)
	if !c.ask.Stream {
		return c.json(`{"created":` + created + `,"data":[{"b64_json":"` + b64 + `"}],"usage":` + counts + `}`)
	}
	event := func(what, rest string) []byte {
		return []byte("event: " + name + "." + what + "\n" + `data: {"type":"` + name + "." + what + `","b64_json":"` + b64 + `","created_at":` + created +
			`,"size":"1024x1024","quality":"high","background":"opaque","output_format":"png"` + rest + "}\n\n")
	}
	return c.stream(nil, [][]byte{event("partial_image", `,"partial_image_index":0`)}, [][]byte{event("completed", `,"usage":`+counts)})
}
