package upstream

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A repair makes the data of an event, or a whole answer, what OpenAI would have sent. It may remember what came before.
type repair func(data []byte) []byte

// repairAnswer repairs a chat answer while it is read.
func repairAnswer(account *memory.Account, res *http.Response, r repair) error {
	start := startOf(res.Body)
	if !startsJSON(start) {
		translateStream(res, start, func(b []byte, e *sse.Event) []byte {
			if e.HasData {
				if data := r(e.Data); !bytes.Equal(data, e.Data) {
					return sse.AppendData(b, data)
				}
			}
			return append(b, e.Raw...)
		}, nil)
		return nil
	}
	return translateWhole(account, res, start, func(m *wholeMemory) ([]byte, error) { return r(m.in.Bytes()), nil })
}

// eachChoice visits the choices of a chunk or an answer.
func eachChoice(data []byte, visit func(choice []byte)) {
	_ = jsonspan.EachMember(data, func(key, value []byte) bool { // the relay reports what is no chunk
		if string(key) == "choices" {
			_ = jsonspan.EachElement(value, func(choice []byte) bool { // it may be null
				visit(choice)
				return true
			})
		}
		return true
	})
}

// repairReasons returns a repair that replaces "eos" by the finish reason that it stands for.
func repairReasons() repair {
	return func(data []byte) []byte {
		p := patch{src: data}
		eachChoice(data, func(choice []byte) {
			_ = jsonspan.EachMember(choice, func(key, value []byte) bool { // the relay reports what is no choice
				if string(key) == "finish_reason" && jsonspan.EqualString(value, "eos") {
					p.replace(value, `"stop"`)
				}
				return true
			})
		})
		return p.bytes()
	}
}

// repairToolCalls returns a repair that numbers the tool calls of a stream, where each comes whole, and says that an answer with tool
// calls ends because of them. Clients join the parts of a call by its index.
func repairToolCalls() repair {
	calls := map[string]int{} // of each choice so far, by its index
	return func(data []byte) []byte {
		p := patch{src: data}
		eachChoice(data, func(choice []byte) {
			index, called := "0", 0
			_ = jsonspan.EachMember(choice, func(key, value []byte) bool { // the relay reports what is no choice
				switch string(key) {
				case "index":
					index = string(value)
				case "delta", "message":
					eachCall(value, func([]byte) { called++ })
				}
				return true
			})
			_ = jsonspan.EachMember(choice, func(key, value []byte) bool {
				switch {
				case string(key) == "delta":
					numberCalls(&p, value, calls[index])
				case string(key) == "finish_reason" && calls[index]+called > 0 && jsonspan.EqualString(value, "stop"):
					p.replace(value, `"tool_calls"`)
				}
				return true
			})
			calls[index] += called
		})
		return p.bytes()
	}
}

// numberCalls gives the tool calls of a delta, before which there were some, their indexes, unless they have them.
func numberCalls(p *patch, delta []byte, before int) {
	eachCall(delta, func(call []byte) {
		numbered := false
		_ = jsonspan.EachMember(call, func(key, _ []byte) bool { // the relay reports what is no call
			numbered = numbered || string(key) == "index"
			return true
		})
		if !numbered && len(call) > 2 {
			p.replace(call[:1], `{"index":`+strconv.Itoa(before)+`,`)
		}
		before++
	})
}

// repairParts returns a repair of a content of parts, which Mistral sends if the model thinks. OpenAI's clients expect a text.
func repairParts() repair {
	return func(data []byte) []byte {
		p := patch{src: data}
		eachChoice(data, func(choice []byte) {
			_ = jsonspan.EachMember(choice, func(key, value []byte) bool { // the relay reports what is no choice
				if name := string(key); name != "delta" && name != "message" {
					return true
				}
				_ = jsonspan.EachMember(value, func(key, content []byte) bool { // it may be null
					if string(key) == "content" && content[0] == '[' {
						p.replace(content, joinParts(content))
					}
					return true
				})
				return true
			})
		})
		return p.bytes()
	}
}

// joinParts returns the texts of a content as one JSON string and, if the model has thought, the member with that.
func joinParts(content []byte) string {
	var text, thoughts string
	_ = jsonspan.EachElement(content, func(part []byte) bool { // the relay reports what is no list
		said, _ := jsonspan.String(jsonspan.MemberOf(part, "text"))
		text += said
		thinking := jsonspan.MemberOf(part, "thinking")
		thought, _ := jsonspan.String(thinking)
		thoughts += thought
		_ = jsonspan.EachElement(thinking, func(part []byte) bool { // it may be a text, or nothing
			thought, _ := jsonspan.String(jsonspan.MemberOf(part, "text"))
			thoughts += thought
			return true
		})
		return true
	})
	joined := jsonspan.AppendString(nil, text)
	if thoughts != "" {
		joined = jsonspan.AppendString(append(joined, `,"reasoning_content":`...), thoughts)
	}
	return string(joined)
}

func eachCall(delta []byte, visit func(call []byte)) {
	_ = jsonspan.EachMember(delta, func(key, value []byte) bool { // it may be null
		if string(key) == "tool_calls" {
			_ = jsonspan.EachElement(value, func(call []byte) bool { // it may be null
				visit(call)
				return true
			})
		}
		return true
	})
}

// A patch replaces parts of a text from left to right. All other bytes stay as they are.
type patch struct {
	src, out []byte
	from     int // what precedes it in src is in out
}

// replace replaces a part of the text, which shares its memory.
func (p *patch) replace(part []byte, with string) {
	at := cap(p.src) - cap(part)
	p.out = append(append(p.out, p.src[p.from:at]...), with...)
	p.from = at + len(part)
}

func (p *patch) bytes() []byte {
	if p.out == nil {
		return p.src
	}
	return append(p.out, p.src[p.from:]...)
}
