package wire

import (
	"bytes"
	"encoding/binary"
)

// number appends a number by its value: its digits without the zeros around them, and the power of ten they stand at. A
// power that no 64 bits hold is left as it is spelled.
func (c *Canon) number(raw []byte) {
	mark := len(c.form)
	c.form = append(c.form, 'd', 0, 0, 0, 0)
	body := len(c.form)
	if raw[0] == '-' {
		c.form, raw = append(c.form, '-'), raw[1:]
	}
	digits := len(c.form)
	mantissa, power, ok := splitExponent(raw)
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	c.form = append(c.form, bytes.TrimLeft(whole, "0")...)
	c.form = append(c.form, fraction...)
	if len(c.form)-digits == len(fraction) {
		significant := bytes.TrimLeft(fraction, "0")
		c.form = append(c.form[:digits], significant...)
	}
	power -= int64(len(fraction))
	significant := bytes.TrimRight(c.form[digits:], "0")
	power += int64(len(c.form) - digits - len(significant))
	c.form = c.form[:digits+len(significant)]
	switch {
	case len(significant) == 0:
		c.form, power = append(c.form[:body], '0'), 0 // minus nothing is nothing
	case !ok:
		c.form[mark], c.form = 'D', append(c.form[:digits], raw...)
	}
	if c.form[mark] == 'd' {
		c.form = binary.AppendVarint(append(c.form, 'e'), power)
	}
	binary.BigEndian.PutUint32(c.form[mark+1:], uint32(len(c.form)-body))
}

// splitExponent cuts a number before its exponent; ok is false if that is too large to be reckoned with.
func splitExponent(raw []byte) (mantissa []byte, power int64, ok bool) {
	i := bytes.IndexAny(raw, "eE")
	if i < 0 {
		return raw, 0, true
	}
	sign := int64(1)
	digits := raw[i+1:]
	switch digits[0] {
	case '-':
		sign, digits = -1, digits[1:]
	case '+':
		digits = digits[1:]
	}
	digits = bytes.TrimLeft(digits, "0")
	if len(digits) > 15 {
		return raw[:i], 0, false
	}
	for _, d := range digits {
		power = power*10 + int64(d-'0')
	}
	return raw[:i], sign * power, true
}
