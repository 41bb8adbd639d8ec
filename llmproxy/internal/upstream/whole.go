package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

const (
	// freeAnswer is how many bytes of an answer are read without a reservation.
	freeAnswer = 16 << 10
	// maxTranslated bounds a whole answer that is translated, in bytes. The largest ones have embeddings.
	maxTranslated = 4 * sse.MaxEvent
)

// translateWhole replaces an answer, whose body is what is left of the given one, by its translation. The memory that both take is
// reserved until the answer is closed. What is not JSON stays as it is, so that the relay reports it.
//
// Translate may append to m.out, or return other memory, or the answer itself.
func translateWhole(account *memory.Account, res *http.Response, body *bufio.Reader, translate func(m *wholeMemory) ([]byte, error)) error {
	w := &translatedWhole{account: account, memory: wholes.Get().(*wholeMemory)}
	w.memory.reset()
	if n := res.ContentLength; n > 0 {
		w.memory.in.Grow(int(min(n, freeAnswer)) + bytes.MinRead)
	}
	err := w.read(body)
	res.Body.Close()
	body.Reset(nil)
	starts.Put(body)
	answer := w.memory.in.Bytes()
	translated := answer
	if err == nil && jsonspan.Walk(answer, func(_, _ []byte) {}, func([]byte) {}) == nil {
		if translated, err = translate(w.memory); !overlap(translated, answer) {
			w.memory.out, w.checked = translated, err == nil && len(translated) > 0 && translated[0] == '{'
		}
	}
	if err != nil {
		w.Close()
		return err
	}
	w.Reset(translated)
	res.Body, res.ContentLength = w, int64(len(translated))
	delete(res.Header, "Content-Length")
	return nil
}

// A wholeMemory is the memory of an answer that is translated, and of what it becomes.
type wholeMemory struct {
	in   bytes.Buffer
	out  []byte
	said openai.Answer // what the answer says besides its content, if read
	read bool
}

func (m *wholeMemory) reset() {
	m.in.Reset()
	m.out, m.said, m.read = m.out[:0], openai.Answer{}, false
}

// wholes pools the memory of translated answers, except for large ones.
var wholes = sync.Pool{New: func() any { return new(wholeMemory) }}

// overlap reports whether two slices end in the same memory.
func overlap(a, b []byte) bool {
	return cap(a) > 0 && cap(b) > 0 && &a[:cap(a)][cap(a)-1] == &b[:cap(b)][cap(b)-1]
}

// A translatedWhole is the body of a translated answer.
type translatedWhole struct {
	bytes.Reader
	limited  io.LimitedReader
	account  *memory.Account
	reserved int64
	memory   *wholeMemory
	checked  bool
	release  sync.Once
}

// Checked reports whether the body is known to be a JSON object: a translation of a JSON text is one.
func (w *translatedWhole) Checked() bool { return w.checked }

// Said returns what the answer says besides its content, or nil if the translation has not read that.
func (w *translatedWhole) Said() *openai.Answer {
	if !w.checked || !w.memory.read {
		return nil
	}
	return &w.memory.said
}

// read reads the answer, and reserves twice its size, because the translation takes about as much.
func (w *translatedWhole) read(body io.Reader) error {
	for limit := int64(freeAnswer); limit <= maxTranslated; limit *= 4 {
		if more := 2*limit - w.reserved; limit > freeAnswer {
			if !w.account.Reserve(more) {
				return memory.ErrUsedUp
			}
			w.reserved += more
		}
		w.limited = io.LimitedReader{R: body, N: limit - int64(w.memory.in.Len())}
		if _, err := w.memory.in.ReadFrom(&w.limited); err != nil || w.limited.N > 0 {
			return err
		}
	}
	return sse.ErrTooLong
}

// Close implements io.Closer.
func (w *translatedWhole) Close() error {
	w.release.Do(func() {
		w.account.Release(w.reserved)
		if w.Reset(nil); w.memory.in.Cap() <= freeAnswer && cap(w.memory.out) <= freeAnswer {
			wholes.Put(w.memory)
		}
		w.memory = nil
	})
	return nil
}

// starts pools readers for startOf.
var starts = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 16) }}

// startOf returns a reader that lets its caller look at the first byte. Its buffer is small, because larger reads pass it by.
func startOf(body io.Reader) *bufio.Reader {
	start := starts.Get().(*bufio.Reader)
	start.Reset(body)
	return start
}

// startsJSON reports whether an answer begins as JSON does, after white space, which is dropped. Services that imitate the API label their
// answers in many ways.
func startsJSON(answer *bufio.Reader) bool {
	for {
		c, err := answer.ReadByte()
		switch {
		case err != nil:
			return false // the next read fails as well
		case c == ' ', c == '\t', c == '\r', c == '\n':
			continue
		}
		_ = answer.UnreadByte() // cannot fail after a read
		return c == '{' || c == '['
	}
}
