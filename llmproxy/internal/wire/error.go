package wire

import "net/http"

// An Error is an API error as OpenAI's SDKs expect it (api-formats §1.8).
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

// AppendJSON appends {"error":{…}} with the four members that SDKs look for, "error" first and without white space: go-openai
// sees no error in a stream that begins otherwise (api-formats §1.10).
func (e *Error) AppendJSON(b []byte) []byte {
	return append(e.appendObject(b), '}')
}

// AppendTypedJSON appends the error as an event of the Responses API. Python raises on "error", Node and Go on the flat
// members, so both are there (api-formats §1.10).
func (e *Error) AppendTypedJSON(b []byte) []byte {
	b = append(e.appendObject(b), `,"type":"error","code":`...)
	b = appendOrNull(b, e.Code)
	b = append(b, `,"message":`...)
	b = appendString(b, e.Message)
	b = append(b, `,"param":`...)
	b = appendOrNull(b, e.Param)
	return append(b, `,"sequence_number":0}`...)
}

func (e *Error) appendObject(b []byte) []byte {
	b = append(b, `{"error":{"message":`...)
	b = appendString(b, e.Message)
	b = append(b, `,"type":`...)
	b = appendString(b, e.Type)
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
	return appendString(b, s)
}
