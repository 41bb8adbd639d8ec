package fakellm

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Load describes how a Benchmark server answers chat completions and embeddings, whatever the request.
type Load struct {
	Bytes      int           // size of an answer that is not a stream; at least the envelope's
	Tokens     int           // content events of a stream
	TokenBytes int           // text of a content event; 0 means a short word
	First      time.Duration // before the first content event of a stream
	Interval   time.Duration // between two content events; 0 means as fast as possible
	Batch      int           // events per flush; 0 and 1 mean that every event is flushed
	Embeddings int           // vectors of an answer to an embeddings request; lists of numbers, also if base64 was asked for
	Dimensions int           // of each vector, at most 4096
}

// canned is a set of rendered answers.
type canned struct {
	load       Load
	completion whole
	embeddings whole
	streams    [2]reply // without and with usage
	inputs     sync.Pool
}

// whole is an answer that is not a stream.
type whole struct {
	header http.Header // shared by all answers, never modified
	body   []byte
}

func newWhole(contentType string, body []byte) whole {
	return whole{header: http.Header{"Content-Type": {contentType}, "Content-Length": {strconv.Itoa(len(body))}}, body: body}
}

func (a *whole) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	_, _ = w.Write(a.body) // fails only if the client left
}

func (n *canned) render(s *Server) {
	x := &exchange{server: s, kind: s.kind, path: chatPath, id: 1, params: params{Model: s.names()[0]}}
	x.answer = Text("").withDefaults()
	render := renderChat
	if s.kind.chatBody == nil {
		render = renderMessage
	}
	empty := len(render(x).body)
	x.answer.tokens[0] = strings.Repeat("x", max(0, n.load.Bytes-empty))
	n.completion = newWhole(s.kind.jsonType, render(x).body)
	x.params.Input = json.RawMessage("[" + strings.Repeat(`"",`, max(1, n.load.Embeddings)-1) + `""]`)
	x.params.Dimensions = n.load.Dimensions
	n.embeddings = newWhole(s.kind.jsonType, renderEmbeddings(x).body)

	// The words alternate, because LiteLLM ends a stream that repeats the same chunk.
	tokens := slices.Repeat([]string{" word", " next"}, (n.load.Tokens+1)/2)[:n.load.Tokens]
	if n.load.TokenBytes > 0 {
		tokens = slices.Repeat([]string{strings.Repeat("x", n.load.TokenBytes)}, n.load.Tokens)
	}
	x.answer = Text(tokens...).withDefaults()
	x.params.Stream = true
	n.streams[0] = render(x)
	x.params.StreamOptions.IncludeUsage = true
	n.streams[1] = render(x)
	n.inputs.New = func() any { return new(bytes.Buffer) }
}

// answers reports whether the answers at this path are rendered in advance.
func (n *canned) answers(path string) bool {
	return path == chatPath || path == messagesPath || path == embeddingsPath
}

func (n *canned) serve(w http.ResponseWriter, r *http.Request, path string) {
	in := n.inputs.Get().(*bytes.Buffer)
	in.Reset()
	_, err := in.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	stream, usage := isTrue(in.Bytes(), `"stream":`), isTrue(in.Bytes(), `"include_usage":`)
	n.inputs.Put(in)
	switch {
	case err != nil:
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	case path == embeddingsPath:
		n.embeddings.send(w)
	case !stream:
		n.completion.send(w)
	default:
		rep := &n.streams[0]
		if usage {
			rep = &n.streams[1]
		}
		w.Header().Set("Content-Type", rep.contentType)
		pace := &pacer{w: w, flush: w.(http.Flusher).Flush, ctx: r.Context(), batch: n.load.Batch}
		pace.send(rep, n.load.First, n.load.Interval)
	}
}

// isTrue reports whether a key is true, without parsing the body.
func isTrue(body []byte, key string) bool {
	i := bytes.Index(body, []byte(key))
	return i >= 0 && bytes.HasPrefix(bytes.TrimLeft(body[i+len(key):], " "), []byte("true"))
}

// pacer writes the events of a stream on schedule, with fewer allocations than a sender.
type pacer struct {
	w       http.ResponseWriter
	flush   func()
	ctx     context.Context
	batch   int
	pending int
}

func (p *pacer) send(rep *reply, first, interval time.Duration) {
	for _, event := range rep.opening {
		p.write(event)
	}
	var timer *time.Timer
	begin := time.Now()
	for i, event := range rep.tokens {
		if due := first + time.Duration(i)*interval; due > 0 {
			wait := time.Until(begin.Add(due))
			if timer == nil {
				timer = time.NewTimer(wait)
				defer timer.Stop()
			} else {
				timer.Reset(wait)
			}
			select {
			case <-timer.C:
			case <-p.ctx.Done():
				panic(http.ErrAbortHandler) // otherwise net/http would end the body as if it were complete
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
