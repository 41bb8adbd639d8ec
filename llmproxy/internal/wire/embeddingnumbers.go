package wire

import "strconv"

// EmbeddingNumbers reads the embeddings of an answer that must have n of them, in the order of what was asked for; false if
// it is anything but lists of numbers.
func EmbeddingNumbers(body []byte, n int) (vectors [][]float32, ok bool) {
	e, ok := ParseEmbeddings(body, n)
	if !ok {
		return nil, false
	}
	for _, item := range e.Items {
		object := append(append([]byte{'{'}, item[1:]...), '}') // each of its members has a comma before it
		vector, ok := floats(memberOf(object, "embedding"))
		if !ok {
			return nil, false
		}
		vectors = append(vectors, vector)
	}
	return vectors, true
}

func floats(list []byte) (numbers []float32, ok bool) {
	ok = true
	err := EachElement(list, func(element []byte) bool {
		f, err := strconv.ParseFloat(string(element), 32)
		ok = err == nil
		numbers = append(numbers, float32(f))
		return ok
	})
	return numbers, ok && err == nil
}
