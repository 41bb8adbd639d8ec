package openai

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
)

const (
	// maxDigits is how many decimal digits every uint64 can hold.
	maxDigits = 19
	// maxPower bounds the powers of ten. Digits times one of them are far from where a float64 overflows or underflows.
	maxPower = 48
	// doubt is by how many units in its last place the computed float64 may be wrong. The digits, the power, their product and the sum of two
	// products are each rounded, which adds one at most.
	doubt = 4
)

// powersOfTen are the powers of ten from -maxPower on, each rounded once.
var powersOfTen = func() (powers [2*maxPower + 1]float64) {
	for i := range powers {
		powers[i], _ = strconv.ParseFloat("1e"+strconv.Itoa(i-maxPower), 64) // is in range
	}
	return powers
}()

// parseFloat32 reads the decimal number that b begins with, and returns its length. It returns what strconv.ParseFloat does, in a fraction of
// the time. It returns false if there is no number, or if it takes more than this arithmetic.
//
// It computes a float64, which may be slightly wrong, and rounds it to a float32. That is the right one unless the float64 is so close to the
// middle between two float32s that the number may be on the other side. This happens once in 60 million numbers.
func parseFloat32(b []byte) (f float32, n int, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		n++
	}
	first := n
	digits := uint64(0)
	for ; n < len(b) && b[n]-'0' <= 9; n++ {
		digits = 10*digits + uint64(b[n]-'0')
	}
	count, exponent := n-first, 0
	if n < len(b) && b[n] == '.' {
		point := n + 1
		for n = point; n < len(b) && b[n]-'0' <= 9; n++ {
			digits = 10*digits + uint64(b[n]-'0')
		}
		exponent = point - n
		count += n - point
	}
	if count > maxDigits {
		count -= leadingZeros(b[first:n])
	}
	if count == 0 || count > maxDigits {
		return 0, 0, false
	}
	if n < len(b) && b[n]|' ' == 'e' {
		power, length := parseExponent(b[n+1:])
		if length == 0 {
			return 0, 0, false
		}
		exponent += power
		n += 1 + length
	}
	f, ok = scale(digits, exponent)
	if negative {
		f = -f
	}
	return f, n, ok
}

// leadingZeros counts the zeros before the first other digit.
func leadingZeros(number []byte) (n int) {
	for _, c := range number {
		switch c {
		case '0':
			n++
		case '.':
		default:
			return n
		}
	}
	return n
}

// parseExponent reads an exponent of at most three digits. Its length is zero without one.
func parseExponent(b []byte) (power, length int) {
	i := 0
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		i++
	}
	from := i
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if i-from == 3 {
			return 0, 0
		}
		power = 10*power + int(b[i]-'0')
	}
	if i == from {
		return 0, 0
	}
	if b[0] == '-' {
		power = -power
	}
	return power, i
}

// scale returns the float32 next to digits times a power of ten.
func scale(digits uint64, exponent int) (f float32, ok bool) {
	if digits == 0 {
		return 0, true
	}
	at := uint(exponent + maxPower)
	if at >= uint(len(powersOfTen)) {
		return 0, false
	}
	d := float64(digits) * powersOfTen[at]
	const smallest = 0x1p-125 // far below it, float32s have fewer bits
	f, ok = round(d)
	return f, ok && d > smallest && d < math.MaxFloat32
}

// round returns the float32 next to d. It returns false if that may be another one, because d may be wrong.
func round(d float64) (f float32, ok bool) {
	const (
		cut    = 52 - 23 // bits of the fraction that a float32 does not have
		middle = 1 << (cut - 1)
	)
	rest := math.Float64bits(d) & (1<<cut - 1)
	return float32(d), rest-(middle-doubt) > 2*doubt
}

// usualLength is how many bytes usualFloats looks at: a sign, a digit, a point, three words of digits, and a comma.
const usualLength = 1 + 1 + 1 + 3*8 + 1

// usualFloats reads numbers with one digit before the point and at most 24 after it, each followed by a comma: nearly all numbers of
// embeddings are like that. It appends them to floats, until another number comes or the capacity is used up, and returns the length of what
// it has read. The floats are those that parseFloat32 returns. No branch depends on the sign or on the number of digits, because a processor
// guesses every second of those wrong.
func usualFloats(floats, list []byte) (_ []byte, length int) {
	for length+usualLength <= len(list) && len(floats)+4 <= cap(floats) {
		b := (*[usualLength]byte)(list[length:])
		if b[0] == ' ' {
			length++
			continue
		}
		sign := 0
		if b[0] == '-' {
			sign = 1
		}
		whole := b[sign] - '0'
		if whole > 9 || b[sign+1] != '.' {
			break
		}
		point := sign + 2
		d1, n1 := leadingDigits(b[point:])
		d2, n2 := leadingDigits(b[point+8:])
		follow := -uint64(n1 / 8) // all ones if the second word follows eight digits
		end := point + n1 + n2&int(follow)
		f := float64(int64(uint64(whole)*1e16+digits8(d1)*1e8+digits8(d2&follow))) * 1e-16
		if end == point+16 {
			d3, n3 := leadingDigits(b[end:])
			f += float64(int64(digits8(d3))) * 1e-24
			end += n3
		}
		float, ok := round(f)
		if !ok || b[end] != ',' {
			break
		}
		floats = binary.LittleEndian.AppendUint32(floats, math.Float32bits(float)|uint32(sign)<<31)
		length += end + 1
	}
	return floats, length
}

// leadingDigits returns the values of the decimal digits that eight bytes begin with, with zeros in place of what follows them, and how many
// there are.
func leadingDigits(b []byte) (digits uint64, n int) {
	const ones = 0x0101010101010101
	w := binary.LittleEndian.Uint64(b) - ones*'0'
	others := (w | (w + ones*(0x7f-9))) & (ones << 7) // the first bit is that of the first other byte
	return w & ((others&-others)>>7 - 1), bits.TrailingZeros64(others) / 8
}

// digits8 returns the number that eight digits make.
func digits8(w uint64) uint64 {
	w = w*10 + w>>8 // pairs of digits, then pairs of those, then the two halves
	return (w&0x000000ff000000ff*(100+1e6<<32) + w>>16&0x000000ff000000ff*(1+1e4<<32)) >> 32
}
