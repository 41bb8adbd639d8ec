package openai

import (
	"net/http"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// An Error is an API error as OpenAI's SDKs expect it. They choose their exception by the status, and retry on their own after 408,
// 409, 429 and 5xx.
type Error struct {
	Status  int    // of HTTP
	Type    string // "invalid_request_error", "server_error", …
	Code    string // null if empty
	Param   string // null if empty
	Message string
	// Details are further members of the error, as raw JSON with a comma before each. They say more about the caller's own request.
	Details []byte
	// Original is the body as an upstream with the client's own API sent it. The client gets it unchanged: Claude Code matches its words.
	Original []byte
	// Header has additional response headers, such as Retry-After.
	Header http.Header
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// invalid returns the error of an invalid request.
func invalid(param, message string) *Error {
	return &Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Code: "invalid_request", Param: param, Message: message}
}

// AppendJSON appends {"error":{…}} with the four members that SDKs look for, and the details. In a stream, go-openai recognizes an error only if
// its data begins with {"error": and has no white space before that.
func (e *Error) AppendJSON(b []byte) []byte {
	return append(e.appendObject(b), '}')
}

// AppendTypedJSON appends the error as an event that has a type and a sequence number. The SDK for Python raises on "error", those for
// Node and Go on the flat members, so both are there.
func (e *Error) AppendTypedJSON(b []byte, sequence int64) []byte {
	b = append(e.appendObject(b), `,"type":"error","code":`...)
	b = appendStringOrNull(b, e.Code)
	b = append(b, `,"message":`...)
	b = jsonspan.AppendString(b, e.Message)
	b = append(b, `,"param":`...)
	b = appendStringOrNull(b, e.Param)
	b = append(b, `,"sequence_number":`...)
	b = strconv.AppendInt(b, sequence, 10)
	return append(b, '}')
}

func (e *Error) appendObject(b []byte) []byte {
	b = append(b, `{"error":{"message":`...)
	b = jsonspan.AppendString(b, e.Message)
	b = append(b, `,"type":`...)
	b = jsonspan.AppendString(b, e.Type)
	b = append(b, `,"param":`...)
	b = appendStringOrNull(b, e.Param)
	b = append(b, `,"code":`...)
	b = appendStringOrNull(b, e.Code)
	b = append(b, e.Details...)
	return append(b, '}')
}

func appendStringOrNull(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return jsonspan.AppendString(b, s)
}

// ParseError reads the error of any server: OpenAI's object with a code that is a string or a number, a bare string (Ollama), the
// flat object of old vLLM and Mistral, Gemini's array of one, FastAPI's "detail". The result has no status. It returns false if the
// body has none of these shapes.
func ParseError(body []byte) (e Error, ok bool) {
	_ = jsonspan.EachElement(body, func(element []byte) bool { // a body that is not an array is left as it is
		body = element
		return false
	})
	inner, hasMessage, err := e.read(body)
	if err != nil || inner == nil {
		return e, hasMessage
	}
	if message, ok := jsonspan.String(inner); ok {
		return Error{Message: message}, true
	}
	e = Error{}
	_, _, err = e.read(inner)
	return e, err == nil
}

// read reads the members of an error. Inner is the value of the member "error", or nil.
func (e *Error) read(object []byte) (inner []byte, hasMessage bool, err error) {
	var detail []byte
	status := ""
	err = jsonspan.EachMember(object, func(key, value []byte) bool {
		if jsonspan.IsNull(value) {
			return true
		}
		switch string(key) {
		case "error":
			inner = value
		case "message":
			e.Message, hasMessage = scalar(value), true
			if inner := member(value, "detail"); inner != nil && !isEmpty(inner) { // Mistral
				e.Message = detailText(inner)
			}
		case "type":
			if e.Type = scalar(value); e.Type == "error" {
				e.Type = "" // the type of an event
			}
		case "status":
			status, _ = jsonspan.String(value) // Gemini's type; Azure's is a number
		case "code":
			e.Code = scalar(value)
		case "param":
			e.Param = scalar(value)
		case "detail":
			detail = value
		}
		e.addDetail(key, value)
		return true
	})
	if err != nil {
		*e = Error{}
		return nil, false, err
	}
	if e.Type == "" {
		e.Type = status
	}
	if !hasMessage && detail != nil {
		e.Message, hasMessage = detailText(detail), true
	}
	return inner, hasMessage, nil
}

// detailText returns the text of FastAPI's detail: a string, or the first of a list of validation errors.
func detailText(value []byte) string {
	text := scalar(value)
	_ = jsonspan.EachElement(value, func(first []byte) bool { // a value that is not a list is left as it is
		if msg := member(first, "msg"); msg != nil {
			text = scalar(msg)
		}
		return false
	})
	return text
}

// scalar returns the text of a string, and any other value as it is.
func scalar(value []byte) string {
	if text, ok := jsonspan.String(value); ok {
		return text
	}
	return string(value)
}
