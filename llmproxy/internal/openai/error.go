package openai

import (
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// An Error is an API error as OpenAI's SDKs expect it. They choose their exception by the status, and repeat requests on their own
// after 408, 409, 429 and 500 or more.
type Error struct {
	Status  int    // of HTTP
	Type    string // "invalid_request_error", "server_error", …
	Code    string // null where empty
	Param   string // null where empty
	Message string
	// Header holds further response headers that belong to the error, such as Retry-After; nil for none.
	Header http.Header
}

// Error gives the message.
func (e *Error) Error() string { return e.Message }

// invalid is the error of a request that is wrong in itself.
func invalid(param, message string) *Error {
	return &Error{Status: http.StatusBadRequest, Type: "invalid_request_error", Code: "invalid_request", Param: param, Message: message}
}

// AppendJSON appends {"error":{…}} with the four members that SDKs look for. In a stream, go-openai recognizes an error only if
// its data begins with {"error": and has no white space before that.
func (e *Error) AppendJSON(b []byte) []byte {
	return append(e.appendObject(b), '}')
}

// AppendTypedJSON appends the error as an event of the Responses API. The SDK for Python raises on "error", those for Node and Go
// on the flat members, so both are there.
func (e *Error) AppendTypedJSON(b []byte) []byte {
	b = append(e.appendObject(b), `,"type":"error","code":`...)
	b = appendOrNull(b, e.Code)
	b = append(b, `,"message":`...)
	b = jsonspan.AppendString(b, e.Message)
	b = append(b, `,"param":`...)
	b = appendOrNull(b, e.Param)
	return append(b, `,"sequence_number":0}`...)
}

func (e *Error) appendObject(b []byte) []byte {
	b = append(b, `{"error":{"message":`...)
	b = jsonspan.AppendString(b, e.Message)
	b = append(b, `,"type":`...)
	b = jsonspan.AppendString(b, e.Type)
	b = append(b, `,"param":`...)
	b = appendOrNull(b, e.Param)
	b = append(b, `,"code":`...)
	b = appendOrNull(b, e.Code)
	return append(b, '}')
}

func appendOrNull(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return jsonspan.AppendString(b, s)
}

// ErrorOf reads the error of any server: OpenAI's object with a code that is a string or a number, a bare string (Ollama),
// the flat object of old vLLM and Mistral, Gemini's array of one, FastAPI's "detail". Ok is false where the body is no
// error of any of these shapes.
func ErrorOf(body []byte) (msg, typ, code, param string, ok bool) {
	_ = jsonspan.EachElement(body, func(element []byte) bool { // what is no array stays as it is
		body = element
		return false
	})
	var e members
	if jsonspan.EachMember(body, e.note) != nil {
		return "", "", "", "", false
	}
	if e.err == nil {
		return e.text()
	}
	if msg, isString := jsonspan.String(e.err); isString {
		return msg, "", "", "", true
	}
	var inner members
	if jsonspan.EachMember(e.err, inner.note) != nil {
		return "", "", "", "", false
	}
	msg, typ, code, param, _ = inner.text()
	return msg, typ, code, param, true
}

// members are what an error may say, raw; nil for absent or null.
type members struct{ err, message, typ, status, code, param, detail []byte }

func (e *members) note(key, value []byte) bool {
	if jsonspan.IsNull(value) {
		return true
	}
	switch string(key) {
	case "error":
		e.err = value
	case "message":
		e.message = value
	case "type":
		e.typ = value
	case "status":
		e.status = value // Gemini's type
	case "code":
		e.code = value
	case "param":
		e.param = value
	case "detail":
		e.detail = value
	}
	return true
}

func (e *members) text() (msg, typ, code, param string, ok bool) {
	if e.typ == nil {
		e.typ = e.status
	}
	switch {
	case e.message != nil:
		msg, ok = scalar(e.message), true
	case e.detail != nil:
		msg, ok = detailText(e.detail), true
	}
	return msg, scalar(e.typ), scalar(e.code), scalar(e.param), ok
}

// detailText gives FastAPI's detail, a text or a list of what is wrong with the request, of which the first will do.
func detailText(value []byte) string {
	text := scalar(value)
	_ = jsonspan.EachElement(value, func(first []byte) bool { // what is no list stays as it is
		_ = jsonspan.EachMember(first, func(key, v []byte) bool {
			if string(key) == "msg" {
				text = scalar(v)
			}
			return true
		})
		return false
	})
	return text
}

// scalar is the text of a string, and anything else as it stands.
func scalar(value []byte) string {
	if text, ok := jsonspan.String(value); ok {
		return text
	}
	return string(value)
}
