package sse

// AppendData appends an event of data alone. Data of several lines becomes several lines of data, so that whatever it holds
// cannot end the event early or begin another field.
func AppendData(b, data []byte) []byte {
	for {
		i, n := lineEnd(data)
		b = append(b, "data: "...)
		b = append(b, data[:i]...)
		b = append(b, '\n')
		if n == 0 {
			return append(b, '\n')
		}
		data = data[i+n:]
	}
}

// AppendEvent appends an event with a name, which must be one line.
func AppendEvent(b []byte, name string, data []byte) []byte {
	b = append(b, "event: "...)
	b = append(b, name...)
	b = append(b, '\n')
	return AppendData(b, data)
}
