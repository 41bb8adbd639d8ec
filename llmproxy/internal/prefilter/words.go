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

// in reports whether a word may be in the text. If it reports false, none is.
func (w *words) in(text []byte) bool {
	for end := w.length - 1; end < len(text); {
		if far := w.shift[hash(text[end-1], text[end])]; far > 0 {
			end += int(far)
			continue
		}
		for _, word := range w.list {
			if begins(text[end-w.length+1:], word) {
				return true
			}
		}
		end++
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
