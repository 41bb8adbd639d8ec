package prefilter

// words finds any of some words in a text by the algorithm of Wu and Manber ("A fast algorithm for multi-pattern searching", 1994): it looks
// at every n-th pair of bytes only, where n depends on the shortest word, unless a word has the pair.
type words struct {
	list   []string
	length int // of the beginnings of words that are looked for: that of the shortest word
	// shift is how far the next pair to look at may be, by the hash of this one. Zero means that a word's beginning may end here.
	shift [hashes]uint8
}

// newWords returns nil if there are no words.
func newWords(list []string) *words {
	if len(list) == 0 {
		return nil
	}
	w := &words{list: list, length: min(minLength(list), 255)}
	for i := range w.shift {
		w.shift[i] = uint8(w.length - 1)
	}
	for _, word := range list {
		for i := 1; i < w.length; i++ {
			h := hash(word[i-1], word[i])
			w.shift[h] = min(w.shift[h], uint8(w.length-1-i))
		}
	}
	return w
}

// folded makes ASCII letters of both cases equal. It makes some other bytes equal, too, which is why a word that is found is only a candidate.
func folded(b byte) byte { return b | 0x20 }

const hashes = 1 << 13

// hash returns the hash of a pair of bytes, whatever the case of letters.
func hash(a, b byte) int { return int(folded(a))<<5 ^ int(folded(b)) }

// in reports whether a word may be in the text. If it reports false, none is. It goes through both halves of the text at the same time, because
// each step waits for what it reads from memory.
func (w *words) in(text []byte) bool {
	i, j := w.length-1, w.length-1+len(text)/2
	middle := j
	for i < middle && j < len(text) {
		x, y := w.shift[hash(text[i-1], text[i])], w.shift[hash(text[j-1], text[j])]
		if x == 0 || y == 0 {
			if x == 0 && w.at(text, i) || y == 0 && w.at(text, j) {
				return true
			}
			x, y = max(x, 1), max(y, 1)
		}
		i, j = i+int(x), j+int(y)
	}
	return w.between(text, i, middle) || w.between(text, j, len(text))
}

// between reports whether the beginning of a word may end from i on, before the end.
func (w *words) between(text []byte, i, end int) bool {
	for end = min(end, len(text)); i < end; {
		far := w.shift[hash(text[i-1], text[i])]
		if far == 0 && w.at(text, i) {
			return true
		}
		i += max(int(far), 1)
	}
	return false
}

// at reports whether the text may have a word whose beginning ends at i.
func (w *words) at(text []byte, i int) bool {
	for _, word := range w.list {
		if begins(text[i-w.length+1:], word) {
			return true
		}
	}
	return false
}

// begins reports whether a text may begin with a word.
func begins(text []byte, word string) bool {
	if len(text) < len(word) {
		return false
	}
	for i := range len(word) {
		if folded(text[i]) != folded(word[i]) {
			return false
		}
	}
	return true
}
