package wire

// Question is the last message of a chat, if it is a user's and nothing but text: its text, and the value of "messages" with
// an empty text in its place. What could be read in two ways is none: a key that stands twice, or in another spelling.
func (h *Head) Question() (text string, around []byte, ok bool) {
	messages, ok := only(h.Body, h.Members, "messages")
	if !ok {
		return "", nil, false
	}
	array := messages.Of(h.Body)
	last, ok := lastElement(array)
	if !ok {
		return "", nil, false
	}
	content, ok := userText(array, last)
	if !ok {
		return "", nil, false
	}
	text, ok = String(content.Of(array))
	around = append(append(append(make([]byte, 0, len(array)), array[:content.Start]...), `""`...), array[content.End:]...)
	return text, around, ok
}

// only gives the value of a member that stands once, spelled like this.
func only(body []byte, members []Member, name string) (value Span, ok bool) {
	n := 0
	for _, m := range members {
		if string(unescape(m.Key.Of(body))) == name {
			n++
			value, ok = m.Value, string(m.Key.Of(body)) == name
		}
	}
	return value, ok && n == 1
}

// lastElement is where the last element of an array stands.
func lastElement(array []byte) (last Span, ok bool) {
	s := scanner{b: array}
	i := s.space(0)
	if s.peek(i) != '[' {
		return Span{}, false
	}
	s.array(i, 1, func(element Span) bool {
		last, ok = element, true
		return true
	})
	return last, ok && s.result() == nil
}

// membersAt are the members of an object, with their places in the bytes around it.
func membersAt(b []byte, object Span) (members []Member) {
	s := scanner{b: b[:object.End]}
	if s.peek(object.Start) != '{' {
		return nil
	}
	s.object(object.Start, 1, func(m Member) bool {
		members = append(members, m)
		return true
	})
	return members
}

// userText is where the text of a user's message stands, quotes included.
func userText(b []byte, message Span) (Span, bool) {
	members := membersAt(b, message)
	role, ok := only(b, members, "role")
	if !ok || !says(role.Of(b), "user") {
		return Span{}, false
	}
	content, ok := only(b, members, "content")
	if ok && b[content.Start] == '[' {
		return onlyText(b, content)
	}
	return content, ok && b[content.Start] == '"'
}

// onlyText is where the text of the one part of a message stands.
func onlyText(b []byte, parts Span) (Span, bool) {
	array := parts.Of(b)
	part, ok := lastElement(array)
	n := 0
	if err := EachElement(array, func([]byte) bool { n++; return true }); err != nil || !ok || n != 1 {
		return Span{}, false
	}
	members := membersAt(b, Span{parts.Start + part.Start, parts.Start + part.End})
	kind, ok := only(b, members, "type")
	if !ok || !says(kind.Of(b), "text") {
		return Span{}, false
	}
	text, ok := only(b, members, "text")
	return text, ok && b[text.Start] == '"'
}
