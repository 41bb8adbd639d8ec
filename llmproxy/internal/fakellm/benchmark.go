package fakellm

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Load is what a Benchmark server answers to chat completions, whatever is asked.
type Load struct {
	Bytes    int           // size of an answer that is not a stream; less than the smallest possible is that
	Tokens   int           // events with content of a stream
	Interval time.Duration // between two of them; 0: as fast as they can be written
	Batch    int           // events between two flushes; 0 and 1: every event is flushed
}

// canned are the rendered answers.
type canned struct {
	load    Load
	header  http.Header // shared by all answers, never changed
	body    []byte
	streams [2]reply // without and with usage
	inputs  sync.Pool
}

func (n *canned) render(s *Server) {
	c := &call{s: s, kind: s.kind, path: chatPath, id: 1, ask: ask{Model: s.names()[0]}}
	c.answer = Text("").normal()
	empty := len(renderChat(c).body)
	c.answer.tokens[0] = strings.Repeat("x", max(0, n.load.Bytes-empty))
	n.body = renderChat(c).body
	n.header = http.Header{"Content-Type": {s.kind.json}, "Content-Length": {itoa(len(n.body))}}

	c.answer = Answer{tokens: make([]string, n.load.Tokens)}.normal()
	for i := range c.answer.tokens {
		c.answer.tokens[i] = " word"
	}
	c.ask.Stream = true
	n.streams[0] = renderChat(c)
	c.ask.StreamOptions.IncludeUsage = true
	n.streams[1] = renderChat(c)
	n.inputs.New = func() any { return new(bytes.Buffer) }
}

func (n *canned) serve(w http.ResponseWriter, r *http.Request) {
	in := n.inputs.Get().(*bytes.Buffer)
	in.Reset()
	_, err := in.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	stream, usage := says(in.Bytes(), `"stream":`), says(in.Bytes(), `"include_usage":`)
	n.inputs.Put(in)
	switch {
	case err != nil:
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	case !stream:
		h := w.Header()
		h["Content-Type"], h["Content-Length"] = n.header["Content-Type"], n.header["Content-Length"]
		_, _ = w.Write(n.body) // nobody is there to be told
	default:
		rep := &n.streams[0]
		if usage {
			rep = &n.streams[1]
		}
		w.Header().Set("Content-Type", rep.ctype)
		pace := &pacer{w: w, flush: w.(http.Flusher).Flush, ctx: r.Context(), batch: n.load.Batch}
		pace.send(rep, n.load.Interval)
	}
}

// says tells whether a key is true, without parsing the body.
func says(body []byte, key string) bool {
	i := bytes.Index(body, []byte(key))
	return i >= 0 && bytes.HasPrefix(bytes.TrimLeft(body[i+len(key):], " "), []byte("true"))
}

// pacer writes a stream's events on time.
type pacer struct {
	w       http.ResponseWriter
	flush   func()
	ctx     context.Context
	batch   int
	pending int
}

func (p *pacer) send(rep *reply, interval time.Duration) {
	for _, event := range rep.opening {
		p.write(event)
	}
	var timer *time.Timer
	begin := time.Now()
	for i, event := range rep.tokens {
		if i > 0 && interval > 0 {
			wait := time.Until(begin.Add(time.Duration(i) * interval))
			if timer == nil {
				timer = time.NewTimer(wait)
				defer timer.Stop()
			} else {
				timer.Reset(wait)
			}
			select {
			case <-timer.C:
			case <-p.ctx.Done():
				panic(http.ErrAbortHandler) // or net/http would end the body as if that was all
			}
		}
		if p.write(event) != nil {
			return
		}
	}
	for _, event := range rep.closing {
		p.write(event)
	}
}

func (p *pacer) write(event []byte) error {
	_, err := p.w.Write(event)
	if p.pending++; p.pending >= p.batch {
		p.flush()
		p.pending = 0
	}
	return err
}
