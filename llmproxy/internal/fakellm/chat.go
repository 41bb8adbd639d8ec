package fakellm

import "fmt"

// renderChat answers POST /v1/chat/completions.
func renderChat(c *call) reply {
	k, a := c.kind, &c.answer
	if !c.ask.Stream {
		return c.json(k.chat(c, a.text()))
	}
	role := k.role
	if role == "" && a.roleFirst {
		role = `{"role":"assistant","content":""}`
	}
	var opening [][]byte
	if role != "" {
		opening = append(opening, data(k.chunk(c, role, "null")))
	}
	tokens := make([][]byte, 0, len(a.tokens))
	for i, t := range a.tokens {
		delta := `{"content":` + quote(t) + `}`
		if i == 0 && role == "" {
			delta = `{"role":"assistant","content":` + quote(t) + `}`
		}
		tokens = append(tokens, data(k.chunk(c, delta, "null")))
	}
	finish, usage := k.end(c)
	return c.stream(opening, tokens, c.closing([]string{finish}, []string{usage}))
}

// renderCompletion answers POST /v1/completions.
func renderCompletion(c *call) reply {
	k, a := c.kind, &c.answer
	if !c.ask.Stream {
		return c.json(k.completion(c, a.text()))
	}
	tokens := make([][]byte, 0, len(a.tokens))
	for _, t := range a.tokens {
		tokens = append(tokens, data(k.piece(c, t, "null")))
	}
	return c.stream(nil, tokens, c.closing(k.pieceEnd(c)))
}

// closing is what comes behind the tokens: the finish, the usage where there is one, [DONE].
func (c *call) closing(finish, usage []string) [][]byte {
	var out [][]byte
	if c.answer.noFinish {
		finish = nil
	}
	for _, e := range append(finish, usage...) {
		if e != "" {
			out = append(out, data(e))
		}
	}
	if !c.answer.noDone {
		out = append(out, data("[DONE]"))
	}
	return out
}

// asksUsage tells whether a stream is to end with its usage.
func (c *call) asksUsage() bool { return c.ask.StreamOptions.IncludeUsage }

// counts is the usage in OpenAI's words for chat, without the closing brace.
func (u usage) counts() string {
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d`, u.input, u.output, u.input+u.output)
}
