package openai

import "github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"

// An Outcome is how an answer ended: whether it is worth giving again.
type Outcome struct {
	Finished int  // choices that came to a proper end
	Length   bool // one of them was cut at the number of tokens that was asked for
	Unfit    bool // one ended otherwise: filtered, failed, or in a way that nobody here knows
}

// Complete reports whether that many choices came to an end that another client may see.
func (o *Outcome) Complete(choices int, length bool) bool {
	return !o.Unfit && (length || !o.Length) && o.Finished > 0 && o.Finished >= choices
}

func (o *Outcome) reason(value []byte) {
	if jsonspan.IsNull(value) {
		return
	}
	o.Finished++
	reason, _ := jsonspan.String(value)
	switch reason {
	case "stop", "tool_calls", "function_call", "eos", "eos_token", "end_turn", "tool_use", "stop_sequence", "completed":
	case "length", "max_tokens", "max_output_tokens":
		o.Length = true
	default:
		o.Unfit = true
	}
}

// NoteEvent takes note of an event of a stream.
func (o *Outcome) NoteEvent(f Framing, name, data []byte) {
	if f == Typed {
		if response, ok := CompletedResponse(name, data); ok {
			o.NoteWhole(response)
		}
		return
	}
	if news, _ := skim(data, nil); news {
		o.note(data)
	}
}

// NoteWhole takes note of a whole answer. None of its choices may be unfinished.
func (o *Outcome) NoteWhole(body []byte) {
	if before := o.Finished; o.note(body) > o.Finished-before {
		o.Unfit = true
	}
}

// note takes note of a whole answer, or of a chunk of one, and tells how many choices are in it.
func (o *Outcome) note(body []byte) (choices int) {
	_ = jsonspan.EachMember(body, func(key, value []byte) bool { // what is no object has no choices
		switch string(key) {
		case "choices":
			_ = jsonspan.EachElement(value, func(choice []byte) bool {
				choices++
				_ = jsonspan.EachMember(choice, func(key, value []byte) bool {
					if string(key) == "finish_reason" {
						o.reason(value)
					}
					return true
				})
				return true
			})
		case "status":
			o.status(value)
		case "incomplete_details":
			_ = jsonspan.EachMember(value, func(key, value []byte) bool {
				if string(key) == "reason" {
					o.reason(value)
				}
				return true
			})
		case "data", "results":
			if !empty(value) && !jsonspan.IsNull(value) {
				o.Finished++
			}
		case "error":
			o.Unfit = o.Unfit || !jsonspan.IsNull(value)
		}
		return true
	})
	return choices
}

// status reads that of a response. What is incomplete says why elsewhere.
func (o *Outcome) status(value []byte) {
	if string(value) != `"incomplete"` {
		o.reason(value)
	}
}

// CompletedResponse gives the response that the last event of the Responses API carries whole.
func CompletedResponse(name, data []byte) (response []byte, ok bool) {
	kind, failure := kindOf(name, data)
	if failure != nil || string(kind) != "response.completed" && string(kind) != "response.incomplete" {
		return nil, false
	}
	_ = jsonspan.EachMember(data, func(key, value []byte) bool { // without it nothing is complete
		if string(key) == "response" {
			response, ok = value, true
		}
		return !ok
	})
	return response, ok
}
