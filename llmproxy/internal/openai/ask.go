package openai

import "github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"

// AskUsage sees to it that the stream counts its tokens: stream_options.include_usage becomes true.
func AskUsage(e *jsonspan.Edit, h *Head) {
	if h.IncludeUsage {
		return
	}
	const key = "stream_options"
	if value, ok := e.Get(key); ok {
		var options jsonspan.Object
		if options.Scan(value) == nil {
			var inner jsonspan.Edit
			inner.Reset(&options)
			inner.Set(includeUsage, []byte("true"))
			e.Set(key, inner.Body().Bytes())
			return
		}
	}
	e.Set(key, []byte(`{"include_usage":true}`))
}
