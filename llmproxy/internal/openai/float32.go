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
	// doubt is by how many units in its last place the computed float64 may be wrong. The digits, the power and the result are each
	// rounded, which adds one at most.
	doubt = 3
)

// powersOfTen are the powers of ten from -maxPower on, each rounded once.
var powersOfTen = func() (powers [2*maxPower + 1]float64) {
	for i := range powers {
		powers[i], _ = strconv.ParseFloat("1e"+strconv.Itoa(i-maxPower), 64) // is in range
	}
	return powers
}()

// parseFloat32 reads the decimal number that b begins with, and returns its length. It returns what strconv.ParseFloat does, in a sixth of the
// time. It returns false if there is no number, or if it takes more than this arithmetic.
//
// It computes a float64, which may be slightly wrong, and rounds it to a float32. That is the right one unless the float64 is so close to the
// middle between two float32s that the number may be on the other side. This happens once in 80 million numbers.
func parseFloat32(b []byte) (f float32, n int, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		n++
	}
	first := n
	digits := uint64(0)
	for n < len(b) && b[n]-'0' <= 9 {
		digits = 10*digits + uint64(b[n]-'0')
		n++
	}
	count, exponent := n-first, 0
	if n < len(b) && b[n] == '.' {
		point := n + 1
		digits, n = addDigits(digits, b, point)
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

// addDigits reads decimal digits at i, and returns the offset after them. It takes up to eight at a time, without a branch for each, because a
// processor cannot guess how many there are. The result is wrong if all digits together are more than maxDigits.
func addDigits(to uint64, b []byte, i int) (sum uint64, end int) {
	const ones = 0x0101010101010101
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:]) - ones*'0'
		n := bits.TrailingZeros64((w|(w+ones*(0x7f-9)))&(ones<<7)) / 8 // digits before the first other byte
		w <<= 64 - 8*n                                                 // as if zeros preceded them
		// Pairs of digits, then pairs of those, then the two halves.
		w = w*10 + w>>8
		w = (w&0x000000ff000000ff*(100+1e6<<32) + w>>16&0x000000ff000000ff*(1+1e4<<32)) >> 32
		to = to*smallPowers[n&15] + w
		if n < 8 {
			return to, i + n
		}
	}
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		to = 10*to + uint64(b[i]-'0')
	}
	return to, i
}

// smallPowers are powers of ten. It has sixteen elements, so that an index of four bits needs no check.
var smallPowers = [16]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8}

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
	const (
		smallest = 0x1p-125 // far below it, float32s have fewer bits
		cut      = 52 - 23  // bits of the fraction that a float32 does not have
		middle   = 1 << (cut - 1)
	)
	rest := math.Float64bits(d) & (1<<cut - 1)
	safe := rest+doubt < middle || rest > middle+doubt
	return float32(d), safe && d > smallest && d < math.MaxFloat32
}
