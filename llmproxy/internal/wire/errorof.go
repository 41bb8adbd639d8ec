package wire

// ErrorOf reads the error of any server: OpenAI's object with a code that is a string or a number, a bare string (Ollama),
// the flat object of old vLLM and Mistral, Gemini's array of one, FastAPI's "detail". Ok is false where the body is no
// error of any of these shapes.
func ErrorOf(body []byte) (msg, typ, code, param string, ok bool) {
	_ = EachElement(body, func(element []byte) bool { // what is no array stays as it is
		body = element
		return false
	})
	var e members
	if EachMember(body, e.note) != nil {
		return "", "", "", "", false
	}
	if e.err == nil {
		return e.text()
	}
	if msg, isString := String(e.err); isString {
		return msg, "", "", "", true
	}
	var inner members
	if EachMember(e.err, inner.note) != nil {
		return "", "", "", "", false
	}
	msg, typ, code, param, _ = inner.text()
	return msg, typ, code, param, true
}

// members are what an error may say, raw; nil for absent or null.
type members struct{ err, message, typ, status, code, param, detail []byte }

func (e *members) note(key, value []byte) bool {
	if null(value) {
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
	_ = EachElement(value, func(first []byte) bool { // what is no list stays as it is
		_ = EachMember(first, func(key, v []byte) bool {
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
	if text, ok := String(value); ok {
		return text
	}
	return string(value)
}
